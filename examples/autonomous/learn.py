"""Asks how long engines will run: a model that learns, its twin that stopped learning, and a plain rule.

Run: python examples/autonomous/learn.py --data-dir DIR

How long an engine ran is known when it is worn out. Every eighth week the garage reports which those were, and each prediction
about them gets its label. The twin is told so in the first quarter alone. The rule is the mean life of the engines that wore out
so far, less the engine's age. Prints by how many weeks each was wrong on average, for each eighth of the stream.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "testkit/python"))

from demo import RestClient  # noqa: E402 (the path above is where it lies)
from engines import ENGINES, WEEKS, simulate  # noqa: E402
from node import read_node  # noqa: E402

SEED = 5
PART = WEEKS // 8
REPORT = 8
TWIN_LEARNS = WEEKS // 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--frozen", default="engine-life-frozen", help="the model that stops learning")
    parser.add_argument("--live", default="engine-life", help="the one that goes on")
    parser.add_argument("--rate", type=float, default=10, help="weeks a second")
    options = parser.parse_args()
    node = read_node(options.data_dir)
    clients = {"stopped": RestClient(node, options.frozen), "learns": RestClient(node, options.live)}
    fleet, rng = simulate(SEED), np.random.default_rng(SEED)
    left, age = fleet.left, fleet.sensors["age"]
    wrong = {name: np.zeros((WEEKS, ENGINES)) for name in ("mean life less age", *clients)}
    predictions: dict[str, list[str]] = {name: [] for name in clients}
    began = time.monotonic()
    print(f"{'weeks':>11}  " + "  ".join(f"{name:>18}" for name in wrong))
    for week in range(WEEKS):
        time.sleep(max(0.0, began + week / options.rate - time.monotonic()))
        lives = age[:week][left[:week] == 0]
        rule = np.maximum(lives.mean() - age[week], 0) if len(lives) else np.zeros(ENGINES)
        wrong["mean life less age"][week] = np.abs(rule - left[week])
        for name, client in clients.items():
            outputs, prediction = client.infer({column: rows[week][:, None] for column, rows in fleet.sensors.items()})
            wrong[name][week] = np.abs(outputs["value"].ravel() - left[week])
            predictions[name].append(prediction)
        if (week + 1) % REPORT == 0:
            told = rng.permutation(reported(left, week))
            for name, client in clients.items():
                if name == "learns" or week < TWIN_LEARNS:
                    client.label([fact(predictions[name][asked], int(engine), left[asked, engine]) for asked, engine in told])
        if (week + 1) % PART == 0:
            part = slice(week + 1 - PART, week + 1)
            cells = [f"{errors[part].mean():.1f}" for errors in wrong.values()]
            print(f"{part.start:4} – {part.stop:4}  " + "  ".join(f"{text:>18}" for text in cells), flush=True)


def reported(left: np.ndarray, week: int) -> np.ndarray:
    """Weeks and engines of what was asked about engines that wore out since the last report, [predictions, 2]."""
    asked, engine = np.nonzero(left[: week + 1] >= 0)
    end = asked + left[asked, engine]
    now = (end <= week) & (end > week - REPORT)
    return np.column_stack([asked[now], engine[now]])


def fact(prediction: str, row: int, left: float) -> dict:
    return {"prediction": prediction, "row": row, "label": left}


if __name__ == "__main__":
    main()
