"""One report of all benches: what intelligence is worth, beside its plain twin, and which goals are missed.

Run: python report.py --results target/bench --docs docs

Reads what `cargo xtask bench NAME` wrote; `cargo xtask evaluate` runs them all first. What was not measured is said.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import plot  # noqa: E402


@dataclass(frozen=True)
class Pair:
    """A figure with intelligence on, and the same of the plain twin; the mean over all cases that have both."""

    what: str
    metric: str
    on: str
    twin: str
    lower: bool = True
    # Cases whose names begin so; all when there are none.
    cases: tuple[str, ...] = ()


# Attacks whose gain is a share.
SHARES = ("extraction", "evasion", "injection", "scan")
# Each: its title, the benches, and what is compared.
SECTIONS: list[tuple[str, dict[str, list[Pair]]]] = [
    (
        "Scalability",
        {
            "growth": [],
            "balance": [
                Pair("99th percentile of latency, ms", "p99_ms", "ours", "least request"),
                Pair("the same beside two choices", "p99_ms", "ours", "p2c"),
                Pair("the same beside Prequal", "p99_ms", "ours", "prequal"),
            ],
        },
    ),
    ("Security", {"range": [Pair("what an attacker gains, of 1", "attacker_gain", "on", "rules", cases=SHARES)], "detectors": [Pair("recall of attacks", "recall", "ours", "rules", lower=False)]}),
    ("Deployment efficiency", {"serving": [], "judge": [], "promotion": []}),
    ("Training speed", {"training": [], "streams": [Pair("accuracy", "accuracy", "ours auto", "river arf-10", lower=False)]}),
    ("Anomaly detection", {"anomaly": [Pair("ROC-AUC on tables", "roc_auc", "ours ensemble", "pyod isolation forest", lower=False)], "drift": [], "calibration": []}),
    (
        "Threat mitigation",
        {
            "range": [
                Pair("ordinary requests untouched", "benign_requests_untouched", "on", "rules", lower=False),
                Pair("ordinary callers untouched", "benign_callers_untouched", "on", "rules", lower=False),
            ],
            "budget": [],
        },
    ),
    (
        "Variable network load",
        {
            "overload": [],
            "autoscale": [
                Pair("late seconds, beside Kubernetes' rule at 0.7", "violating_s", "ours", "hpa 0.7"),
                Pair("late seconds, beside Knative's rule at 0.7", "violating_s", "ours", "kpa 0.7"),
                Pair("replica-seconds, beside Kubernetes' rule at 0.7", "replica_s", "ours", "hpa 0.7"),
                Pair("replica-seconds, beside Knative's rule at 0.7", "replica_s", "ours", "kpa 0.7"),
            ],
            "forecast": [],
        },
    ),
    ("Real-time retraining", {"retrain": [], "guard": []}),
]


def read(results: Path, bench: str) -> dict | None:
    try:
        return json.loads(results.with_name(results.name.replace("*", bench)).read_text())
    except (OSError, ValueError):
        return None


def compared(pair: Pair, figures: list[dict]) -> tuple[float, float] | None:
    """Means with intelligence on, and of the twin."""
    values: dict[tuple[str, str], list[float]] = {}
    for figure in figures:
        if figure["metric"] == pair.metric and isinstance(figure["value"], (int, float)):
            values.setdefault((figure["case"], figure["subject"]), []).append(figure["value"])
    cases = [case for case, subject in values if subject == pair.on and (case, pair.twin) in values and case.startswith(pair.cases or "")]
    if not cases:
        return None
    mean = lambda subject: statistics.mean(statistics.mean(values[case, subject]) for case in cases)  # noqa: E731
    return mean(pair.on), mean(pair.twin)


def section(title: str, benches: dict[str, list[Pair]], results: Path, missed: list[str], ratios: dict[str, float]) -> str:
    parts, rows = [f"## {title}"], []
    for bench, pairs in benches.items():
        said = read(results, bench)
        if said is None:
            parts.append(f"`{bench}`: not measured here; `cargo xtask bench {bench}` does it.")
            continue
        goals = said.get("ratios", [])
        met = sum(bool(goal.get("met")) for goal in goals)
        parts.append(f"[`{bench}`](benchmarks/{bench}.md): {met} of {len(goals)} goals met." if goals else f"[`{bench}`](benchmarks/{bench}.md): no goals, only figures.")
        missed += [f"| `{bench}` | {g['case']} | {g['name']} | {g['value']:.4g} | {g['goal']} |" for g in goals if not g.get("met")]
        for pair in pairs:
            both = compared(pair, said["figures"])
            if both is not None:
                on, twin = both
                better = twin / on if pair.lower and on else on / twin if twin else float("nan")
                ratios[f"{bench}: {pair.what}"] = better
                rows.append(f"| {pair.what} | {pair.on} | {on:.4g} | {pair.twin} | {twin:.4g} | {better:.2f} × |")
    if rows:
        parts.append("\n".join(["| mean over all cases | on | | twin | | better by |", "|---|---|---:|---|---:|---:|", *rows]))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--ending", default="", help="what names of results end with, before .json")
    options = parser.parse_args()
    results = options.results / f"*{options.ending}.json"
    missed: list[str] = []
    ratios: dict[str, float] = {}
    sections = [section(title, benches, results, missed, ratios) for title, benches in SECTIONS]
    machines = [said["machine"] for _, benches in SECTIONS for bench in benches if (said := read(results, bench)) and "machine" in said]
    machine = next((machine for machine in machines if isinstance(machine, dict)), {})
    head = [
        "# What intelligence is worth",
        "Made by `cargo xtask evaluate` (`--quick` for short runs) of what each bench wrote. Every learnt part beside its plain twin, in one run on one "
        f"machine: {machine.get('cores', '?')} cores, {machine.get('platform', 'unknown')}. Each bench has a page with its figures and a README that says how.",
    ]
    if ratios:
        folder = options.docs / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        plot.bars(folder / "evaluation.svg", "Better by, beside the plain twin (1 is no better)", ratios)
        head.append("![how much better each is than its twin](benchmarks/evaluation.svg)")
    misses = "## Goals that are missed\n\n" + "\n".join(["| bench | case | what | measured | goal |", "|---|---|---|---:|---|", *missed])
    options.docs.mkdir(parents=True, exist_ok=True)
    (options.docs / "evaluation.md").write_text("\n\n".join([*head, *sections, misses]) + "\n")
    print(f"{options.docs / 'evaluation.md'}: {len(ratios)} comparisons, {len(missed)} goals missed")


if __name__ == "__main__":
    main()
