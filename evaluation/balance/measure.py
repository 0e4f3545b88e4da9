"""Measures how long real models work on requests of unlike size: what the case `measured` draws from.

Run: python measure.py --data DIR > measured.csv

One thread of ONNX Runtime, as a model server has for each request; inputs filled by the rule of `expected_outputs.json`,
of the models that take any number of rows, since the replicas that are chosen among have one model: one to sixteen rows.
Columns: model, bytes of the inputs, rows, milliseconds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy
import onnxruntime

ROWS = (1, 2, 4, 8, 16)
TIMES = 100
KINDS = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32, "tensor(uint8)": numpy.uint8}


def inputs_of(model: dict, session: onnxruntime.InferenceSession, rows: int) -> dict[str, numpy.ndarray] | None:
    made = {}
    for given, declared in zip(model["inputs"], session.get_inputs()):
        shape = list(given["shape"])
        if not isinstance(declared.shape[0] if declared.shape else None, int) and shape:
            shape[0] = rows
        else:
            return None
        values = numpy.random.default_rng(rows).random(shape)
        made[declared.name] = values.astype(KINDS.get(declared.type, numpy.float32))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data / "models"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    print("model,bytes,rows,ms")
    for model in json.loads((folder / "expected_outputs.json").read_text())["models"]:
        session = onnxruntime.InferenceSession(folder / model["model"], options, providers=["CPUExecutionProvider"])
        for rows in ROWS:
            made = inputs_of(model, session, rows)
            if made is None:
                continue
            try:
                session.run(None, made)
            except Exception:  # noqa: BLE001 (it does not take that many rows, or no random values)
                continue
            size = sum(value.nbytes for value in made.values())
            for _ in range(TIMES):
                began = time.perf_counter()
                session.run(None, made)
                print(f"{model['model'].removesuffix('.onnx')},{size},{rows},{(time.perf_counter() - began) * 1e3:.4f}")


if __name__ == "__main__":
    main()
