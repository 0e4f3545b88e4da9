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

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
sys.path.append(str(HERE.parent / "streams"))

from rig import Node, expect, figure, print_ratios, ratio  # noqa: E402 (the path above is where it lies)
from environments import ROOT, say  # noqa: E402 (rig.py makes its folder known)
import plot  # noqa: E402
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


def without_turn(node: Node, stream: Stream, learner: dict, path: Path) -> list[bool]:
    """What the same learner says of each row of the stream without a turn, when every label comes at once: it is taught
    through the same door, and its own figures are not needed, only its answers before it learnt each example."""
    name = f"{stream.name}-still".replace("_", "-")[:63]
    expect(*node.ask("POST", "/v1/deploys", {"manifest": stream.manifest(name, learner)}))
    node.wait_for(name)
    rows = len(stream.labels)
    labels = []
    connection = node.connect()
    for row in range(rows):
        status, said = node.ask("POST", f"/v2/models/{name}/infer", stream.question(row), connection=connection)
        expect(status, said)
        labels.append({"prediction": json.loads(said)["id"], "label": stream.truth(row, False)})
        if len(labels) == 500 or row + 1 == rows:
            body = "\n".join(map(json.dumps, labels)).encode()
            expect(*node.ask("POST", "/v1/feedback", body, connection=connection))
            labels = []
    while True:
        status, said = node.ask("GET", f"/v1/models/{name}/evaluation", connection=connection)
        expect(status, said)
        learning = json.loads(said)["learning"]
        if learning and learning[0]["learnt"] >= rows:
            break
        time.sleep(0.1)
    figures = learning[0]["figures"]
    path.write_text(json.dumps(figures))
    expect(*node.ask("DELETE", f"/v1/models/{name}", connection=connection))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", nargs="+", default=[], metavar="STREAM", help="how files begin")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a stream, at most")
    parser.add_argument("--learner", default="adaptive-random-forest")
    options = parser.parse_args()
    options.out = options.out.resolve()
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
        for path in files[:2] if options.quick else files:
            measured = measure(node, Stream(path, rows), options, work)
            figures += measured[0]
            ratios += measured[1]
    finally:
        node.stop()
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


def measure(node: Node, stream: Stream, options: argparse.Namespace, work: Path) -> tuple[list, list]:
    learner = {"learner": options.learner}
    say(f"{stream.name}: {len(stream.labels)} rows")
    still = without_turn(node, stream, learner, work / f"{stream.name}-still.json")
    rows, turn = len(stream.labels), len(stream.labels) // 2
    quarter = rows // NIGHTS
    every = max(1, int(LABELS * options.rate))
    when = {
        "ours": lambda row: row % every == every - 1,
        "nightly": lambda row: row % quarter == quarter - 1,
        "frozen": lambda row: row == quarter - 1,
    }
    for name in when:
        expect(*node.ask("POST", "/v1/deploys", {"manifest": stream.manifest(name, learner)}))
        node.wait_for(name)
    began = time.monotonic() + 0.5
    due = [began + row / options.rate for row in range(rows)]
    subjects = {name: Subject(node, name, stream, due, turn, labels) for name, labels in when.items()}
    for subject in subjects.values():
        subject.start()
    for subject in subjects.values():
        subject.join()
        if subject.error:
            raise subject.error
    for name in when:
        expect(*node.ask("DELETE", f"/v1/models/{name}"))
    # The last rows of the stream without a turn are what there is to get back to.
    goal = still["short"]["accuracy"]
    figures, after, recovered = [], {}, {}
    curves = {}
    minute = min(rows - 1, turn + int(60 * options.rate))
    for name, subject in subjects.items():
        shares = windowed(subject.right)
        since = subject.right[min(minute, rows - WINDOW):] or subject.right[-WINDOW:]
        after[name] = sum(since) / len(since)
        back = next((row for row in range(turn + 1, rows) if shares[row] >= goal - NEAR), None)
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
