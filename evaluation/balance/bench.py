"""Measures who chooses replicas best, in simulation, and holds the figures against what is promised.

Run: python bench.py --out target/bench/balance.json [--data DIR] [--quick] [--docs DIR]
     python bench.py --live --mantlet BINARY --onnxruntime LIBRARY --out target/bench/balance.json

README.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import live  # noqa: E402 (its folder is this one)
import rig  # noqa: E402, F401 (it makes the folder of the next known)
from environments import ROOT, say  # noqa: E402
from rig import figure, print_ratios, ratio  # noqa: E402

SUBJECTS = ("round robin", "least request", "p2c", "prequal", "ours", "oracle", "garbage")
# Below this share of the oracle's p99 there is no gap to close, and "never worse" has as much room.
NOTHING = 0.01
# Where the oracle is no further ahead, half of least request's p99 can't be had by anybody.
REACHABLE = 0.5


def examples(options: argparse.Namespace) -> Path:
    """Builds the simulator, and what measures the cost of a choice; the folder that they are in."""
    cargo = os.environ.get("CARGO", "cargo")
    names = ["--example", "balance_bench", "--example", "choices"]
    say("mantlet-balance: cargo build --release --example balance_bench")
    subprocess.run([cargo, "build", "--release", "--quiet", "-p", "mantlet-balance", *names], cwd=ROOT, check=True)
    return options.out.parents[1] / "release/examples"


def run(options: argparse.Namespace) -> list[dict]:
    """What the example measured, and what a claim costs."""
    folder = examples(options)
    command = [str(folder / "balance_bench"), "--out", str(options.out), "--data", str(options.data)]
    command += ["--measured", str(HERE / "measured.csv"), *(["--quick", "--seeds", "1"] if options.quick else [])]
    command += ["--only", options.only] if options.only else []
    subprocess.run(command, check=True)
    figures = json.loads(options.out.read_text())["figures"]
    costs = json.loads(subprocess.run([str(folder / "choices")], stdout=subprocess.PIPE, text=True, check=True).stdout)
    for subject, by_replicas in costs.items():
        for replicas, (claim, end) in by_replicas.items():
            figures += [figure(f"choose {replicas}r", subject, "claim_ns", claim, "ns"), figure(f"choose {replicas}r", subject, "end_ns", end, "ns")]
    return figures


def one_slow(case: str, p99: dict[str, float]) -> list[dict]:
    least, ours = p99["least request"], p99["ours"]
    made = [ratio(case, "p99: ours / Prequal", ours / p99["prequal"], 1.0, least=False)]
    name = "p99: ours / least request"
    if p99["oracle"] / least > REACHABLE:
        name += f" (the oracle's is {p99['oracle'] / least:.2f})"
    return [ratio(case, name, ours / least, 0.5, least=False), *made]


def unequal(case: str, p99: dict[str, float]) -> list[dict]:
    least, ours, oracle = p99["least request"], p99["ours"], p99["oracle"]
    made = [ratio(case, "p99: ours / least request", ours / least, 1.0 + NOTHING, least=False)]
    if least - oracle > NOTHING * oracle:
        closed = (least - ours) / (least - oracle)
        made.append(ratio(case, "share of the gap from least request to the oracle closed", closed, 0.5, least=True))
    return made


def goals(figures: list[dict]) -> list[dict]:
    """The figures against what is promised."""
    values = {(f["case"], f["subject"], f["metric"]): f for f in figures}
    made = []
    for case in dict.fromkeys(f["case"] for f in figures if f["metric"] == "p99_ms"):
        p99 = {subject: values[case, subject, "p99_ms"]["value"] for subject in SUBJECTS}
        made += one_slow(case, p99) if "one slow" in case else unequal(case, p99)
        slowdown = [values[case, subject, "mean_slowdown_10k"]["value"] for subject in ("garbage", "p2c")]
        made.append(ratio(case, "garbage: mean slowdown of 10,000 / champion's", slowdown[0] / slowdown[1], 1.05, least=False))
        back = values.get((case, "garbage", "handed_back_after"))
        worst = max(back["seeds"], key=lambda seed: seed or float("inf")) if back and all(back["seeds"]) else 1e9
        made.append(ratio(case, "garbage: requests until it is handed back, worst seed", worst, 1_000, least=False))
        explored = values[case, "ours", "explored"]["seeds"]
        made.append(ratio(case, "share of live requests that explored, worst seed", max(explored), 0.005, least=False))
    for subject in ("p2c", "ours"):
        if cost := values.get(("choose 32r", subject, "claim_ns")):
            made.append(ratio("choose 32r", f"{subject}: microseconds", cost["value"] / 1e3, 1.0, least=False))
    return made


def page(figures: list[dict], ratios: list[dict]) -> str:
    """What was measured, in Markdown."""
    head = f"Measured by `cargo xtask bench balance` on {os.cpu_count()} cores of {platform.machine()}: latencies are simulated, and the same"
    parts = [
        "# Choosing replicas",
        f"{head}\non any machine. What it measures, and how: [evaluation/balance](../../evaluation/balance/README.md).",
        "## Goals",
        "Met, of all cases; below, those that are missed.",
    ]
    names = {}
    for row in ratios:
        name = row["name"].split(" (the oracle")[0]
        met, count = names.get(name, (0, 0))
        names[name] = (met + row["met"], count + 1)
    rows = [f"| {name} | {met} of {count} |" for name, (met, count) in names.items()]
    parts.append("\n".join(["| what | met |", "|---|---:|", *rows]))
    rows = [f"| {r['case']} | {r['name']} | {r['value']:.4g} | {r['goal']} |" for r in ratios if not r["met"]]
    parts.append("\n".join(["| case | what | measured | goal |", "|---|---|---:|---|", *rows]))
    values = {(f["case"], f["subject"], f["metric"]): f["value"] for f in figures}
    for metric, title in (("p99_ms", "99th percentile, ms"), ("p50_ms", "Median, ms"), ("slowdown_p99", "99th percentile of latency / own work")):
        parts.append(f"## {title}")
        table = [f"| case | {' | '.join(SUBJECTS)} |", f"|---|{'---:|' * len(SUBJECTS)}"]
        for case in dict.fromkeys(f["case"] for f in figures if f["metric"] == metric):
            table.append(f"| {case} | {' | '.join(f'{values[case, s, metric]:.4g}' for s in SUBJECTS)} |")
        parts.append("\n".join(table))
    ends = {(f["case"], f["subject"]): f["value"] for f in figures if f["metric"] == "end_ns"}
    rows = [f"| {f['case']} | {f['subject']} | {f['value']:.0f} | {ends[f['case'], f['subject']]:.0f} |" for f in figures if f["metric"] == "claim_ns"]
    parts += ["## Cost of a choice, ns", "\n".join(["| case | subject | claim | end, with what is learnt |", "|---|---|---:|---:|", *rows])]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", action="store_true", help="a running node in place of the simulation; its own file beside --out")
    parser.add_argument("--mantlet", help="the node's binary, for --live")
    parser.add_argument("--onnxruntime", help="ONNX Runtime's library, for --live")
    parser.add_argument("--generator", help="the generator's binary, for --live; built when left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true", help="one seed, few requests")
    parser.add_argument("--only", help="cases whose names have all of these words")
    parser.add_argument("--docs", type=Path, help="write a page with tables into this folder")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if options.live:
        options.simulator = [str(examples(options) / "balance_bench")]
        options.out = options.out.with_name("balance-live.json")
        figures, ratios = live.run(options)
    else:
        figures = run(options)
        ratios = goals(figures)
    print_ratios(ratios)
    if options.docs and not options.live:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / "balance.md").write_text(page(figures, ratios))
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
