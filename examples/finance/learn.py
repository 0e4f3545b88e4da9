"""Asks the model that learns and the one that does not about the same payments, and tells the first what was right.

Run: python examples/finance/learn.py --data-dir DIR --rows rows.npz

Each payment's label comes 100 payments later, as a chargeback does. Prints for every 250 payments how often each model was
right, and which share of the frauds it found.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "testkit/python"))

from demo import RestClient, each_row, predicted_label  # noqa: E402 (the path above is where it lies)
from node import read_node  # noqa: E402
from reference import load_rows  # noqa: E402

CLASSES = ("honest", "fraud")
LATE = 100
PART = 250


def said(outputs: dict) -> int:
    """The class an answer stands for."""
    if "label" in outputs and outputs["label"].dtype == object:
        return CLASSES.index(outputs["label"].ravel()[0].decode())
    return predicted_label(outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--frozen", default="card-fraud", help="the model that does not learn")
    parser.add_argument("--live", default="card-fraud-live", help="the one that does")
    parser.add_argument("--rate", type=float, default=100, help="payments a second")
    options = parser.parse_args()
    node = read_node(options.data_dir)
    rows = load_rows(options.rows)
    clients = {"does not learn": RestClient(node, options.frozen), "learns": RestClient(node, options.live)}
    truth = rows.labels.astype(int)
    answers: dict[str, list[int]] = {name: [] for name in clients}
    predictions: list[str] = []
    began = time.monotonic()
    print(f"{'payments':>12}  " + "  ".join(f"{name:>24}" for name in clients))
    for number, row in enumerate(each_row(rows.inputs)):
        time.sleep(max(0.0, began + number / options.rate - time.monotonic()))
        for name, client in clients.items():
            outputs, prediction = client.infer(row)
            answers[name].append(said(outputs))
        predictions.append(prediction)
        if number % 10 == 9:
            due = range(max(0, number - 9 - LATE), max(0, number + 1 - LATE))
            clients["learns"].label([{"prediction": predictions[n], "label": CLASSES[truth[n]]} for n in due])
        if number % PART == PART - 1:
            part = slice(number + 1 - PART, number + 1)
            cells = [cell(np.array(answers[name][part]), truth[part]) for name in clients]
            print(f"{part.start:5} – {part.stop:4}  " + "  ".join(f"{text:>24}" for text in cells), flush=True)


def cell(found: np.ndarray, truth: np.ndarray) -> str:
    caught = (found[truth == 1] == 1).mean() if (truth == 1).any() else float("nan")
    return f"{(found == truth).mean():.1%} right, {caught:.0%} found"


if __name__ == "__main__":
    main()
