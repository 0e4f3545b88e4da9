"""Runs one peer over one labelled stream, test then train, and prints a JSON line as our own example does.

Run: python peers.py --file S.csv[.gz] --subject "moa arf-10" [--seed 1] [--delay 0]

MOA runs its own loop, after one over the first rows to warm Java up; River's dictionaries are made before the clock runs. The
clock is the CPU time of the thread that learns: what else the machine does does not count, and neither do Java's own threads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import resource
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

TIMES = ("timestamp", "date", "date_time", "ts", "batch")
WARM = 5_000
# Rows that one point of the curve over time tells of, as of our own.
WINDOW = 500
LEAST = 1e-15


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features as numbers (words by code, in order of appearance) and classes from 0, by the rules of our own example."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as file:
        table = pd.read_csv(file)
    labels = pd.factorize(table.pop("label"))[0]
    table = table.drop(columns=[name for name in TIMES if name in table])
    for name in table:
        if not pd.api.types.is_numeric_dtype(table[name]):
            codes = pd.factorize(table[name])[0].astype(float)
            table[name] = np.where(codes < 0, np.nan, codes)
    return table.to_numpy(dtype=float), labels


def figures(counts: np.ndarray, right: np.ndarray | list[bool]) -> dict:
    """What a run's answers were worth, as our own example says it; `right` says it row by row."""
    total, hits = counts.sum(), np.trace(counts)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    chance, seen = float((rows * columns).sum() / total**2), rows > 0
    return {
        "accuracy": hits / total,
        "balanced_accuracy": float((np.diag(counts)[seen] / rows[seen]).mean()),
        "kappa": (hits / total - chance) / (1 - chance),
        "curve": [float(np.sum(right[begin : begin + WINDOW])) / WINDOW for begin in range(0, len(right) - WINDOW + 1, WINDOW)],
    }


class Tally:
    """What a run adds up, answer by answer."""

    def __init__(self, classes: int) -> None:
        self.confusion, self.loss = np.zeros((classes, classes)), 0.0
        self.right: list[bool] = []

    def add(self, probabilities: np.ndarray, label: int) -> None:
        said = int(np.argmax(probabilities))
        self.confusion[label, said] += 1
        self.right.append(said == label)
        self.loss -= math.log(min(1.0, max(LEAST, probabilities[label])))

    def figures(self) -> dict:
        return figures(self.confusion, self.right) | {"log_loss": self.loss / len(self.right)}


def river_learner(name: str, width: int, seed: int):
    from river import drift, ensemble, forest, naive_bayes, tree

    if name.startswith("arf-"):
        return forest.ARFClassifier(
            n_models=int(name[4:]), lambda_value=6, max_features=max(1, round(0.6 * width)), grace_period=50, delta=0.01,
            tau=0.05, leaf_prediction="nba", drift_detector=drift.ADWIN(0.001), warning_detector=drift.ADWIN(0.01), seed=seed,
        )
    if name.startswith("srp-"):
        return ensemble.SRPClassifier(n_models=int(name[4:]), seed=seed)
    return {"ht": tree.HoeffdingTreeClassifier(), "nb": naive_bayes.GaussianNB()}[name]


def river(name: str, features: np.ndarray, labels: np.ndarray, seed: int, delay: int) -> dict:
    learner, classes = river_learner(name, features.shape[1], seed), int(labels.max()) + 1
    rows = [{n: value for n, value in enumerate(row) if value == value} for row in features.tolist()]
    tally, late = Tally(classes), deque()

    def step(place: int) -> None:
        said = learner.predict_proba_one(rows[place])
        tally.add(np.array([said.get(label, 0.0) for label in range(classes)]), int(labels[place]))
        late.append(place)
        if len(late) > delay:
            known = late.popleft()
            learner.learn_one(rows[known], int(labels[known]))

    return timed(step, len(labels)) | tally.figures()


