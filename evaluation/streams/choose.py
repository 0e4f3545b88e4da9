"""Chooses what `auto` mixes, and how, by leave-one-stream-out.

Run: python choose.py --out target/bench/choose [--data DIR] [--core 1] > choose.txt

Runs each candidate once over each labelled stream of the data folder and each of synthetic.py, and keeps its answers; what
is kept is not run again. Then mixes the answers by fixed share, as `auto` does, for every mixture that keeps to the bound
of time; the bound of memory is the learner's own. For each stream it prints what all other streams would choose by mean accuracy, and how right that is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(HERE))

import synthetic  # noqa: E402

FORESTS = ("arf-10", "arf-30", "srp-10", "srp-30", "lb-10")
BOOSTED = ("sgbt-20", "sgbt-50", "sgbt-100")
LIGHT = ("neighbours", "logistic", "bayes", "hat")
CANDIDATES = (*FORESTS, *BOOSTED, *LIGHT)
SHARES, RATES = (0.001, 0.003, 0.01, 0.03), (0.25, 0.5, 1.0)
# The least probability that an answer counts as; not chosen.
LEAST = 0.01
SEED = 1
# What an example may take at eight columns.
MICROSECONDS = 250.0
# The stream of eight columns.
TIMED = "electricity"


def streams(options: argparse.Namespace) -> list[Path]:
    folder = options.data / "streams"
    targets = json.loads((folder / "targets.json").read_text()) if (folder / "targets.json").is_file() else {}
    found = sorted(path for path in folder.glob("*.csv*") if path.name not in targets)
    return [*found, *synthetic.write(options.out / "streams")]


def name_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def known(options: argparse.Namespace) -> dict[tuple[str, str], dict]:
    """What was run before."""
    file = options.out / "runs.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return {(row["case"], row["subject"]): row for row in rows}


def run(options: argparse.Namespace, path: Path, subject: str) -> None:
    """Runs a candidate over a stream, and keeps its answers; a run's time is the processor's."""
    command = ["taskset", "-c", str(options.core), str(options.example), "--file", str(path), "--learner", subject]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([*command, "--seed", str(SEED), "--answers", str(options.out)], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{path.name}: {subject}: {(done.stderr.strip() or 'it said nothing').splitlines()[0]}", file=sys.stderr)
        return
    row = json.loads(done.stdout)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    row |= {"us": seconds / row["rows"] * 1e6}
    del row["curve"]
    with (options.out / "runs.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def answers(options: argparse.Namespace, case: str, runs: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The classes of a stream, and each candidate's probabilities: [rows, classes]."""
    classes, said = np.empty(0, dtype=int), {}
    for subject in CANDIDATES:
        row = runs.get((case, subject))
        if row is None:
            continue
        table = np.fromfile(options.out / f"{case}-{subject}-{SEED}-0.f32", dtype="<f4").reshape(row["rows"], -1)
        classes, said[subject] = table[:, 0].astype(int), table[:, 1:].astype(float)
    return classes, said


def mixtures(runs: dict) -> list[tuple[str, ...]]:
    """All mixtures that keep to the bound: up to two kinds of forests, one of boosting at most, and some light ones."""
    forests = [part for size in (1, 2) for part in itertools.combinations(FORESTS, size) if len({name[:3] for name in part}) == size]
    boosted = [(), *((name,) for name in BOOSTED)]
    light = [part for size in (0, 2, 3, 4) for part in itertools.combinations(LIGHT, size)]
    found = []
    for parts in itertools.product(forests, boosted, light):
        mixture = tuple(itertools.chain(*parts))
        cost = sum(runs[TIMED, subject]["us"] for subject in mixture)
        if cost <= MICROSECONDS:
            found.append(mixture)
    return found


