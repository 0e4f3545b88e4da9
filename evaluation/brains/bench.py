"""Runs a bench of a brain, one of its examples, and holds its figures against what is promised.

Run: python bench.py --bench drift|guard|promotion|anomaly|calibration|budget|forecast|regression|autoscale|judge --out target/bench/drift.json [--data DIR] [--quick]

README.md says what each measures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import rig  # noqa: E402, F401 (it makes the folder of the next known)
from environments import ROOT, Unmeasured, say, venv_of  # noqa: E402
from rig import print_ratios, ratio  # noqa: E402

PEER_SECONDS = 3_600
QUICK_RUNS = 200

Values = Callable[..., dict[tuple[str, str], float]]


def drift(values: Values) -> list[dict]:
    lengths = values("run_length_of_stated")
    made = [ratio(case, "e-detector: run length / stated", value, 1.0, least=True) for (case, _), value in lengths.items()]
    delays = values("delay_of_adwin")
    return made + [ratio(case, "e-detector: delay / ADWIN's", value, 2.0, least=False) for (case, _), value in delays.items()]


def anomaly(values: Values) -> list[dict]:
    areas, found = values("roc_auc"), []
    tables = sorted({case for case, _ in areas})
    subjects = sorted({subject for _, subject in areas})
    means = {s: statistics.mean(areas[case, s] for case in tables) for s in subjects if all((case, s) in areas for case in tables)}
    peers = {subject: mean for subject, mean in means.items() if not subject.startswith("ours")}
    if peers:
        best = max(peers, key=peers.get)
        found.append(ratio("tables", f"ours ensemble: mean ROC-AUC - best peer's ({best})", means["ours ensemble"] - peers[best], 0.0, least=True))
    speeds = values("rows_per_s")
    for subject in ("ours half-space", "ours ensemble"):
        both = [speeds[case, subject] / speeds[case, "river half-space"] for case in tables if (case, "river half-space") in speeds]
        if both:
            times = math.exp(statistics.mean(map(math.log, both)))
            found.append(ratio("tables", f"{subject}: speed / River's half-space trees", times, 20, least=True))
    volumes = values("vus_pr")
    ours, twin = ([value for (_, s), value in volumes.items() if s.startswith(name)] for name in ("ours", "sliding"))
    apart = statistics.mean(ours) - statistics.mean(twin)
    return [*found, ratio("series", "ours series: mean VUS-PR - sliding PCA's", apart, 0.0, least=True)]


def calibration(values: Values) -> list[dict]:
    made = []
    for (case, subject), value in values("false_alarms_upper_95").items():
        made.append(ratio(f"{case}, {subject}", "false alarms / alpha, upper bound of 95 %", value, 1.5, least=False))
    recalls = values("recall")
    for (case, subject), value in recalls.items():
        if (case, f"oracle, {subject}") in recalls:
            lost = (recalls[case, f"oracle, {subject}"] - value) * 100
            made.append(ratio(f"{case}, {subject}", "recall below the oracle's, points", lost, 5, least=False))
    for (case, subject), value in values("moved_in_a_day").items():
        made.append(ratio(f"{case}, {subject}", "threshold moved in a day of attack", abs(value), 0.10, least=False))
    return made


def budget(values: Values) -> list[dict]:
    made = []
    for (case, subject), value in values("false_alarms_upper_95").items():
        least = values("decisions_of_least_seed")[case, subject]
        if not case.startswith("20 callers"):
            made.append(ratio(case, "decisions of a day, at least", least, 200_000, least=True))
        made.append(ratio(case, "false alarms / budget, upper bound of 95 %", value, 1.5, least=False))
    recalls = values("recall_at_0.1_percent")
    fused = recalls.pop(("fusion", "belief"))
    summed = recalls.pop(("fusion", "plain sum"))
    best = max(recalls, key=recalls.get)
    made.append(ratio("fusion", f"recall at 0.1 % - best single agent's ({best[1]}), points", 100 * (fused - recalls[best]), 10, least=True))
    made.append(ratio("fusion", "recall at 0.1 % - the plain sum's, points", 100 * (fused - summed), 0, least=True))
    made.append(ratio("fusion", "log-odds that a copy of an agent moves", values("moved_by_a_copy")["fusion", "belief"], 0.3, least=False))
    return made


def regression(values: Values) -> list[dict]:
    errors, made = values("mae"), []
    for case in dict.fromkeys(case for case, _ in errors):
        ours = min(value for (c, s), value in errors.items() if c == case and s.startswith("ours"))
        plain = min(errors[case, s] for s in ("last value", "same hour of yesterday"))
        made.append(ratio(case, "best of ours: absolute error / the better plain rule's", ours / plain, 1.0, least=False))
        if (case, "river forest-10") in errors:
            apart = errors[case, "ours forest-10"] / errors[case, "river forest-10"]
            made.append(ratio(case, "ours forest-10: absolute error / River's", apart, 1.0, least=False))
            speeds = values("rows_per_s")
            times = speeds[case, "ours forest-10"] / speeds[case, "river forest-10"]
            made.append(ratio(case, "ours forest-10: speed / River's", times, 50, least=True))
    return made


RULES = ("hpa", "kpa")


def at_cost(front: list[tuple[float, float]], cost: float) -> float:
    """Violating seconds of a rule at these replica-seconds: on the line between those of its targets that nothing cheaper beats, or of the nearest one."""
    front = [(c, v) for c, v in sorted(front) if all(v < other for cost_, other in front if cost_ < c)]
    if cost <= front[0][0]:
        return front[0][1]
    for (low, first), (high, second) in zip(front, front[1:]):
        if low <= cost <= high:
            return first + (second - first) * (cost - low) / (high - low) if high > low else min(first, second)
    return front[-1][1]


def autoscale(values: Values) -> list[dict]:
    violating, cost, made, sums = values("violating_s"), values("replica_s"), [], {}
    for case in dict.fromkeys(case for case, _ in violating):
        front = {r: [(cost[c, s], v) for (c, s), v in violating.items() if c == case and s.startswith(f"{r} ")] for r in RULES}
        rules = {rule: at_cost(points, cost[case, "ours"]) for rule, points in front.items()}
        ours, kind = violating[case, "ours"], ("burst " if " burst " in case else "") + case.split(" cold ")[1]
        better = min(rules.values())
        total = sums.setdefault(kind, [0.0, 0.0])
        total[0] += ours
        total[1] += rules["hpa"] if " burst " in case else better
        if " burst " not in case:
            # Of a handful of seconds one more or less is chance.
            made.append(ratio(case, "violating seconds / the better rule's at equal cost", ours / max(better, 20), 1.0, least=False))
    learnt = [sum(of[c, s] for c, s in of if s == who and " burst " not in c) for of in (violating, cost) for who in ("deep-q", "ours")]
    late, dear = learnt[0] / max(learnt[1], 1.0), learnt[2] / learnt[3]
    # Neither later nor dearer, or it stays in shadow.
    made.append(ratio("all traces", "deep-q: the greater of violating and replica-seconds / ours", max(late, dear), 1.05, least=False))
    for kind, (ours, rule) in sums.items():
        goal = {"burst 5s": 0.5, "burst 60s": 0.7}.get(kind, 0.7)
        whose = "HPA's" if kind.startswith("burst") else "the better rule's"
        made.append(ratio(f"all traces, {kind}", f"violating seconds / {whose} at equal cost", ours / max(rule, 1.0), goal, least=False))
    return made


def judge(values: Values) -> list[dict]:
    made, after = [], values("requests_95")
    for (case, subject), back in values("taken_back").items():
        if case.startswith(("equal", "a tenth")):
            made.append(ratio(case, "no worse, and taken back", back, 0.05, least=False))
        else:
            made.append(ratio(case, "taken back", back, 0.95, least=True))
            goal = 40 if "slower" in case else 150
            made.append(ratio(case, "canary requests until then, 95th percentile", after[case, subject], goal, least=False))
    for (case, _), found in values("found").items():
        if case.startswith("equal"):
            made.append(ratio(case, "no slice, and one found within 5,000 rows", found, 0.05, least=False))
        else:
            made.append(ratio(case, "found within 1,000 rows of shadow", found, 0.95, least=True))
    return made


# Each: the example, and the goals that its figures are held against; None where it does so itself.
BENCHES: dict[str, tuple[str, Callable[[Values], list[dict]] | None]] = {
    "drift": ("drift_bench", drift),
    "guard": ("guard_bench", None),
    "promotion": ("promotion_bench", None),
    "anomaly": ("anomaly_bench", anomaly),
    "calibration": ("calibrate_bench", calibration),
    "budget": ("budget_bench", budget),
    "forecast": ("forecast_bench", None),
    "regression": ("regress_bench", regression),
    "autoscale": ("autoscale_bench", autoscale),
    "judge": ("judge_bench", judge),
}
# Those whose example is not one of brains/online.
PACKAGES = {"promotion": "mantlet-streaming", "budget": "mantlet-defend", "autoscale": "mantlet-plan", "judge": "mantlet-plan"}
# Scripts of peers.
PEERS = {"anomaly": "peers.py", "regression": "regressors.py"}


def run(options: argparse.Namespace, example: str) -> dict:
    """What the example measured."""
    cargo = os.environ.get("CARGO", "cargo")
    package = PACKAGES.get(options.bench, "mantlet-online")
    say(f"{package}: cargo build --release --example {example}")
    subprocess.run([cargo, "build", "--release", "--quiet", "-p", package, "--example", example], cwd=ROOT, check=True)
    command = [str(options.out.parents[1] / "release/examples" / example), "--out", str(options.out)]
    if options.bench in ("guard", "promotion"):
        command += ["--runs", str(QUICK_RUNS)] if options.quick else []
    elif options.bench == "forecast":
        command += ["--data", str(options.data)]
    else:
        command += ["--data", str(options.data), *(["--quick"] if options.quick else [])]
    subprocess.run(command, check=True)
    return json.loads(options.out.read_text())


def peers(options: argparse.Namespace) -> list[dict]:
    """The peers' figures on the same files."""
    try:
        python = venv_of("brains", HERE / "requirements.txt", options.out.parent)
        command = [python, str(HERE / PEERS[options.bench]), "--data", str(options.data), *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PEER_SECONDS, check=True)
    except (Unmeasured, subprocess.SubprocessError) as why:
        say(f"PyOD and River: not measured: {why}")
        return []
    print(done.stdout, end="")
    return [json.loads(line) for line in done.stdout.splitlines()]