def moa_learner(name: str, schema, seed: int):
    from capymoa import classifier

    kind, _, number = name.partition("-")
    size = int(number or 0)
    if kind == "arf":
        return classifier.AdaptiveRandomForestClassifier(schema=schema, random_seed=seed, ensemble_size=size)
    if kind == "srp":
        return classifier.StreamingRandomPatches(schema=schema, random_seed=seed, ensemble_size=size)
    if kind == "lb":
        return classifier.LeveragingBagging(schema=schema, random_seed=seed, ensemble_size=size)
    if kind == "sgbt":
        return classifier.StreamingGradientBoostedTrees(schema=schema, random_seed=seed)
    plain = {"ht": classifier.HoeffdingTree, "hat": classifier.HoeffdingAdaptiveTree, "nb": classifier.NaiveBayes}
    return {**plain, "knn": classifier.KNN}[kind](schema=schema)


def moa(name: str, features: np.ndarray, labels: np.ndarray, seed: int, delay: int) -> dict:
    from capymoa.evaluation import prequential_evaluation
    from capymoa.stream import NumpyStream

    def stream(rows: int):
        return NumpyStream(features[:rows], labels[:rows], dataset_name="stream", target_type="categorical")

    if delay == 0:
        warm = stream(min(WARM, len(labels)))
        prequential_evaluation(stream=warm, learner=moa_learner(name, warm.get_schema(), seed), window_size=1_000)
        whole = stream(len(labels))
        began = time.thread_time()
        results = prequential_evaluation(
            stream=whole, learner=moa_learner(name, whole.get_schema(), seed), window_size=WINDOW, optimise=True
        )
        seconds = time.thread_time() - began
        found = results.cumulative
        return {
            "rows_per_s": len(labels) / seconds,
            "accuracy": found.accuracy() / 100,
            "kappa": found.kappa() / 100,
            # What it calls `recall` is the accuracy once more.
            "balanced_accuracy": found.metrics_dict()["Recall macro (percent)"] / 100,
            "curve": [value / 100 for value in results.windowed.accuracy()][: len(labels) // WINDOW],
        }
    classes, whole = int(labels.max()) + 1, stream(len(labels))
    learner, tally, late = moa_learner(name, whole.get_schema(), seed), Tally(classes), deque()

    def step(place: int) -> None:
        instance = whole.next_instance()
        said = np.zeros(classes)
        votes = np.asarray(learner.predict_proba(instance) if learner.predict_proba(instance) is not None else [])
        said[: len(votes)] = votes[:classes]
        tally.add(said / said.sum() if said.sum() > 0 else np.full(classes, 1 / classes), int(labels[place]))
        late.append(instance)
        if len(late) > delay:
            learner.train(late.popleft())

    # Python's part of the loop is not MOA's speed.
    return {key: value for key, value in (timed(step, len(labels)) | tally.figures()).items() if key != "rows_per_s"}


def plain(name: str, _: np.ndarray, labels: np.ndarray, __: int, delay: int) -> dict:
    """The rules to beat: the most frequent class so far, and the last label."""
    classes = int(labels.max()) + 1
    tally, counts = Tally(classes), Counter()
    for place, label in enumerate(labels):
        known = place - delay - 1
        said = np.full(classes, 1e-3)
        if known >= 0:
            counts[int(labels[known])] += 1
            said[int(labels[known]) if name == "no-change" else counts.most_common(1)[0][0]] = 1.0
        tally.add(said / said.sum(), int(label))
    return tally.figures()


def timed(step: Callable[[int], None], rows: int) -> dict:
    """Runs every step; a long stream is timed after its first rows."""
    began, start = time.thread_time(), 0
    for place in range(rows):
        if place == WARM and rows > 2 * WARM:
            began, start = time.thread_time(), place
        step(place)
    return {"rows_per_s": (rows - start) / (time.thread_time() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--subject", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=int, default=0)
    parser.add_argument("--rows", type=int, help="the first rows alone")
    options = parser.parse_args()
    features, labels = read(options.file)
    features, labels = features[: options.rows], labels[: options.rows]
    family, _, name = options.subject.partition(" ")
    run = {"river": river, "moa": moa}.get(family, plain)
    figures = run(name or family, features, labels, options.seed, options.delay)
    case = options.file.name.removesuffix(".gz").removesuffix(".csv")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = {"case": case, "subject": options.subject, "seed": options.seed, "delay": options.delay, "rows": len(labels)}
    print(json.dumps(said | figures | {"peak_mb": peak}))


if __name__ == "__main__":
    main()
