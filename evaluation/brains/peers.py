"""Scores the anomaly tables by PyOD's and River's detectors, and prints a JSON line for each figure.

PyOD's see the whole table, without labels, and then score it: more than who scores a row when it comes. River's half-space
trees score each row before they learn it, in the order that the seed shuffles, numbers scaled to [0, 1] by what came
before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.loda import LODA
from river import anomaly, compose, preprocessing
from sklearn.metrics import average_precision_score, roc_auc_score

SEEDS = 10
STEADY = {"pyod ecod"}


def batch(make: Callable[[int], object]) -> Callable[[np.ndarray, int], np.ndarray]:
    def scores(rows: np.ndarray, seed: int) -> np.ndarray:
        # The number of cores is not what is compared.
        np.random.seed(seed)
        return make(seed).fit(rows).decision_scores_

    return scores


def half_space(rows: np.ndarray, seed: int) -> np.ndarray:
    model = compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=seed))
    scores = np.empty(len(rows))
    for place, row in enumerate(rows.tolist()):
        named = dict(enumerate(row))
        scores[place] = model.score_one(named)
        model.learn_one(named)
    return scores


SUBJECTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "pyod iforest": batch(lambda seed: IForest(random_state=seed, n_jobs=1)),
    "pyod ecod": batch(lambda _: ECOD(n_jobs=1)),
    "pyod loda": batch(lambda _: LODA()),
    "river half-space": half_space,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", "../shared/data")))
    parser.add_argument("--quick", action="store_true", help="one seed")
    options = parser.parse_args()
    for path in sorted((options.data / "anomaly").glob("adbench_*.csv*")):
        table = pd.read_csv(path)
        labels = table.pop("label").to_numpy() > 0
        rows = table.to_numpy(dtype=float)
        for subject, scored in SUBJECTS.items():
            found: dict[str, list[float]] = {"roc_auc": [], "pr_auc": [], "rows_per_s": []}
            # River takes minutes for a table: three seeds.
            seeds = 1 if options.quick or subject in STEADY else 3 if subject.startswith("river") else SEEDS
            for seed in range(seeds):
                order = np.random.default_rng(seed).permutation(len(rows))
                began = time.perf_counter()
                scores = scored(rows[order], seed)
                found["rows_per_s"].append(len(rows) / (time.perf_counter() - began))
                found["roc_auc"].append(roc_auc_score(labels[order], scores))
                found["pr_auc"].append(average_precision_score(labels[order], scores))
            case = path.name.split(".")[0]
            for metric, values in found.items():
                figure = {"case": case, "subject": subject, "metric": metric, "value": statistics.mean(values)}
                print(json.dumps(figure | {"unit": "1/s" if metric == "rows_per_s" else "1"}), flush=True)


if __name__ == "__main__":
    main()
