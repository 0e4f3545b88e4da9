"""Models that are attacked: tree, linear and neural ones, trained on real data. Not a script."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MOST_ROWS = 15_000
TABLES = {
    "electricity": "streams/electricity.csv.gz",
    "insects": "streams/insects_gradual_balanced.csv.gz",
    "covtype": "streams/covtype_balanced_15k.csv.gz",
    "phishing": "streams/phishing_websites.csv.gz",
    "weather": "streams/noaa_weather.csv.gz",
    "spam": "streams/spam_emails.csv.gz",
    "satellite": "anomaly/adbench_satellite.csv.gz",
}
PAIRS = (
    ("electricity", "tree"), ("electricity", "neural"), ("insects", "neural"), ("insects", "tree"), ("covtype", "tree"),
    ("covtype", "linear"), ("phishing", "linear"), ("phishing", "tree"), ("weather", "linear"), ("spam", "linear"),
    ("satellite", "neural"), ("digits", "neural"), ("digits", "linear"),
)  # fmt: skip


def learner(kind: str) -> BaseEstimator:
    if kind == "tree":
        return RandomForestClassifier(20, min_samples_leaf=3, random_state=0)
    if kind == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=40, random_state=0))


@dataclass
class Victim:
    """A model, and rows that it did not learn: the attacker's, those to measure on, and those of ordinary callers."""

    name: str
    kind: str
    model: BaseEstimator
    classes: int
    learnt: tuple[np.ndarray, np.ndarray]
    attacker: tuple[np.ndarray, np.ndarray]
    test: np.ndarray
    benign: np.ndarray
    image: bool

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(np.asarray(rows, dtype=np.float32)).astype(np.float32)


def read(data: Path, table: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows in order of arrival and labels; an image's rows come with shifted and noisy copies."""
    if table == "digits":
        digits = load_digits()
        images, labels = digits.images, digits.target
        chance = np.random.default_rng(5)
        order = np.concatenate([chance.permutation(len(images)) for _ in range(6)])
        made = np.stack([np.roll(images[i], chance.integers(-1, 2), axis=1) if n >= len(images) else images[i] for n, i in enumerate(order)])
        noisy = np.clip(np.round(made + chance.normal(0, 0.7, made.shape) * (made > 0)), 0, 16)
        return noisy.reshape(len(order), -1).astype(np.float32), labels[order]
    path = data / TABLES[table]
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        header, *lines = list(csv.reader(file))
    used = [i for i, name in enumerate(header) if name not in ("label", "date", "timestamp")]
    rows = np.array([[float(line[i] or "nan") for i in used] for line in lines[:MOST_ROWS]], dtype=np.float32)
    _, labels = np.unique([line[-1] for line in lines[:MOST_ROWS]], return_inverse=True)
    return rows, labels


def victim(data: Path, table: str, kind: str) -> Victim:
    """Trained on every fourth row or so of the whole time; the rest is dealt to the others, each in order of arrival."""
    rows, labels = read(data, table)
    part = np.random.default_rng(3).choice(4, len(rows), p=(0.3, 0.25, 0.1, 0.35))
    model = learner(kind).fit(rows[part == 0], labels[part == 0])
    return Victim(
        f"{table}-{kind}",
        kind,
        model,
        len(model.classes_),
        (rows[part == 0], labels[part == 0]),
        (rows[part == 1], labels[part == 1]),
        rows[part == 2],
        rows[part == 3],
        table == "digits",
    )
