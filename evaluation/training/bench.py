"""Measures the tuner, two workers, and robust aggregation: runs an example of brains/online, and writes what it says as a page.

Run: python bench.py --out target/bench/training.json [--data DIR] [--quick] [--part search attack workers] [--docs DIR]

README.md says what is measured, and how.
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
from environments import ROOT, say  # noqa: E402
from rig import print_ratios  # noqa: E402

EXAMPLE = "training_bench"
PARTS = {
    "search": "The tuner beside a grid and random search",
    "attack": "Robust aggregation under attack",
    "workers": "Two workers beside one",
}


def measure(options: argparse.Namespace, part: str) -> dict:
    """What a part of the example says."""
    out = options.out.with_name(f"training-{part}.json")
    command = [str(options.out.parents[1] / "release/examples" / EXAMPLE), "--data", str(options.data), "--part", part]
    load = os.getloadavg()[0]
    kept = ["--runs", str(options.runs)] if options.runs and part == "search" else []
    subprocess.run([*command, "--out", str(out), *kept, *(["--quick"] if options.quick else [])], check=True)
    said = json.loads(out.read_text())
    out.unlink()
    return {**said, "load_at_start": round(load, 2)}


def page(parts: dict[str, dict]) -> str:
    """What was measured, in Markdown."""
    text = [
        "# Training: the tuner, two workers, and workers that lie",
        f"Measured by `cargo xtask bench training` on {os.cpu_count()} cores of {platform.machine()}. What it measures, and how: "
        "[evaluation/training](../../evaluation/training/README.md).",
    ]
    for part, said in parts.items():
        text += [f"## {PARTS[part]}", f"The machine's load when this part began: {said['load_at_start']:g}."]
        goals = ["| case | what | measured | goal | met |", "|---|---|---:|---|---|"]
        goals += [f"| {r['case']} | {r['name']} | {r['value']:.4g} | {r['goal']} | {'yes' if r['met'] else '**no**'} |" for r in said["ratios"]]
        figures = ["| case | subject | figure | value | unit |", "|---|---|---|---:|---|"]
        figures += [f"| {f['case']} | {f['subject']} | {f['metric']} | {f['value']:.5g} | {f['unit']} |" for f in said["figures"]]
        text += ["\n".join(goals), "\n".join(figures)]
    return "\n\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", help="not used")
    parser.add_argument("--onnxruntime", help="not used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true", help="one stream, one seed")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="only these; others stay as they were measured")
    parser.add_argument("--runs", type=Path, help="what learners lose is read from this folder, where choose.py or an earlier run kept it")
    parser.add_argument("--docs", type=Path, help="write a page with tables into this folder")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    cargo = os.environ.get("CARGO", "cargo")
    say(f"mantlet-online: cargo build --release --example {EXAMPLE}")
    subprocess.run([cargo, "build", "--release", "--quiet", "-p", "mantlet-online", "--example", EXAMPLE], cwd=ROOT, check=True)
    before = json.loads(options.out.read_text()).get("parts", {}) if options.out.exists() else {}
    measured = {part: measure(options, part) for part in options.part}
    parts = {part: {**before, **measured}[part] for part in PARTS if part in {**before, **measured}}
    figures = [figure for said in parts.values() for figure in said["figures"]]
    ratios = [ratio for said in parts.values() for ratio in said["ratios"]]
    print_ratios(ratios)
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / "training.md").write_text(page(parts))
    machine = {"cores": os.cpu_count(), "platform": platform.platform()}
    options.out.write_text(json.dumps({"machine": machine, "parts": parts, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
