"""Measures streaming classifiers beside River's and MOA's: how right, and how fast, on every labelled stream there is.

Run: python bench.py --out target/bench/streams.json [--data DIR] [--quick] [--only SUBJECT …] [--cases STREAM …]

Each run is a process of its own, one after the other, on one core. What has been measured is kept beside the answer, run by
run, and not measured again with `--go-on`. README.md says what is compared, and how.
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

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import rig  # noqa: E402, F401 (it makes the folder of the next known)
from environments import ROOT, Unmeasured, build, say, venv_of  # noqa: E402
from rig import figure, print_ratios, ratio  # noqa: E402
import plot  # noqa: E402
import synthetic  # noqa: E402

OURS = ("auto", "arf-10", "srp-10", "lb-10", "sgbt-100", "ht", "logistic", "neighbours", "bayes", "hat")
PEERS = (
    "moa arf-10", "moa arf-100", "moa srp-10", "moa lb-10", "moa sgbt", "moa ht", "moa hat", "river arf-10",
    "irithyll sgbt-100", "majority", "no-change",
)
SEEDS, PEER_SEEDS = tuple(range(1, 11)), (1, 2, 3)
# These draw nothing at random.
STEADY = {"ht", "hat", "logistic", "neighbours", "bayes", "moa ht", "moa hat", "majority", "no-change"}
DELAYS = (0, 100, 1_000)
METRICS = ("accuracy", "balanced_accuracy", "kappa", "log_loss", "rows_per_s", "peak_mb")
UNITS = {"rows_per_s": "1/s", "peak_mb": "MB"}
RUN_SECONDS = 3_600
QUICK_ROWS = 2_000
# Rows of one point of a curve, and of a block that is resampled.
WINDOW = 500
RESAMPLES = 2_000


def ours(options: argparse.Namespace) -> list[str]:
    """Our example, built for release."""
    cargo = os.environ.get("CARGO", "cargo")
    say("mantlet-online: cargo build --release --example streams")
    subprocess.run([cargo, "build", "--release", "--quiet", "-p", "mantlet-online", "--example", "streams"], cwd=ROOT, check=True)
    return [str(options.target / "release/examples/streams")]


class Runs:
    """What has been measured, a JSON line each; those of an earlier bench too, where that was asked for."""

    def __init__(self, path: Path, go_on: bool, closed: bool) -> None:
        self.path, self.closed = path, closed
        path.parent.mkdir(parents=True, exist_ok=True)
        if not go_on:
            path.write_text("")
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = {key(row): row for row in map(json.loads, lines)}

    def measure(self, case: str, subject: str, seed: int, delay: int, command: list[str]) -> dict:
        """One run, on one core."""
        known = self.rows.get((case, subject, seed, delay))
        if known:
            return known
        if self.closed:
            raise Unmeasured("not run")
        core = min(os.sched_getaffinity(0))
        done = subprocess.run(["taskset", "-c", str(core), *command], capture_output=True, text=True, timeout=RUN_SECONDS)
        if done.returncode != 0:
            raise Unmeasured((done.stderr.strip() or "it said nothing").splitlines()[-1])
        row = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[key(row)] = row
        return row


def key(row: dict) -> tuple[str, str, int, int]:
    return row["case"], row["subject"], row["seed"], row["delay"]


def streams(options: argparse.Namespace) -> list[Path]:
    """Every labelled stream of the data folder, and those made here."""
    folder = options.data / "streams"
    targets = json.loads((folder / "targets.json").read_text()) if (folder / "targets.json").is_file() else {}
    found = sorted(path for path in folder.glob("*.csv*") if path.name not in targets)
    files = [*found, *synthetic.write(options.out.parent / "streams")]
    wanted = options.cases
    return [path for path in files if not wanted or any(path.name.startswith(case) for case in wanted)]


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """How the runs of each family of subjects begin; without those that can't be had."""
    own = ours(options)
    known = {"ours": own}
    if any(family(subject) == "irithyll" for subject in options.only):
        try:
            known["irithyll"] = [build(HERE / "irithyll-peer", options.out.parent / "irithyll-peer")]
        except Unmeasured as why:
            say(f"irithyll: not measured: {why}")
    try:
        python = str(venv_of("streams", HERE / "requirements.txt", options.out.parent))
        known |= dict.fromkeys(("river", "moa", "plain"), [python, str(HERE / "peers.py")])
    except Unmeasured as why:
        say(f"River and MOA: not measured: {why}")
    return known


