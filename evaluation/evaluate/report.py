"""One report of all benches: what intelligence is worth, beside its plain twin, and which goals are missed.

Run: python report.py --results target/bench --docs docs

Reads what `cargo xtask bench NAME` wrote; `cargo xtask evaluate` runs them first. What the report needs of each is kept in
docs/benchmarks/evaluation.json, with the commit and the day: a bench that did not run today keeps its last figures. What was never
measured is said.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import plot  # noqa: E402


@dataclass(frozen=True)
class Pair:
    """A figure with intelligence on, and the same of the plain twin; the mean over all cases that have both.

    A metric that is a share of the twin's already has no figures of the twin: that is 1.
    """

    what: str
    metric: str
    on: str
    twin: str
    lower: bool = True
    share: bool = False
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
                Pair("99th percentile of latency beside least request, ms", "p99_ms", "ours", "least request"),
                Pair("99th percentile of latency beside two choices, ms", "p99_ms", "ours", "p2c"),
                Pair("99th percentile of latency beside Prequal, ms", "p99_ms", "ours", "prequal"),
            ],
        },
    ),
    ("Security", {"range": [Pair("what an attacker gains, of 1", "attacker_gain", "on", "rules", cases=SHARES)], "detectors": [Pair("recall of attacks", "recall", "ours", "rules", lower=False)]}),
    ("Deployment efficiency", {"serving": [], "judge": [], "promotion": []}),
    (
        "Training speed",
        {
            "training": [
                Pair("examples until the tuner is as good, beside a grid", "examples_to_quality", "tuner", "grid"),
                Pair("examples until the tuner is as good, beside random search", "examples_to_quality", "tuner", "random"),
            ],
            "streams": [Pair("accuracy", "accuracy", "ours auto", "river arf-10", lower=False)],
        },
    ),
    ("Anomaly detection", {"anomaly": [Pair("ROC-AUC on tables", "roc_auc", "ours ensemble", "pyod isolation forest", lower=False)],
        "drift": [Pair("delay of an alarm at ADWIN's run length", "delay_of_adwin", "ours e-detector", "ADWIN", share=True)], "calibration": []}),
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
            "scaling": [],
            "autoscale": [
                Pair("late seconds, beside Kubernetes' rule at 0.7", "violating_s", "ours", "hpa 0.7"),
                Pair("late seconds, beside Knative's rule at 0.7", "violating_s", "ours", "kpa 0.7"),
                Pair("replica-seconds, beside Kubernetes' rule at 0.7", "replica_s", "ours", "hpa 0.7"),
                Pair("replica-seconds, beside Knative's rule at 0.7", "replica_s", "ours", "kpa 0.7"),
            ],
            "forecast": [
                Pair("loss at .9 and .99 five minutes ahead, of the better plain rule", "pinball .9 and .99 to the better plain twin at 5 min", "ours", "last value, yesterday", share=True),
                Pair("loss at .9 and .99 an hour ahead, of the better plain rule", "pinball .9 and .99 to the better plain twin at 60 min", "ours", "last value, yesterday", share=True),
            ],
        },
    ),
    ("Real-time retraining", 
        {
            "retrain": [
                Pair("accuracy after everything changed, beside never", "accuracy_after", "ours", "frozen", lower=False),
                Pair("accuracy after everything changed, beside nightly", "accuracy_after", "ours", "nightly", lower=False),
            ],
            "guard": [Pair("false promotions of equals, beside a test that is looked at each time", "false promotions", "ours", "z-test, peeking", cases=("null iid",))],
        },
    ),
]
# The same by benches.
PAIRS: dict[str, list[Pair]] = {}
for _, benches in SECTIONS:
    for bench, pairs in benches.items():
        PAIRS.setdefault(bench, []).extend(pairs)


def read(results: Path, bench: str) -> dict | None:
    try:
        return json.loads(results.with_name(results.name.replace("*", bench)).read_text())
    except (OSError, ValueError):
        return None


def git(*arguments: str) -> str:
    said = subprocess.run(["git", "-C", HERE, *arguments], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def summary(bench: str, said: dict, day: float) -> dict:
    """What the report needs of a bench, which ended on this day, by what was committed then."""
    # Where a peer could not be started, or takes no such tensors, there is nothing to meet.
    goals = [goal for goal in said.get("ratios", []) if goal.get("value") is not None]
    machine = said.get("machine") if isinstance(said.get("machine"), dict) else {}
    return {
        "day": time.strftime("%Y-%m-%d", time.gmtime(day)),
        "commit": git("log", "-1", f"--before={int(day)}", "--format=%h"),
        "machine": {key: machine[key] for key in ("cores", "platform") if key in machine},
        "goals": len(goals),
        "missed": [{key: goal[key] for key in ("case", "name", "value", "goal")} for goal in goals if not goal.get("met")],
        "pairs": {pair.what: both for pair in PAIRS[bench] if (both := compared(pair, said)) is not None},
    }


def gather(results: Path, kept: dict[str, dict]) -> dict[str, dict]:
    """What was kept of each bench, and what was measured since."""
    for bench in PAIRS:
        said = read(results, bench)
        if said is not None:
            file = results.with_name(results.name.replace("*", bench))
            fresh = summary(bench, said, file.stat().st_mtime)
            old = kept.get(bench)
            # The same figures keep the commit that they were measured at.
            if old is None or {**fresh, "commit": old["commit"]} != old:
                kept[bench] = fresh
    return kept


def compared(pair: Pair, said: dict) -> tuple[float, float] | None:
    """Means with intelligence on, and of the twin."""
    figures = said["figures"]
    if pair.share:
        shares = [f["value"] for f in figures if (f["metric"], f["subject"]) == (pair.metric, pair.on)]
        shares += [goal["value"] for goal in said.get("ratios", []) if goal["name"] == pair.metric]
        return (statistics.mean(shares), 1.0) if shares else None
    values: dict[tuple[str, str], list[float]] = {}
    for figure in figures:
        if figure["metric"] == pair.metric and isinstance(figure["value"], (int, float)):
            values.setdefault((figure["case"], figure["subject"]), []).append(figure["value"])
    cases = [case for case, subject in values if subject == pair.on and (case, pair.twin) in values and case.startswith(pair.cases or "")]
    if not cases:
        return None
    on, twin = ([statistics.mean(values[case, subject]) for case in cases] for subject in (pair.on, pair.twin))
    # Cases of unlike size count alike, where no figure is 0.
    mean = statistics.geometric_mean if min(on + twin) > 0 else statistics.mean
    return mean(on), mean(twin)


def section(title: str, benches: dict[str, list[Pair]], kept: dict[str, dict], docs: Path, ratios: dict[str, float]) -> str:
    parts, rows = [f"## {title}"], []
    for bench, pairs in benches.items():
        said = kept.get(bench)
        page = f"[`{bench}`](benchmarks/{bench}.md)"
        if said is None:
            measured = (docs / f"benchmarks/{bench}.md").is_file()
            parts.append(f"{page}: measured with an earlier version, not since." if measured else f"`{bench}`: not measured yet; `cargo xtask bench {bench}` does it.")
            continue
        met = said["goals"] - len(said["missed"])
        goals = f"{met} of {said['goals']} goals met" if said["goals"] else "no goals, only figures"
        parts.append(f"{page if (docs / f'benchmarks/{bench}.md').is_file() else f'`{bench}`'}: {goals} ({said['day']}, `{said['commit']}`).")
        for pair in pairs:
            if pair.what in said["pairs"]:
                on, twin = said["pairs"][pair.what]
                better = twin / on if pair.lower and on else on / twin if twin else float("nan")
                ratios[f"{bench}: {pair.what}"] = better
                rows.append(f"| {pair.what} | {pair.on} | {on:.4g} | {pair.twin} | {twin:.4g} | {better:.2f} × |")
    if rows:
        parts.append("\n".join(["| mean over all cases (geometric where none is 0) | on | | twin | | better by |", "|---|---|---:|---|---:|---:|", *rows]))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--ending", default="", help="what names of results end with, before .json")
    options = parser.parse_args()
    folder = options.docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "evaluation.json"
    kept = gather(options.results / f"*{options.ending}.json", json.loads(file.read_text()) if file.is_file() else {})
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    ratios: dict[str, float] = {}
    sections = [section(title, benches, kept, options.docs, ratios) for title, benches in SECTIONS]
    machine = next((said["machine"] for said in kept.values() if said["machine"]), {})
    head = [
        "# What intelligence is worth",
        "Made by `cargo xtask evaluate` (`--quick` for short runs) of what each bench last wrote. Every learnt part beside its plain twin, in one run on one "
        f"machine: {machine.get('cores', '?')} cores, {machine.get('platform', 'unknown')}. Each bench has a README that says how, `cargo xtask bench NAME` runs it "
        "alone, and in brackets is when, and with which commit, it last ran.",
    ]
    if ratios:
        plot.bars(folder / "evaluation.svg", "Better by, beside the plain twin (1 is no better)", ratios)
        head.append("![how much better each is than its twin](benchmarks/evaluation.svg)")
    missed = [f"| `{bench}` | {g['case']} | {g['name']} | {g['value']:.4g} | {g['goal']} |" for bench in PAIRS if bench in kept for g in kept[bench]["missed"]]
    misses = "## Goals that are missed\n\n" + "\n".join(["| bench | case | what | measured | goal |", "|---|---|---|---:|---|", *missed])
    (options.docs / "evaluation.md").write_text("\n\n".join([*head, *sections, misses]) + "\n")
    print(f"{options.docs / 'evaluation.md'}: {len(ratios)} comparisons, {len(missed)} goals missed")


if __name__ == "__main__":
    main()
