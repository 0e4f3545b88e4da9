"""A new device measures everything half as large again; pathologists say later what each tumour was.

Run: python examples/healthcare/device.py --data-dir DIR --rows rows.npz [--rounds 3] [--factor 1.5]

Sends every row, a little blurred, in each round; labels follow 50 rows later. Prints how often the served model was right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "testkit/python"))

from demo import RestClient, predicted_label  # noqa: E402 (the path above is where it lies)
from node import read_node  # noqa: E402

CLASSES = ("malignant", "benign")
LATE = 50
BLUR = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--name", default="tumour")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows, client = np.load(options.rows), RestClient(read_node(options.data_dir), options.name)
    rng = np.random.default_rng(options.seed)
    for part in range(options.rounds):
        order, right, waiting = rng.permutation(len(rows["label"])), 0, []
        for place in order:
            blur = 1 + BLUR * rng.standard_normal(rows["features"].shape[1])
            row = (rows["features"][place] * options.factor * blur).astype(np.float32)
            truth = int(rows["label"][place])
            outputs, prediction = client.infer({"features": row[None, :]})
            right += predicted_label(outputs) == truth
            waiting.append({"prediction": prediction, "label": CLASSES[truth]})
            if len(waiting) > LATE:
                client.label(waiting[:LATE])
                del waiting[:LATE]
        client.label(waiting)
        print(f"round {part + 1}: {right / len(order):.1%} of {len(order)} right", flush=True)


if __name__ == "__main__":
    main()
