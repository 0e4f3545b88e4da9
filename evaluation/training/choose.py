"""Chooses the tuner's defaults by leave-one-stream-out.

Run: python choose.py --out target/bench/choose [--data DIR] [--seeds 10] > choose.txt

Tries each of forty settings on every labelled stream of 10,000 rows or more: ten seeds of learners, five searches
on each. What learners lose is kept in the folder, and made once. Of the settings that have equal quality (README.md) in
95 of 100 searches over the streams, and in nine of ten on each of them, those are chosen that need the least share of the grid's
examples, as the mean of the streams' shares. For each stream it prints what all others would choose, and how that does
there: the stream itself had no say.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

DIALS = {
    "keep": (0.34, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "candidates": (18, 20, 22, 24, 27),
}
# Equal quality over all streams, and on each: more than the nine in ten that are promised, for chance had a say.
OVER_ALL, ON_EACH = 0.95, 0.9
# The library's.
DEFAULT = {"keep": 0.6, "candidates": 27}


def measured(options: argparse.Namespace, choices: list[dict]) -> list[dict]:
    """By stream and seed: the grid's examples, and for each choice the share of searches of equal quality and their examples."""
    cargo = os.environ.get("CARGO", "cargo")
    build = [cargo, "build", "--release", "--quiet", "-p", "mantlet-online", "--example", "training_bench"]
    subprocess.run(build, cwd=ROOT, check=True)
    options.out.mkdir(parents=True, exist_ok=True)
    settings, out = options.out / "settings.json", options.out / "searches.json"
    settings.write_text(json.dumps(choices))
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = [str(target / "release/examples/training_bench"), "--data", str(options.data), "--runs", str(options.out)]
    command += ["--settings", str(settings), "--seeds", str(options.seeds), "--out", str(out)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return json.loads(out.read_text())["searches"]


def by_stream(rows: list[dict], count: int) -> dict[str, list[tuple[float, float]]]:
    """For each stream and choice: the share of equal quality, and the share of the grid's examples that were needed."""
    found: dict[str, list[tuple[float, float]]] = {}
    for stream in sorted({row["stream"] for row in rows}):
        own = [row for row in rows if row["stream"] == stream]
        grid = sum(row["grid"] for row in own)
        equal = [sum(row["tuner"][n][0] for row in own) / len(own) for n in range(count)]
        share = [sum(row["tuner"][n][1] for row in own) / grid for n in range(count)]
        found[stream] = list(zip(equal, share, strict=True))
    return found


def best(figures: list[list[tuple[float, float]]]) -> int:
    """The choice that needs least on these streams, of those that are good enough; where none is, the one that is best."""

    def order(number: int) -> tuple[float, float]:
        equal = [stream[number][0] for stream in figures]
        short = max(0.0, OVER_ALL - sum(equal) / len(equal)) + max(0.0, ON_EACH - min(equal))
        return round(short, 9), sum(stream[number][1] for stream in figures)

    return min(range(len(figures[0])), key=order)


def words(choice: dict) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in choice.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "target/bench/choose", help="where runs are kept")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    choices = [dict(zip(DIALS, values, strict=True)) for values in itertools.product(*DIALS.values())]
    found = by_stream(measured(options, choices), len(choices))

    print(f"{len(choices)} choices on {len(found)} streams, {options.seeds} seeds, 5 searches on each\n")
    print("what the other streams choose, and how it does on the one that had no say: the grid's examples / the tuner's,")
    print("and the share of searches of equal quality\n")
    held = []
    for stream in found:
        number = best([figures for other, figures in found.items() if other != stream])
        held.append(found[stream][number])
        equal, share = held[-1]
        print(f"{stream:<28}{1 / share:>6.2f}{equal:>7.2f}  {words(choices[number])}")
    equal, share = (sum(values) / len(held) for values in zip(*held, strict=True))
    print(f"{'mean of shares':<28}{1 / share:>6.2f}{equal:>7.2f}")

    print("\nthose that are good enough, on all streams: each stream's ratio and share, and those of the mean\n")
    print(f"{'':<8}{'':<8}" + "".join(f"{stream[:13]:>15}" for stream in found))

    def line(number: int) -> str:
        each = [figures[number] for figures in found.values()]
        equal, share = (sum(values) / len(each) for values in zip(*each, strict=True))
        cells = "".join(f"{1 / share:>9.2f}{equal:>6.2f}" for equal, share in each)
        return f"{1 / share:>8.2f}{equal:>8.2f}{cells}  {words(choices[number])}"

    good = [n for n in range(len(choices)) if line_equal(found, n) >= OVER_ALL and min(figures[n][0] for figures in found.values()) >= ON_EACH]
    for number in sorted(good, key=lambda n: line_share(found, n))[:15]:
        print(line(number))
    print("\nthe default\n" + line(choices.index(DEFAULT)))
    print("chosen\n" + line(best(list(found.values()))))


def line_equal(found: dict, number: int) -> float:
    return sum(figures[number][0] for figures in found.values()) / len(found)


def line_share(found: dict, number: int) -> float:
    return sum(figures[number][1] for figures in found.values()) / len(found)


if __name__ == "__main__":
    main()