TITLES = {
    "drift": "Drift detectors: run length and delay",
    "guard": "The guard: false promotions, power, hand-back",
    "promotion": "Promotions: false ones, power, hand-back",
    "anomaly": "Anomaly scores beside their peers",
    "calibration": "Calibrated thresholds: false alarms, recall, attackers",
    "budget": "One budget of alarms for all agents, and their evidence fused",
    "forecast": "Forecasts of load",
    "regression": "Streaming regressors beside a peer and plain rules",
    "judge": "Canaries: those that are worse, and those that are not",
    "autoscale": "Replicas for a load that changes: too late, and too many",
}


# Pages with a column for each metric, of these subjects; the rest is in the JSON.
WIDE = {"autoscale": ("hpa 0.5", "hpa 0.7", "kpa 0.5", "kpa 0.7", "static peak", "ours", "deep-q", "oracle")}


def wide(bench: str, figures: list[dict]) -> list[str]:
    """A row for each case and subject."""
    metrics = list(dict.fromkeys(f["metric"] for f in figures))
    rows = [f"| case | subject | {' | '.join(metrics)} |", f"|---|---|{'---:|' * len(metrics)}"]
    values = {(f["case"], f["subject"], f["metric"]): f["value"] for f in figures}
    for case, subject in dict.fromkeys((f["case"], f["subject"]) for f in figures if f["subject"] in WIDE[bench]):
        rows.append(f"| {case} | {subject} | {' | '.join(f'{values[case, subject, m]:,.4g}' for m in metrics)} |")
    return rows


