"""Trains the tumour classifier on what labels taught: a job of the node, which runs it confined.

It gets examples as Parquet in $MANTLET_JOB_DATA and parameters as JSON in $MANTLET_JOB_PARAMETERS, and leaves a model in
$MANTLET_JOB_MODEL and what it says of it in $MANTLET_JOB_METRICS. What it prints is shown by `mantlet jobs`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

# A job can make no semaphores, and joblib, which reads this as it is imported, need not warn of that.
# ruff: noqa: E402
os.environ["JOBLIB_MULTIPROCESSING"] = "0"

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CLASSES = ["malignant", "benign"]
OPSETS = {"": 17, "ai.onnx.ml": 3}
OWN = ["label", "at", "prediction", "row"]


def main() -> None:
    examples = pd.read_parquet(os.environ["MANTLET_JOB_DATA"]).sort_values("at", kind="stable")
    parameters = json.loads(Path(os.environ["MANTLET_JOB_PARAMETERS"]).read_text())
    features = examples.drop(columns=OWN).to_numpy(np.float32)
    labels = examples["label"].map(CLASSES.index).to_numpy()
    # The last fifth came last, and judges.
    cut = len(examples) * 4 // 5
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=parameters.get("C", 1.0), max_iter=1_000))
    classifier.fit(features[:cut], labels[:cut])
    accuracy = classifier.score(features[cut:], labels[cut:])
    print(f"trained on {cut} examples, right on {accuracy:.1%} of the {len(examples) - cut} that came later")
    model = to_onnx(
        classifier,
        initial_types=[("features", FloatTensorType([None, features.shape[1]]))],
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    Path(os.environ["MANTLET_JOB_MODEL"]).write_bytes(model.SerializeToString(deterministic=True))
    Path(os.environ["MANTLET_JOB_METRICS"]).write_text(json.dumps({"accuracy": accuracy, "examples": len(examples)}))


if __name__ == "__main__":
    main()
