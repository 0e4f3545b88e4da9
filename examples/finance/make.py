"""Makes a stream of card payments whose fraud changes its ways, and trains a model on its start.

Run: python make.py OUT

OUT then holds model.onnx, manifest.yaml, rows.npz (the 2,000 payments after the training part, in
order of arrival, with labels) and request.json (three of them as an inference request).

The generator: each payment has an amount, the hour, minutes since the card's last payment, distance
from the holder's home, a merchant kind and a country. A hidden rule decides what fraud looks like:

- before the drift: large amounts at night, far from home, mostly electronics and travel;
- after the drift: small amounts in quick succession, near home, mostly gift cards and games.

The drift is sudden, at payment 6,000 + 1,000: half-way through rows.npz. One payment in five is a
fraud, far more than in life, so that a short stream shows the change.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

HERE = Path(__file__).resolve().parent
SEED = 11
OPSETS = {"": 17, "ai.onnx.ml": 3}

TRAINED = 6_000
SERVED_BEFORE_DRIFT = 1_000
SERVED_AFTER_DRIFT = 1_000
FRAUD_SHARE = 0.2

NUMBERS = ["amount", "hour", "minutes_since_last", "km_from_home"]
MERCHANTS = ["electronics", "fuel", "games", "gift_cards", "groceries", "travel"]
COUNTRIES = ["DE", "ES", "FR", "IT", "PL"]
WORDS = {"merchant": MERCHANTS, "country": COUNTRIES}

# Draws a number of payments of one sort.
Rows = Callable[[np.random.Generator, int], pd.DataFrame]


def honest(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Payments by the card's holder: daytime, close to home, mostly groceries and fuel."""
    return payments(
        amount=rng.lognormal(3.3, 0.8, count),
        hour=rng.normal(14, 4, count) % 24,
        minutes_since_last=rng.exponential(700, count),
        km_from_home=rng.exponential(12, count),
        merchant=rng.choice(MERCHANTS, count, p=[0.1, 0.25, 0.08, 0.05, 0.42, 0.1]),
        country=rng.choice(COUNTRIES, count, p=[0.8, 0.05, 0.05, 0.05, 0.05]),
    )


def old_fraud(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Fraud before the drift: a stolen card used far away, at night, for things worth reselling."""
    return payments(
        amount=rng.lognormal(5.6, 0.7, count),
        hour=rng.normal(2, 2.5, count) % 24,
        minutes_since_last=rng.exponential(400, count),
        km_from_home=rng.exponential(500, count),
        merchant=rng.choice(MERCHANTS, count, p=[0.45, 0.05, 0.05, 0.05, 0.05, 0.35]),
        country=rng.choice(COUNTRIES, count, p=[0.2, 0.2, 0.2, 0.2, 0.2]),
    )


def new_fraud(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Fraud after the drift: a copied card number tried online with many small payments."""
    return payments(
        amount=rng.lognormal(2.3, 0.5, count),
        hour=rng.normal(14, 4, count) % 24,
        minutes_since_last=rng.exponential(4, count),
        km_from_home=rng.exponential(12, count),
        merchant=rng.choice(MERCHANTS, count, p=[0.05, 0.05, 0.4, 0.4, 0.05, 0.05]),
        country=rng.choice(COUNTRIES, count, p=[0.8, 0.05, 0.05, 0.05, 0.05]),
    )


def payments(**columns: np.ndarray) -> pd.DataFrame:
    """The columns as a table, numbers in float32 and within the manifest's ranges."""
    table = pd.DataFrame(columns)
    table["amount"] = table["amount"].round(2).clip(0.01, 20_000)
    table["minutes_since_last"] = table["minutes_since_last"].clip(0, 100_000)
    table["km_from_home"] = table["km_from_home"].clip(0, 20_000)
    return table.astype({name: np.float32 for name in NUMBERS})


def stream(rng: np.random.Generator, count: int, fraud: Rows) -> tuple[pd.DataFrame, np.ndarray]:
    """`count` payments in a random order; labels are 1 where the payment is a fraud."""
    labels = (rng.random(count) < FRAUD_SHARE).astype(np.int64)
    table, frauds = honest(rng, count), fraud(rng, count)
    table.loc[labels == 1] = frauds.loc[labels == 1]
    return table, labels


def train(table: pd.DataFrame, labels: np.ndarray) -> Pipeline:
    """Gradient boosting over the numbers and the one-hot words."""
    columns = ColumnTransformer(
        [
            ("numbers", "passthrough", NUMBERS),
            (
                "words",
                OneHotEncoder(categories=list(WORDS.values()), sparse_output=False),
                list(WORDS),
            ),
        ]
    )
    booster = HistGradientBoostingClassifier(max_iter=80, max_leaf_nodes=15, random_state=SEED)
    return make_pipeline(columns, booster).fit(table, labels)


def to_model(classifier: Pipeline) -> bytes:
    """The pipeline as one ONNX graph, one input of shape [rows, 1] per column."""
    numbers = [(name, FloatTensorType([None, 1])) for name in NUMBERS]
    words = [(name, StringTensorType([None, 1])) for name in WORDS]
    model = to_onnx(
        classifier,
        initial_types=numbers + words,
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    return model.SerializeToString(deterministic=True)


def to_request(table: pd.DataFrame) -> dict:
    """The rows as an Open Inference Protocol request."""
    inputs = []
    for name in NUMBERS + list(WORDS):
        datatype = "FP32" if name in NUMBERS else "BYTES"
        data = [value if datatype == "BYTES" else float(value) for value in table[name]]
        inputs.append({"name": name, "shape": [len(table), 1], "datatype": datatype, "data": data})
    return {"inputs": inputs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the example into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(SEED)
    classifier = train(*stream(rng, TRAINED, old_fraud))
    before, before_labels = stream(rng, SERVED_BEFORE_DRIFT, old_fraud)
    after, after_labels = stream(rng, SERVED_AFTER_DRIFT, new_fraud)

    (out / "model.onnx").write_bytes(to_model(classifier))
    shutil.copyfile(HERE / "manifest.yaml", out / "manifest.yaml")
    rows = pd.concat([before, after], ignore_index=True)
    numbers = {name: rows[[name]].to_numpy() for name in NUMBERS}
    words = {name: rows[[name]].to_numpy().astype("S") for name in WORDS}
    labels = np.concatenate([before_labels, after_labels])
    np.savez(out / "rows.npz", **numbers, **words, label=labels)
    (out / "request.json").write_text(json.dumps(to_request(rows[:3]), indent=1) + "\n")

    print(f"trained on {TRAINED} payments; {len(rows)} more in {out}/rows.npz")
    print(f"accuracy before the drift: {classifier.score(before, before_labels):.3f}")
    print(
        f"accuracy after it, from row {len(before)} on: {classifier.score(after, after_labels):.3f}"
    )


if __name__ == "__main__":
    main()
