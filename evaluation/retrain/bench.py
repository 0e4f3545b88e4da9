"""Asks a model that learns while it serves, one that is retrained nightly and a frozen one about the same stream, which turns
round half-way: how soon is each right again?

README.md says what is compared, and how.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import http.client
import json
import math
import os
import platform
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
sys.path.append(str(HERE.parent / "streams"))

from rig import Node, expect, figure, print_ratios, ratio  # noqa: E402 (the path above is where it lies)
from environments import ROOT, say  # noqa: E402 (rig.py makes its folder known)
import plot  # noqa: E402
import poison  # noqa: E402
import steady  # noqa: E402
import synthetic  # noqa: E402

TIMES = {"timestamp", "date", "date_time", "ts", "batch"}
ROWS = 12_000
WINDOW = 1_000
# Labels of ours are sent so often, in seconds.
LABELS = 0.5
# Back to normal, in points of accuracy below the same learner without a turn.
NEAR = 0.01
NIGHTS = 4
POINTS = 120
# Examples of the joined log that new versions go through, and how many a request has.
CATCH_UP = 100_000
BATCH = 200


class Stream:
    """Rows of a stream as a model takes them, and its classes."""

    def __init__(self, path: Path, rows: int) -> None:
        self.name = path.name.split(".")[0]
        opened = gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="")
        with opened as file:
            table = csv.reader(file)
            header = next(table)
            read = [row for row, _ in zip(table, range(rows), strict=False)]
        columns = [place for place, name in enumerate(header[:-1]) if name not in TIMES]
        numeric = [place for place in columns if all(is_number(row[place]) for row in read)]
        self.words = [place for place in columns if place not in numeric]
        self.numbers = [[float(row[place]) if row[place] else None for place in numeric] for row in read]
        self.texts = [[row[place] for place in self.words] for row in read]
        names = sorted({row[-1] for row in read})
        self.classes = [f"c{name}" for name in names]
        self.labels = [names.index(row[-1]) for row in read]

    def manifest(self, name: str, learner: dict) -> dict:
        inputs = [{"name": "x", "type": "FP64", "shape": [-1, len(self.numbers[0])]}] if self.numbers[0] else []
        inputs += [{"name": f"w{place}", "type": "BYTES"} for place in self.words]
        spec = {
            "source": {"online": learner},
            "inputs": inputs,
            "task": {"kind": "classification", "classes": self.classes},
            "capture": {"input": "features"},
        }
        return {"apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": {"name": name}, "spec": spec}

    def question(self, row: int) -> bytes:
        # Python writes NaN into JSON, and the node reads it.
        numbers = [value if value is not None else math.nan for value in self.numbers[row]]
        inputs = [{"name": "x", "shape": [1, len(numbers)], "datatype": "FP64", "data": numbers}] if numbers else []
        for place, text in zip(self.words, self.texts[row], strict=True):
            inputs.append({"name": f"w{place}", "shape": [1, 1], "datatype": "BYTES", "data": [text]})
        return json.dumps({"inputs": inputs, "outputs": [{"name": "label"}]}).encode()

    def questions(self, rows: range) -> bytes:
        """Several rows at once."""
        numbers = [value if value is not None else math.nan for row in rows for value in self.numbers[row]]
        shape = [len(rows), len(self.numbers[0])]
        inputs = [{"name": "x", "shape": shape, "datatype": "FP64", "data": numbers}] if numbers else []
        for place, column in enumerate(self.words):
            words = [self.texts[row][place] for row in rows]
            inputs.append({"name": f"w{column}", "shape": [len(rows), 1], "datatype": "BYTES", "data": words})
        return json.dumps({"inputs": inputs, "outputs": [{"name": "label"}]}).encode()

    def truth(self, row: int, turned: bool) -> str:
        return self.classes[(self.labels[row] + int(turned)) % len(self.classes)]


def is_number(text: str) -> bool:
    try:
        return text == "" or float(text) == float(text)
    except ValueError:
        return False


class Subject(threading.Thread):
    """Asks one model about every row when it is due, and sends its labels when they are."""

    def __init__(self, node: Node, name: str, stream: Stream, due: list[float], turn: int, labels) -> None:
        super().__init__(name=name)
        self.node, self.stream, self.due, self.turn, self.labels_due = node, stream, due, turn, labels
        self.right: list[bool] = []
        self.failed = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 (whoever joins it is told)
            self.error = error

    def work(self) -> None:
        connection = self.node.connect()
        held: list[dict] = []
        for row, due in enumerate(self.due):
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            status, said = self.node.ask("POST", f"/v2/models/{self.name}/infer", self.stream.question(row), connection=connection)
            truth = self.stream.truth(row, row >= self.turn)
            answer = json.loads(said) if status == 200 else {}
            self.failed += status != 200
            self.right.append(status == 200 and answer["outputs"][0]["data"][0] == truth)
            if status == 200:
                held.append({"prediction": answer["id"], "label": truth})
            if self.labels_due(row):
                self.send(held, connection)
                held = []

    def send(self, labels: list[dict], connection: http.client.HTTPSConnection) -> None:
        for begin in range(0, len(labels), 5_000):
            lines = "\n".join(json.dumps(label) for label in labels[begin : begin + 5_000]).encode()
            expect(*self.node.ask("POST", "/v1/feedback", lines, connection=connection))


def windowed(right: list[bool]) -> list[float]:
    """The share of right answers among the last rows, for each row."""
    shares, sum_ = [], 0
    for place, answer in enumerate(right):
        sum_ += answer
        if place >= WINDOW:
            sum_ -= right[place - WINDOW]
        shares.append(sum_ / min(place + 1, WINDOW))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", nargs="+", default=[], metavar="STREAM", help="how files begin")
    parser.add_argument("--rate", type=float, help="rows a second; 200, with --steady 1,000 examples a second")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a stream, at most")
    parser.add_argument("--learner", default="adaptive-random-forest")
    parser.add_argument("--catch-up", action="store_true", help="only how fast a new version goes through the joined log")
    parser.add_argument("--poison", action="store_true", help="only what one lying contributor of five does")
    parser.add_argument("--steady", action="store_true", help="only whether it keeps up with a thousand examples a second beside other requests")
    parser.add_argument("--minutes", type=float, default=6, help="how long --steady takes")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.rate = options.rate or (steady.RATE if options.steady else 200)
    load = os.getloadavg()[0]
    work = options.out.parent / "retrain"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    folder = options.data / "streams"
    targets = json.loads((folder / "targets.json").read_text()) if (folder / "targets.json").is_file() else {}
    files = [path for path in sorted(folder.glob("*.csv*")) if path.name not in targets]
    files += synthetic.write(options.out.parent / "streams")
    files = [path for path in files if not options.cases or any(path.name.startswith(case) for case in options.cases)]
    rows = 2_000 if options.quick else options.rows
    figures, ratios = [], []
    node = Node(options.mantlet, options.onnxruntime, work / "node")
    try:
        if options.catch_up:
            figures, ratios = catch_up(node, 5_000 if options.quick else CATCH_UP)
            files = []
        if options.steady:
            figures, ratios = steady.measure(node, 1 if options.quick else options.minutes, options.learner, options.out, options.rate)
            files = []
        for path in files[:2] if options.quick else files:
            stream = Stream(path, rows)
            if options.poison:
                say(f"{stream.name}: {len(stream.labels)} rows, one of {poison.CONTRIBUTORS} contributors lies")
                measured = poison.measure(node, stream, {"learner": options.learner}, options.rate)
            else:
                measured = measure(node, stream, options)
            figures += measured[0]
            ratios += measured[1]
    finally:
        node.stop()
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


def catch_up(node: Node, examples: int) -> tuple[list, list]:
    """Fills the joined log with examples, then deploys a version of each kind and waits until it has learnt them all."""
    rng = np.random.default_rng(5)
    spec = {
        "inputs": [{"name": "x", "type": "FP32", "shape": [-1, 16]}],
        "task": {"kind": "classification", "classes": ["no", "yes"]},
        "capture": {"input": "features", "bytes": "1MiB"},
    }

    def deploy(learner: dict) -> int:
        manifest = {"apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": {"name": "long"}, "spec": {"source": {"online": learner}, **spec}}
        status, said = node.ask("POST", "/v1/deploys", {"manifest": manifest})
        expect(status, said)
        return json.loads(said)["version"]

    def learnt(version: int) -> int:
        status, said = node.ask("GET", "/v1/models/long/evaluation")
        expect(status, said)
        known = json.loads(said).get("learning", [])
        return next((one["learnt"] for one in known if one["version"] == version), 0)

    version = deploy({"learner": "naive-bayes"})
    node.wait_for("long")
    began = time.monotonic()
    for _ in range(0, examples, BATCH):
        rows = rng.normal(size=(BATCH, 16)).astype(np.float32)
        tensor = {"name": "x", "shape": [BATCH, 16], "datatype": "FP32", "data": rows.ravel().tolist()}
        status, said = node.ask("POST", "/v2/models/long/infer", {"inputs": [tensor]})
        expect(status, said)
        prediction = json.loads(said)["id"]
        labels = [
            {"prediction": prediction, "row": row, "label": "yes" if rows[row, :3].sum() > 0 else "no"} for row in range(BATCH)
        ]
        expect(*node.ask("POST", "/v1/feedback", json.dumps(labels).encode()))
    while learnt(version) < examples:
        time.sleep(0.02)
    filled = examples / (time.monotonic() - began)
    print(f"  {examples} examples asked, labelled, joined and learnt (naive Bayes): {filled:.0f}/s", flush=True)
    figures, ratios = [figure("catch-up", "asked to learnt, naive-bayes", "examples_per_s", filled, "1/s")], []
    for learner, goal in (("logistic", 20_000), ("adaptive-random-forest", 5_000)):
        version = deploy({"learner": learner})
        began = None
        while (known := learnt(version)) < examples:
            # The version is seen within a second of its deploy; what counts is how fast it goes through the log then.
            if known and began is None:
                began, first = time.monotonic(), known
            time.sleep(0.01)
        speed = (examples - first) / (time.monotonic() - began)
        print(f"  {learner}: {speed:.0f} examples/s from the log", flush=True)
        figures.append(figure("catch-up", learner, "examples_per_s", speed, "1/s"))
        ratios.append(ratio("catch-up", f"{learner}, examples/s", speed, goal, least=True))
    return figures, ratios


def measure(node: Node, stream: Stream, options: argparse.Namespace) -> tuple[list, list]:
    learner = {"learner": options.learner}
    say(f"{stream.name}: {len(stream.labels)} rows")
    rows, turn = len(stream.labels), len(stream.labels) // 2
    quarter = rows // NIGHTS
    every = max(1, int(LABELS * options.rate))
    when = {
        "ours": lambda row: row % every == every - 1,
        "nightly": lambda row: row % quarter == quarter - 1,
        "frozen": lambda row: row == quarter - 1,
    }
    # The same learner at the same rows, had nothing turned: what there is to get back to.
    when["still"] = when["ours"]
    for name in when:
        expect(*node.ask("POST", "/v1/deploys", {"manifest": stream.manifest(name, learner)}))
        node.wait_for(name)
    began = time.monotonic() + 0.5
    due = [began + row / options.rate for row in range(rows)]
    turns = {name: rows if name == "still" else turn for name in when}
    subjects = {name: Subject(node, name, stream, due, turns[name], labels) for name, labels in when.items()}
    for subject in subjects.values():
        subject.start()
    for subject in subjects.values():
        subject.join()
        if subject.error:
            raise subject.error
    for name in when:
        expect(*node.ask("DELETE", f"/v1/models/{name}"))
    goal = windowed(subjects["still"].right)
    figures, after, recovered = [], {}, {}
    curves = {}
    minute = min(rows - 1, turn + int(60 * options.rate))
    for name, subject in subjects.items():
        shares = windowed(subject.right)
        since = subject.right[min(minute, rows - WINDOW):] or subject.right[-WINDOW:]
        after[name] = sum(since) / len(since)
        # From which row on the next ones are answered as well as had nothing turned.
        back = next((row for row in range(turn, rows - WINDOW) if shares[row + WINDOW] >= goal[row + WINDOW] - NEAR), None)
        recovered[name] = None if back is None else (back - turn) / options.rate
        whole = sum(subject.right) / rows
        figures += [
            figure(stream.name, name, "accuracy", whole, "1"),
            figure(stream.name, name, "accuracy_after", after[name], "1"),
            figure(stream.name, name, "failed", subject.failed, "1"),
        ]
        if recovered[name] is not None:
            figures.append(figure(stream.name, name, "recovery_s", recovered[name], "s"))
        step = max(1, rows // POINTS)
        curves[name] = [(row / options.rate, shares[row]) for row in range(0, rows, step)]
        print(f"  {name:8} {whole:.4f} of all, {after[name]:.4f} at the end, back after "
              f"{'never' if recovered[name] is None else f'{recovered[name]:.1f} s'}, {subject.failed} failed", flush=True)
    plot.lines(options.out.parent / f"retrain-{stream.name}.svg", f"{stream.name}: accuracy of the last {WINDOW} rows, by seconds", curves)
    ratios = [
        ratio(stream.name, "recovery of ours, s", recovered["ours"] if recovered["ours"] is not None else 1e9, 60, least=False),
        ratio(stream.name, "ours - frozen after the turn", after["ours"] - after["frozen"], 0.15, least=True),
        ratio(stream.name, "failed", sum(subject.failed for subject in subjects.values()), 0, least=False),
    ]
    return figures, ratios


if __name__ == "__main__":
    main()
