"""Chooses how a single tree grows, by leave-one-stream-out: how sure it must be of a cut, and which cuts are as good as each other.

Run: python choose-tree.py --out target/bench/choose [--data DIR] [--core 1] > choose-tree.txt

Runs each pair of δ and tie threshold over each labelled stream of the data folder and each of synthetic.py, test then train.
For each stream it prints what all other streams would choose, and how right that is. From some haste on all pairs are about
as right, since the streams are short: a tree then splits whenever it looks. So of those within half a point of the best mean
accuracy the most careful is chosen, which waits for the most rows before it takes two cuts for equally good.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
from pathlib import Path
from statistics import mean

from choose import ROOT, name_of, streams

KINDS = ("hoeffding-tree", "hoeffding-adaptive-tree")
DELTAS = (1e-7, 1e-5, 1e-3, 1e-2, 0.05, 0.2)
TIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
# What was the default before: of Domingos and Hulten's example, and as ensembles have it.
BEFORE = {"hoeffding-tree": (1e-7, 0.05), "hoeffding-adaptive-tree": (1e-2, 0.05)}
GRACE = {"hoeffding-tree": 200.0, "hoeffding-adaptive-tree": 50.0}
SEED = 1
# Points of accuracy that count as none.
SLACK = 0.005

Choice = tuple[float, float]


def learner(kind: str, choice: Choice) -> str:
    tree = {"grace": GRACE[kind], "delta": choice[0], "tie": choice[1]}
    return json.dumps({"learner": kind, **(tree if kind == "hoeffding-tree" else {"tree": tree})})


def measured(options: argparse.Namespace, path: Path, kind: str, choices: list[Choice]) -> list[float]:
    """How right each choice is over a stream; a run of it all, which reads the stream once."""
    command = ["taskset", "-c", str(options.core), str(options.example), "--file", str(path), "--seed", str(SEED)]
    for choice in choices:
        command += ["--learner", learner(kind, choice)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line)["accuracy"] for line in done.stdout.splitlines()]


def chosen_by(choices: list[Choice], table: list[list[float]]) -> int:
    """The most careful choice of those about as right as the best over these streams."""
    means = [mean(row[place] for row in table) for place in range(len(choices))]
    good = [place for place, value in enumerate(means) if value >= max(means) - SLACK]
    return max(good, key=lambda place: -math.log(choices[place][0]) / choices[place][1] ** 2)


def spoken(choice: Choice) -> str:
    return f"δ {choice[0]:g}, tie {choice[1]:g}"


def report(kind: str, cases: list[str], choices: list[Choice], table: list[list[float]]) -> None:
    print(f"\n{kind}: mean accuracy over all streams, in per cent, by δ (down) and tie threshold (across)\n")
    means = {choice: mean(row[place] for row in table) for place, choice in enumerate(choices)}
    print(f"{'':8}" + "".join(f"{tie:8g}" for tie in TIES))
    for delta in DELTAS:
        print(f"{delta:8g}" + "".join(f"{100 * means[delta, tie]:8.2f}" for tie in TIES))
    before = choices.index(BEFORE[kind])
    print("\nleft out, chosen by the others: accuracy, that of the default before, and the best there is\n")
    picked = []
    for case, row in zip(cases, table, strict=True):
        chosen = chosen_by(choices, [other for other in table if other is not row])
        picked.append(row[chosen])
        print(f"{case:28} {100 * row[chosen]:6.2f}  {100 * row[before]:6.2f}  {100 * max(row):6.2f}  {spoken(choices[chosen])}")
    print(f"{'mean':28} {100 * mean(picked):6.2f}  {100 * mean(row[before] for row in table):6.2f}  {100 * mean(map(max, table)):6.2f}")
    chosen = chosen_by(choices, table)
    print(f"{'by all streams':28} {100 * mean(row[chosen] for row in table):6.2f}                  {spoken(choices[chosen])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--example", type=Path, default=ROOT / "target/release/examples/streams", help="built for release")
    parser.add_argument("--core", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    paths, choices = streams(options), list(itertools.product(DELTAS, TIES))
    print("# python choose-tree.py --out target/bench/choose\n#\n# How a single tree grows, by leave-one-stream-out; choose-tree.py says how.")
    for kind in KINDS:
        table = [measured(options, path, kind, choices) for path in paths]
        report(kind, [name_of(path) for path in paths], choices, table)


if __name__ == "__main__":
    main()
