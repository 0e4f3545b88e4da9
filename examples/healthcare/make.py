"""Trains a tumour classifier on scikit-learn's breast cancer table and writes it as ONNX.

Run: python make.py OUT

OUT then holds model.onnx, manifest.yaml, rows.npz (every row with its label, and whether it was kept
out of training) and request.json (two rows kept out of training as an inference request); for retraining also
retraining.yaml, train.py, jobs.toml, which names train.py as a job of a node, and mantlet.toml, which names jobs.toml.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
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


def job() -> str:
    """How a node is told of train.py: this Python runs it, and may read itself and what it imports."""
    read = sorted({sys.prefix, sys.base_prefix})
    command = [sys.executable, "train.py"]
    return f"[tumour]\ncommand = {json.dumps(command)}\nread = {json.dumps(read)}\ntime = \"10m\"\nmemory = \"2GiB\"\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the example into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    table = load_breast_cancer()
    every = np.arange(len(table.data))
    trained, held = train_test_split(
        every, test_size=0.4, random_state=SEED, stratify=table.target
    )
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    classifier.fit(table.data[trained], table.target[trained])

    model = to_onnx(
        classifier,
        initial_types=[("features", FloatTensorType([None, table.data.shape[1]]))],
        # Without this the probabilities leave the graph as a list of maps.
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    (out / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for name in ("manifest.yaml", "retraining.yaml", "train.py"):
        shutil.copyfile(HERE / name, out / name)
    (out / "jobs.toml").write_text(job())
    (out / "mantlet.toml").write_text(f"[trainer]\njobs = {json.dumps(str(out.resolve() / 'jobs.toml'))}\n")

    features = table.data.astype(np.float32)
    labels = table.target.astype(np.int64)
    np.savez(out / "rows.npz", features=features, label=labels, kept_out=np.isin(every, held))
    request = {
        "inputs": [
            {
                "name": "features",
                "shape": [2, features.shape[1]],
                "datatype": "FP32",
                "data": features[held[:2]].ravel().tolist(),
            }
        ]
    }
    (out / "request.json").write_text(json.dumps(request, indent=1) + "\n")

    accuracy = classifier.score(table.data[held], table.target[held])
    print(f"trained on {len(trained)} of {len(every)} rows, all of them in {out}/rows.npz")
    print(f"accuracy of scikit-learn's own model on the other {len(held)}: {accuracy:.3f}")


if __name__ == "__main__":
    main()