def accuracies(classes: np.ndarray, said: dict[str, np.ndarray], choices: list[tuple[tuple[str, ...], float, float]]) -> np.ndarray:
    """How right each mixture is over a stream, by fixed share as Herbster and Warmuth have it."""
    subjects = list(said)
    place = {subject: number for number, subject in enumerate(subjects)}
    members = np.zeros((len(choices), len(subjects)))
    for number, (mixture, _, _) in enumerate(choices):
        members[number, [place[subject] for subject in mixture if subject in place]] = 1.0
    share = np.array([choice[1] for choice in choices])[:, None]
    rate = np.array([choice[2] for choice in choices])[:, None]
    even = share * members / members.sum(axis=1, keepdims=True)
    weights = members / members.sum(axis=1, keepdims=True)
    table = np.stack([said[subject] for subject in subjects], axis=1)
    right = np.zeros(len(choices))
    # exp(-rate · loss) is the probability to the power of the rate.
    likely = np.maximum(np.take_along_axis(table, classes[:, None, None], axis=2)[:, :, 0], LEAST)
    for row, true in enumerate(classes):
        right += (weights @ table[row]).argmax(axis=1) == true
        weights = weights * likely[row] ** rate
        weights = weights / weights.sum(axis=1, keepdims=True) * (1 - share) + even
    return right / len(classes)


def spoken(choice: tuple[tuple[str, ...], float, float]) -> str:
    return f"{' + '.join(choice[0])}, share {choice[1]:g}, rate {choice[2]:g}"


def report(cases: list[str], runs: dict, choices: list, table: np.ndarray) -> None:
    """The candidates alone, what the others choose for each stream, and the choice of all."""
    print("accuracy of each candidate alone, in per cent; the last line is time in us an example, by the processor\n")
    print(f"{'stream':28}" + "".join(f"{subject:>11}" for subject in CANDIDATES))
    for case in cases:
        cells = (runs.get((case, subject)) for subject in CANDIDATES)
        print(f"{case:28}" + "".join(f"{100 * row['accuracy']:11.2f}" if row else f"{'':11}" for row in cells))
    print(f"{TIMED:28}" + "".join(f"{runs[TIMED, subject]['us']:11.1f}" for subject in CANDIDATES))
    print(f"\n{len(choices)} mixtures within {MICROSECONDS:g} us an example; left out, chosen by the others: accuracy, and the best single one's\n")
    best_single = [max(runs[case, subject]["accuracy"] for subject in CANDIDATES if (case, subject) in runs) for case in cases]
    for place, case in enumerate(cases):
        chosen = int(np.delete(table, place, axis=0).mean(axis=0).argmax())
        print(f"{case:28} {100 * table[place, chosen]:6.2f}  {100 * best_single[place]:6.2f}  {spoken(choices[chosen])}")
    means = table.mean(axis=0)
    print("\nthe ten best over all streams: mean accuracy, the least advantage over the best single one, us an example\n")
    for chosen in np.argsort(-means)[:10]:
        behind = min(table[place, chosen] - best_single[place] for place in range(len(cases)))
        cost = sum(runs[TIMED, subject]["us"] for subject in choices[chosen][0])
        print(f"{100 * means[chosen]:6.2f}  {100 * behind:+6.2f}  {cost:6.1f}  {spoken(choices[chosen])}")
    for subject in CANDIDATES:
        rows = [runs[case, subject] for case in cases if (case, subject) in runs]
        if len(rows) == len(cases):
            mean, most = sum(row["accuracy"] for row in rows) / len(rows), max(row["peak_mb"] for row in rows)
            print(f"{100 * mean:6.2f}                  {subject} alone, {most:.0f} MB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--example", type=Path, default=ROOT / "target/release/examples/streams", help="built for release")
    parser.add_argument("--core", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    paths = streams(options)
    for path, subject in itertools.product(paths, CANDIDATES):
        if (name_of(path), subject) not in known(options):
            run(options, path, subject)
    runs, cases = known(options), [name_of(path) for path in paths]
    choices = list(itertools.product(mixtures(runs), SHARES, RATES))
    rows = []
    for case in cases:
        classes, said = answers(options, case, runs)
        rows.append(accuracies(classes, said, choices))
        print(f"mixed {case}", file=sys.stderr)
    report(cases, runs, choices, np.stack(rows))


if __name__ == "__main__":
    main()
