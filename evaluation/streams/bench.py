"""Measures streaming classifiers beside River's and MOA's: how right, and how fast, on every labelled stream there is.

Run: python bench.py --out target/bench/streams.json [--data DIR] [--quick] [--only SUBJECT …] [--cases STREAM …]

Each run is a process of its own, one after the other, on one core. README.md says what is compared, and how.
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
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import rig  # noqa: E402, F401 (it makes the folder of the next known)
from environments import ROOT, Unmeasured, say, venv_of  # noqa: E402
from rig import figure, print_ratios, ratio  # noqa: E402
import plot  # noqa: E402
import synthetic  # noqa: E402

OURS = ("auto", "arf-10", "srp-10", "lb-10", "sgbt-100", "hat", "ht", "logistic", "neighbours", "bayes")
PEERS = ("moa arf-10", "moa arf-100", "moa srp-10", "moa lb-10", "moa sgbt", "moa hat", "moa ht", "river arf-10", "majority", "no-change")
SEEDS, PEER_SEEDS = tuple(range(1, 11)), (1, 2, 3)
# These draw nothing at random.
STEADY = {"hat", "ht", "logistic", "neighbours", "bayes", "moa ht", "majority", "no-change"}
DELAYS = (0, 100, 1_000)
METRICS = ("accuracy", "balanced_accuracy", "kappa", "log_loss", "rows_per_s", "peak_mb")
UNITS = {"rows_per_s": "1/s", "peak_mb": "MB"}
RUN_SECONDS = 3_600
QUICK_ROWS = 2_000


def ours(options: argparse.Namespace) -> list[str]:
    """Our example, built for release."""
    cargo = os.environ.get("CARGO", "cargo")
    say("mantlet-online: cargo build --release --example streams")
    subprocess.run([cargo, "build", "--release", "--quiet", "-p", "mantlet-online", "--example", "streams"], cwd=ROOT, check=True)
    return [str(options.target / "release/examples/streams")]


def measure(command: list[str]) -> list[dict]:
    """The JSON lines of one run, on one core."""
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(["taskset", "-c", str(core), *command], capture_output=True, text=True, timeout=RUN_SECONDS)
    if done.returncode != 0:
        raise Unmeasured((done.stderr.strip() or "it said nothing").splitlines()[-1])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def streams(options: argparse.Namespace) -> list[Path]:
    """Every labelled stream of the data folder, and those made here."""
    folder = options.data / "streams"
    targets = json.loads((folder / "targets.json").read_text()) if (folder / "targets.json").is_file() else {}
    found = sorted(path for path in folder.glob("*.csv*") if path.name not in targets)
    files = [*found, *synthetic.write(options.out.parent / "streams")]
    wanted = options.cases
    return [path for path in files if not wanted or any(path.name.startswith(case) for case in wanted)]


def run(options: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """All runs, and what could not be measured."""
    own = ours(options)
    try:
        python = venv_of("streams", HERE / "requirements.txt", options.out.parent)
    except Unmeasured as why:
        say(f"River and MOA: not measured: {why}")
        python = None
    rows, faults = [], []
    for path in streams(options):
        for subject in options.only:
            peer = subject not in OURS
            if peer and python is None and subject not in STEADY:
                continue
            seeds = PEER_SEEDS if peer else SEEDS
            seeds = (1,) if subject in STEADY or options.quick else seeds[: options.seeds or len(seeds)]
            for delay in options.delays:
                say(f"{path.name}: {subject}, delay {delay}")
                common = ["--file", str(path), "--delay", str(delay)]
                try:
                    if not peer:
                        rows += measure([*own, *common, "--learner", subject, "--seed", ",".join(map(str, seeds))])
                        continue
                    for seed in seeds:
                        command = [str(python or sys.executable), str(HERE / "peers.py"), *common, "--subject", subject, "--seed", str(seed)]
                        rows += measure([*command, *(["--rows", str(QUICK_ROWS)] if options.quick else [])])
                except (Unmeasured, subprocess.TimeoutExpired) as why:
                    faults.append(f"{path.name}: {subject}, delay {delay}: {why}")
                    say(f"not measured: {why}")
    return rows, faults


def mean(rows: list[dict], subject: str, metric: str, delay: int = 0) -> dict[str, float]:
    """A figure of a subject by stream, the mean over seeds."""
    found = defaultdict(list)
    for row in rows:
        if (row["subject"], row["delay"]) == (subject, delay) and metric in row:
            found[row["case"]].append(row[metric])
    return {case: statistics.mean(values) for case, values in found.items()}


def goals(rows: list[dict]) -> list[dict]:
    """What the learners promise, of what was measured."""
    made = []
    speed = lambda subject: mean(rows, subject, "rows_per_s")  # noqa: E731
    right = lambda subject: mean(rows, subject, "accuracy")  # noqa: E731
    for peer, goal in (("river arf-10", 50), ("moa arf-10", 3)):
        both = [(speed("arf-10")[case], value) for case, value in speed(peer).items() if case in speed("arf-10")]
        if both:
            times = math.exp(statistics.mean(math.log(a / b) for a, b in both))
            made.append(ratio("all streams", f"arf-10: speed / {peer}", times, goal, least=True))
    both = [right("arf-10")[case] - value for case, value in right("moa arf-10").items() if case in right("arf-10")]
    if both:
        made.append(ratio("all streams", "arf-10: |accuracy - moa arf-10|, points", abs(statistics.mean(both)) * 100, 0.5, least=False))
    peers = [subject for subject in dict.fromkeys(row["subject"] for row in rows) if subject.startswith(("moa", "river"))]
    auto = right("auto")
    common = [case for case in auto if all(case in right(peer) for peer in peers)]
    if peers and common:
        means = {peer: statistics.mean(right(peer)[case] for case in common) for peer in peers}
        best = max(means, key=means.get)
        ahead = (statistics.mean(auto[case] for case in common) - means[best]) * 100
        made.append(ratio("all streams", f"auto: mean accuracy - best peer's ({best}), points", ahead, 0, least=True))
        for case in common:
            behind = (auto[case] - max(right(peer)[case] for peer in peers)) * 100
            made.append(ratio(case, "auto: accuracy - best peer's, points", behind, -1, least=True))
    return made


def print_table(rows: list[dict], metric: str, scale: float, digits: int) -> None:
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    print(f"\n{metric}\n\n| stream | {' | '.join(subjects)} |\n|---|{'---:|' * len(subjects)}")
    table = {subject: mean(rows, subject, metric) for subject in subjects}
    for case in cases:
        cells = (f"{table[subject][case] * scale:.{digits}f}" if case in table[subject] else "" for subject in subjects)
        print(f"| {case} | {' | '.join(cells)} |")


def draw(rows: list[dict], folder: Path) -> None:
    """Accuracy over time of each stream, ours."""
    for case in dict.fromkeys(row["case"] for row in rows):
        curves = {}
        for row in rows:
            if (row["case"], row["seed"], row["delay"]) == (case, 1, 0) and row.get("curve") and row["subject"] in OURS[:5]:
                curves[row["subject"]] = [((place + 1) * 500, value) for place, value in enumerate(row["curve"])]
        if curves:
            plot.lines(folder / f"streams-{case}.svg", f"{case}: accuracy in 500 rows", curves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", help="not used")
    parser.add_argument("--onnxruntime", help="not used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true", help="one seed, no delays, few rows of peers")
    parser.add_argument("--only", nargs="+", default=[*OURS, *PEERS], metavar="SUBJECT")
    parser.add_argument("--cases", nargs="+", default=[], metavar="STREAM", help="how files begin")
    parser.add_argument("--delays", nargs="+", type=int)
    parser.add_argument("--seeds", type=int, help="at most so many")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.target = options.out.parents[1]
    options.delays = options.delays or ([0] if options.quick else list(DELAYS))
    load = os.getloadavg()[0]
    rows, faults = run(options)
    for metric, scale, digits in (("accuracy", 100, 2), ("log_loss", 1, 3), ("rows_per_s", 1, 0)):
        print_table(rows, metric, scale, digits)
    ratios = goals(rows)
    print_ratios(ratios)
    draw(rows, options.out.parent)
    figures = [
        figure(row["case"], row["subject"] if row["subject"] not in OURS else f"ours {row['subject']}", metric, row[metric], UNITS.get(metric, "1"))
        | {"seed": row["seed"], "delay": row["delay"]}
        for row in rows
        for metric in METRICS
        if metric in row
    ]
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    said = {"machine": machine, "figures": figures, "ratios": ratios, "not_measured": faults}
    options.out.write_text(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