FAMILIES = ("ours", "irithyll", "river", "moa", "plain")


def family(subject: str) -> str:
    if subject in OURS:
        return "ours"
    first = subject.partition(" ")[0]
    return first if first in ("river", "moa", "irithyll") else "plain"


def seeds_of(subject: str, options: argparse.Namespace) -> tuple[int, ...]:
    if subject in STEADY or options.quick:
        return (1,)
    return SEEDS[: options.seeds] if subject in OURS else PEER_SEEDS[: options.peer_seeds]


def run(options: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """All runs, and what could not be measured."""
    begins = dict.fromkeys(FAMILIES, []) if options.known else commands(options)
    runs = Runs(options.out.parent / "streams/runs.jsonl", options.go_on or options.known, options.known)
    rows, faults = [], []
    for subject in options.only:
        begin = begins.get(family(subject))
        if begin is None:
            faults.append(f"{subject}: can't be had")
            continue
        named = "--learner" if subject in OURS else "--subject"
        short = ["--rows", str(QUICK_ROWS)] if options.quick and family(subject) in ("river", "moa", "plain") else []
        for path in streams(options):
            for delay in options.delays:
                say(f"{path.name}: {subject}, delay {delay}")
                for seed in seeds_of(subject, options):
                    more = ["--file", str(path), named, subject, "--seed", str(seed), "--delay", str(delay), *short]
                    try:
                        rows.append(runs.measure(case_of(path), subject, seed, delay, [*begin, *more]))
                    except (Unmeasured, subprocess.TimeoutExpired) as why:
                        if seed == 1:
                            faults.append(f"{case_of(path)}: {subject}, delay {delay}: {why}")
                        say(f"not measured: {why}")
    return rows, faults


def case_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def mean(rows: list[dict], subject: str, metric: str, delay: int = 0) -> dict[str, float]:
    """A figure of a subject by stream, the mean over seeds."""
    found = defaultdict(list)
    for row in rows:
        if (row["subject"], row["delay"]) == (subject, delay) and row.get(metric) is not None:
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
            made.append(ratio(f"{len(both)} streams", f"arf-10: speed / {peer}", times, goal, least=True))
    for bound, name in ((0.025, "lower"), (0.975, "upper")):
        apart = ahead(rows, "arf-10", "moa arf-10", bound)
        if apart is not None:
            made.append(ratio("all streams", f"arf-10: |accuracy - moa arf-10|, {name} bound, points", abs(apart), 0.5, least=False))
    peers = [subject for subject in dict.fromkeys(row["subject"] for row in rows) if family(subject) in ("moa", "river", "irithyll")]
    auto = right("auto")
    # A mean counts where it is over all streams; on each stream, whoever was measured on it.
    means = {peer: statistics.mean(right(peer)[case] for case in auto) for peer in peers if auto and set(auto) <= set(right(peer))}
    if means:
        best = max(means, key=means.get)
        apart = (statistics.mean(auto.values()) - means[best]) * 100
        made.append(ratio("all streams", f"auto: mean accuracy - best peer's ({best}), points", apart, 0, least=True))
        lower = ahead(rows, "auto", best, 0.025)
        if lower is not None:
            made.append(ratio("all streams", f"auto: the same, lower bound of 95 % ({best}), points", lower, -0.3, least=True))
    for case, value in auto.items():
        known = [right(peer)[case] for peer in peers if case in right(peer)]
        if known:
            behind = (value - max(known)) * 100
            made.append(ratio(case, "auto: accuracy - best peer's, points", behind, -1, least=True))
    return made


def ahead(rows: list[dict], subject: str, peer: str, quantile: float) -> float | None:
    """A quantile of how far a subject is ahead of a peer, in points, by resampling blocks of 500 rows of each stream."""
    rng, drawn = np.random.default_rng(1), []
    for case in mean(rows, subject, "accuracy"):
        ours, theirs = (curve(rows, name, case) for name in (subject, peer))
        if ours is None or theirs is None:
            continue
        apart = ours[: len(theirs)] - theirs[: len(ours)]
        drawn.append(rng.choice(apart, (RESAMPLES, len(apart))).mean(axis=1))
    return float(np.quantile(np.mean(drawn, axis=0), quantile)) * 100 if drawn else None


def curve(rows: list[dict], subject: str, case: str) -> np.ndarray | None:
    """Accuracy of each 500 rows, the mean over seeds."""
    found = [row["curve"] for row in rows if (row["subject"], row["case"], row["delay"]) == (subject, case, 0) and row.get("curve")]
    return np.mean(found, axis=0) if found else None


def table(rows: list[dict], metric: str, scale: float, digits: int, delay: int = 0) -> str:
    """A figure of every subject on every stream, and its mean where all streams have it; in Markdown."""
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    found = {subject: mean(rows, subject, metric, delay) for subject in subjects}
    found = {subject: values for subject, values in found.items() if values}
    if not found:
        return ""
    names = [f"ours {subject}" if subject in OURS else subject for subject in found]
    lines = [f"| stream | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for case in cases:
        cells = (f"{values[case] * scale:.{digits}f}" if case in values else "" for values in found.values())
        lines.append(f"| {case} | {' | '.join(cells)} |")
    average = geometric if metric == "rows_per_s" else statistics.mean
    cells = (f"{average(values.values()) * scale:.{digits}f}" if len(values) == len(cases) else "" for values in found.values())
    lines.append(f"| mean | {' | '.join(cells)} |")
    return "\n".join(lines)


def geometric(values) -> float:
    return math.exp(statistics.mean(map(math.log, values)))


TABLES = (
    ("accuracy", "Accuracy, %", 100, 2, 0),
    ("balanced_accuracy", "Balanced accuracy, %", 100, 2, 0),
    ("kappa", "Cohen's kappa", 1, 3, 0),
    ("log_loss", "Log loss, nats", 1, 3, 0),
    ("rows_per_s", "Rows/s, test and train, one core; the mean is geometric", 1, 0, 0),
    ("peak_mb", "Memory, MB: of ours what the learner holds, of peers the whole process", 1, 1, 0),
    ("accuracy", "Accuracy where labels come 100 rows late, %", 100, 2, 100),
    ("accuracy", "Accuracy where labels come 1,000 rows late, %", 100, 2, 1_000),
)


def report(rows: list[dict], ratios: list[dict], faults: list[str], command: str) -> str:
    """What was measured, as a page."""
    runs: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["delay"] == 0:
            of = runs.setdefault(row["subject"], {})
            of[row["case"]] = of.get(row["case"], 0) + 1
    spread = {subject: sorted(set(of.values())) for subject, of in runs.items()}
    seeds = {subject: "-".join(str(count) for count in dict.fromkeys((of[0], of[-1]))) for subject, of in spread.items()}
    parts = [
        "# Streaming classifiers beside their peers",
        f"Measured by `{command}` on {os.cpu_count()} cores of {platform.processor() or platform.machine()}, one process at a "
        "time, on one core. What is compared, and how: [evaluation/streams](../../evaluation/streams/README.md).",
        "Seeds of a stream: " + ", ".join(f"{subject} {count}" for subject, count in seeds.items()) + "; with late labels at least one.",
        "![accuracy against speed](streams-speed.svg)",
    ]
    for metric, title, scale, digits, delay in TABLES:
        text = table(rows, metric, scale, digits, delay)
        if text:
            parts += [f"## {title}", text]
    goals = ["| case | what | measured | goal | met |", "|---|---|---:|---|---|"]
    goals += [f"| {r['case']} | {r['name']} | {r['value']:g} | {r['goal']} | {'yes' if r['met'] else '**no**'} |" for r in ratios]
    parts += ["## Goals", "\n".join(goals), "## Over time"]
    cases = dict.fromkeys(row["case"] for row in rows)
    parts += [f"![{case}](streams-{case}.svg)" for case in cases]
    if faults:
        names: dict[str, list[str]] = {}
        for fault in faults:
            case, _, rest = fault.partition(": ")
            names.setdefault(rest, []).append(case)
        parts += ["## Not measured", "\n".join(f"- {what}: {', '.join(cases)}" for what, cases in names.items())]
    return "\n\n".join(parts) + "\n"


def draw(rows: list[dict], folder: Path) -> None:
    """Accuracy over time of each stream, and accuracy against speed, means over streams that all subjects know."""
    drawn = ("auto", "arf-10", "ht", "moa arf-10", "moa srp-10", "no-change")
    for case in dict.fromkeys(row["case"] for row in rows):
        curves = {}
        for subject in drawn:
            values = curve(rows, subject, case)
            if values is not None:
                curves[subject] = [((place + 1) * WINDOW, float(value)) for place, value in enumerate(values)]
        if curves:
            plot.lines(folder / f"streams-{case}.svg", f"{case}: accuracy of each {WINDOW} rows", curves)
    named = {}
    for subject in dict.fromkeys(row["subject"] for row in rows):
        right, fast = mean(rows, subject, "accuracy"), mean(rows, subject, "rows_per_s")
        if len(fast) == len(mean(rows, "auto", "accuracy")) and family(subject) != "plain":
            name = f"ours {subject}" if subject in OURS else subject
            named[name] = (math.exp(statistics.mean(map(math.log, fast.values()))), 100 * statistics.mean(right.values()))
    if named:
        low, high = min(y for _, y in named.values()), max(y for _, y in named.values())
        title = "mean accuracy, %, against rows/s (geometric mean over streams, one core)"
        plot.points(folder / "streams-speed.svg", title, named, low=math.floor(low), high=math.ceil(high + 0.1))


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
    parser.add_argument("--seeds", type=int, help="at most so many of ours")
    parser.add_argument("--peer-seeds", type=int, help="at most so many of peers")
    parser.add_argument("--go-on", action="store_true", help="take what an earlier bench measured; its speed was another hour's")
    parser.add_argument("--known", action="store_true", help="measure nothing: say what an earlier bench measured")
    parser.add_argument("--docs", type=Path, help="write a page with tables and plots into this folder")
    parser.add_argument("--command", default="cargo xtask bench streams", help="what the page says that measured it")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.target = options.out.parents[1]
    options.delays = options.delays or ([0] if options.quick else list(DELAYS))
    load = os.getloadavg()[0]
    rows, faults = run(options)
    for metric, title, scale, digits, delay in TABLES:
        print(f"\n{title}\n\n{table(rows, metric, scale, digits, delay)}")
    ratios = goals(rows)
    print_ratios(ratios)
    draw(rows, options.out.parent)
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / "streams.md").write_text(report(rows, ratios, faults, options.command))
        draw(rows, options.docs)
    figures = [
        figure(row["case"], row["subject"] if row["subject"] not in OURS else f"ours {row['subject']}", metric, row[metric], UNITS.get(metric, "1"))
        | {"seed": row["seed"], "delay": row["delay"]}
        for row in rows
        for metric in METRICS
        if row.get(metric) is not None
    ]
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    said = {"machine": machine, "figures": figures, "ratios": ratios, "not_measured": faults}
    options.out.write_text(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