def number(value: float | None) -> str:
    """None is what never came to be, as the rows after which something is found that mostly is not."""
    return "—" if value is None else f"{value:.5g}"


def page(bench: str, figures: list[dict], ratios: list[dict]) -> str:
    """What was measured, in Markdown."""
    parts = [
        f"# {TITLES[bench]}",
        f"Measured by `cargo xtask bench {bench}` on {os.cpu_count()} cores of {platform.machine()}. What it measures, and how: "
        "[evaluation/brains](../../evaluation/brains/README.md).",
        "## Goals",
    ]
    goals = ["| case | what | measured | goal | met |", "|---|---|---:|---|---|"]
    goals += [f"| {r['case']} | {r['name']} | {r['value']:.4g} | {r['goal']} | {'yes' if r['met'] else '**no**'} |" for r in ratios]
    parts += ["\n".join(goals), "## Figures"]
    if bench in WIDE:
        rows = wide(bench, figures)
    else:
        rows = ["| case | subject | figure | value | unit |", "|---|---|---|---:|---|"]
        rows += [f"| {f['case']} | {f['subject']} | {f['metric']} | {number(f['value'])} | {f['unit']} |" for f in figures]
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", help="not used")
    parser.add_argument("--onnxruntime", help="not used")
    parser.add_argument("--bench", choices=BENCHES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true", help="few runs")
    parser.add_argument("--docs", type=Path, help="write a page with tables into this folder")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    example, goals = BENCHES[options.bench]
    said = run(options, example)
    figures = said["figures"] + (peers(options) if options.bench in PEERS else [])
    values = lambda metric: {(f["case"], f["subject"]): f["value"] for f in figures if f["metric"] == metric}  # noqa: E731
    ratios = goals(values) if goals else said["ratios"]
    print_ratios(ratios)
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / f"{options.bench}.md").write_text(page(options.bench, figures, ratios))
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
