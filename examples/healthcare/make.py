"""Trains a tumour classifier on scikit-learn's breast cancer table and writes it as ONNX.

Run: python make.py OUT

OUT then holds model.onnx, manifest.yaml, rows.npz (the rows kept out of training, with labels) and
request.json (two of those rows as an inference request).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
SEED = 7
OPSETS = {"": 17, "ai.onnx.ml": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the example into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    table = load_breast_cancer()
    train_rows, held_rows, train_labels, held_labels = train_test_split(
        table.data, table.target, test_size=0.4, random_state=SEED, stratify=table.target
    )
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    classifier.fit(train_rows, train_labels)

    model = to_onnx(
        classifier,
        initial_types=[("features", FloatTensorType([None, table.data.shape[1]]))],
        # Without this the probabilities leave the graph as a list of maps.
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    (out / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    shutil.copyfile(HERE / "manifest.yaml", out / "manifest.yaml")

    features = held_rows.astype(np.float32)
    labels = held_labels.astype(np.int64)
    np.savez(out / "rows.npz", features=features, label=labels)
    request = {
        "inputs": [
            {
                "name": "features",
                "shape": [2, features.shape[1]],
                "datatype": "FP32",
                "data": features[:2].ravel().tolist(),
            }
        ]
    }
    (out / "request.json").write_text(json.dumps(request, indent=1) + "\n")

    accuracy = classifier.score(held_rows, held_labels)
    print(f"trained on {len(train_rows)} rows; {len(features)} rows kept out in {out}/rows.npz")
    print(f"accuracy of scikit-learn's own model on them: {accuracy:.3f}")


if __name__ == "__main__":
    main()
