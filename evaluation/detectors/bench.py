"""Measures how well attackers are found in texts, connections, tables and series, beside rules and peers.

Run: python bench.py --out target/bench/detectors.json [--train DIR] [--test DIR] [--quick] [--docs DIR] [--no-peers]

README.md says what it measures, and what is promised.
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

import rig  # noqa: E402, F401 (it makes the folder of the next known)
from environments import ROOT, Unmeasured, say, venv_of  # noqa: E402
from process import run as run_or_say  # noqa: E402
from rig import print_ratios, ratio  # noqa: E402

PEER_SECONDS = 1_500
# No binding of it has wheels for every Python; without a compiler it is not measured.
LIBINJECTION = "libinjection-python==1.1.6"
INSTALL_SECONDS = 300

FALSE_ALARMS = 0.015
# What is promised of recall, by what is judged, and by how many points above the rules.
LEAST = {"payloads": 0.85, "requests": 0.55}
ABOVE_RULES = 15
MUTATED = 0.90


def goals(figures: list[dict]) -> list[dict]:
    """What was measured, held against what is promised."""
    values = {(f["case"], f["subject"], f["metric"]): f["value"] for f in figures}
    units = {f["case"]: f["unit"] for f in figures if f["subject"] == "ours" and f["metric"] == "realised_fa"}
    units |= {f["case"]: f["unit"] for f in figures if f["subject"] == "ours" and f["metric"] == "recall"}
    made = []
    for case in dict.fromkeys(f["case"] for f in figures):
        unit = units.get(case, "")
        of = lambda subject, metric, case=case: values.get((case, subject, metric))  # noqa: E731
        if (alarms := of("ours", "realised_fa")) is not None:
            made.append(ratio(case, "ours: realised false alarms", alarms, FALSE_ALARMS, least=False))
        if (recall := of("ours", "recall")) is not None and unit in LEAST:
            made.append(ratio(case, "ours: recall", recall, LEAST[unit], least=True))
        if (macro := of("ours", "macro_recall")) is not None and (rules := of("rules", "macro_recall")) is not None:
            name = "ours: mean recall of families above the rules', points"
            made.append(ratio(case, name, 100 * (macro - rules), ABOVE_RULES, least=True))
        if (mutated := of("ours", "mutated_recall")) is not None:
            made.append(ratio(case, "ours: recall of found attacks by the worst trick", mutated, MUTATED, least=True))
    return made


def ours(options: argparse.Namespace) -> list[dict]:
    """What the example measured."""
    cargo = os.environ.get("CARGO", "cargo")
    say("mantlet-defend: cargo build --release --example detectors_bench")
    build = [cargo, "build", "--release", "--quiet", "-p", "mantlet-defend", "--example", "detectors_bench"]
    subprocess.run(build, cwd=ROOT, check=True)
    command = [str(options.out.parents[1] / "release/examples/detectors_bench"), "--out", str(options.out)]
    command += ["--train", str(options.train), "--test", str(options.test), *(["--quick"] if options.quick else [])]
    subprocess.run(command, check=True)
    return json.loads(options.out.read_text())["figures"]


def peers(options: argparse.Namespace) -> list[dict]:
    """The peers' figures on the same files."""
    try:
        python = venv_of("detectors", HERE / "requirements.txt", options.out.parent)
    except Unmeasured as why:
        say(f"peers: not measured: {why}")
        return []
    try:
        run_or_say([python, "-m", "pip", "install", "--quiet", LIBINJECTION], "libinjection", INSTALL_SECONDS)
    except Unmeasured as why:
        say(f"libinjection: not measured: {why}")
    command = [python, str(HERE / "peers.py"), "--train", str(options.train), "--test", str(options.test)]
    try:
        done = subprocess.run(
            [*command, *(["--quick"] if options.quick else [])],
            stdout=subprocess.PIPE,
            text=True,
            timeout=PEER_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as why:
        say(f"peers: not measured: {why}")
        return []
    print(done.stdout, end="")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def page(figures: list[dict], ratios: list[dict]) -> str:
    """What was measured, in Markdown."""
    parts = [
        "# Detectors of attackers",
        f"Measured by `cargo xtask bench detectors` on {os.cpu_count()} cores of {platform.machine()}. What it measures, and how: "
        "[evaluation/detectors](../../evaluation/detectors/README.md).",
        "## Goals",
    ]
    table = ["| case | what | measured | goal | met |", "|---|---|---:|---|---|"]
    table += [f"| {r['case']} | {r['name']} | {r['value']:.4g} | {r['goal']} | {'yes' if r['met'] else '**no**'} |" for r in ratios]
    parts += ["\n".join(table), "## Figures"]
    rows = ["| case | subject | figure | value | of |", "|---|---|---|---:|---|"]
    rows += [f"| {f['case']} | {f['subject']} | {f['metric']} | {f['value']:.4g} | {f['unit']} |" for f in figures]
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


def main() -> None:
    data = Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", help="not used")
    parser.add_argument("--onnxruntime", help="not used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=Path, default=data, help="folder to learn from; MANTLET_DATA by default")
    parser.add_argument("--test", type=Path, default=data, help="folder to judge on; the same leaves families and sources out")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--no-peers", action="store_true", help="only ours and the rules")
    parser.add_argument("--docs", type=Path, help="write a page with tables into this folder")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    figures = ours(options) + ([] if options.no_peers else peers(options))
    ratios = goals(figures)
    print_ratios(ratios)
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / "detectors.md").write_text(page(figures, ratios))
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
