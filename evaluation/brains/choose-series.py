"""Chooses what a series is looked at by, leaving out one kind of series after another: windows, paces, the moment's weight.

Run: python choose-series.py [--data DIR] [--example FILE] [--core 1] > choose-series.txt

Runs the example series_bench of brains/online over every labelled series of the data folder with each candidate. For each
kind of series it prints what the other kinds would choose, and the volume under the precision surface that this one then
has. Candidates keep to two bounds: a pace of one value is among them, so that what is strange is so at once; and a channel's
shapes cost no more than a fifth above one window of 32 values, counted in cells of the triangle of a window, by pace.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[2]
WINDOWS = (16, 24, 32)
PACES = ((1,), (1, 2), (1, 4), (1, 2, 4), (1, 2, 4, 8))
# The first with all paces, the others with the last of them: it hardly matters.
MOMENTS = (0.1, 0.0, 0.25)
CELLS = 1.2 * 32**2
# Runs of the example at a time: it reads the data once for each.
AT_ONCE = 5

Choice = tuple[int, tuple[int, ...], float]
# By choice, by kind: the mean over its series.
Table = dict[Choice, dict[str, float]]


def candidates() -> list[Choice]:
    affordable = lambda choice: choice[0] ** 2 * sum(1 / pace for pace in choice[1]) <= CELLS  # noqa: E731
    shapes = itertools.product(WINDOWS, PACES, MOMENTS[:1])
    moments = itertools.product(WINDOWS, PACES[-1:], MOMENTS[1:])
    return list(filter(affordable, [*shapes, *moments]))


def settings(choice: Choice) -> str:
    window, paces, moment = choice
    return json.dumps({"window": window, "paces": paces, "moment": moment})


def measured(options: argparse.Namespace, choices: list[Choice]) -> Table:
    command = ["taskset", "-c", str(options.core), str(options.example), "--data", str(options.data)]
    for choice in choices:
        command += ["--settings", settings(choice)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in map(json.loads, done.stdout.splitlines()):
        found[line["settings"], line["case"]].append(line["vus_pr"])
    kinds = dict.fromkeys(case for _, case in found)
    return {choice: {kind: mean(found[settings(choice), kind]) for kind in kinds} for choice in choices}


def best(table: Table, kinds: list[str]) -> Choice:
    return max(table, key=lambda choice: mean(table[choice][kind] for kind in kinds))


def spoken(choice: Choice) -> str:
    return f"window {choice[0]}, paces {' '.join(map(str, choice[1]))}, moment {choice[2]:g}"


def report(table: Table) -> None:
    kinds = list(next(iter(table.values())))
    print(f"{len(table)} candidates; left out, chosen by the others: volume, that of one window of 32 alone, and the best there is\n")
    plain, picked = table[32, (1,), MOMENTS[0]], []
    for kind in kinds:
        chosen = best(table, [other for other in kinds if other != kind])
        picked.append(table[chosen][kind])
        print(f"{kind:28} {picked[-1]:.4f}  {plain[kind]:.4f}  {max(row[kind] for row in table.values()):.4f}  {spoken(chosen)}")
    print(f"{'mean':28} {mean(picked):.4f}  {mean(plain.values()):.4f}")
    chosen = best(table, kinds)
    print(f"{'by all kinds':28} {mean(table[chosen].values()):.4f}                  {spoken(chosen)}")
    print("\nall candidates, best first: mean volume, and of " + ", ".join(kinds) + "\n")
    for choice in sorted(table, key=lambda choice: -mean(table[choice].values())):
        row = table[choice]
        print(f"{mean(row.values()):.4f}   " + " ".join(f"{row[kind]:.4f}" for kind in kinds) + f"   {spoken(choice)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--example", type=Path, default=ROOT / "target/release/examples/series_bench", help="built for release")
    parser.add_argument("--core", type=int, default=1)
    options = parser.parse_args()
    choices, table = candidates(), {}
    for begin in range(0, len(choices), AT_ONCE):
        table |= measured(options, choices[begin : begin + AT_ONCE])
        print(f"measured {len(table)} of {len(choices)}", file=sys.stderr)
    print("# python choose-series.py\n#\n# What a series is looked at by, leaving out one kind after another; choose-series.py says how.\n")
    report(table)


if __name__ == "__main__":
    main()
