"""What is asked: five questions, each a model, one input for it, and the form it is sent in.

The bodies are those of the Open Inference Protocol v2: JSON, or a JSON head with the tensor's raw
bytes behind it. What comes back is compared with ONNX Runtime's own answer. Not a script.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "testkit" / "python"))

from figures import write_forest  # noqa: E402 (the path above is where it lies)

JSON, BINARY = "json", "binary"
# The protocol's header: how many bytes of the body are its JSON head.
HEAD_LENGTH = "inference-header-content-length"
DATATYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
# Batching and threads may add up the same floats in another order.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A model and one input for it."""

    name: str
    path: Path
    row: np.ndarray

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(self.path, options)

    @cached_property
    def input(self) -> str:
        """What the graph calls its only input."""
        return self.session.get_inputs()[0].name

    @cached_property
    def outputs(self) -> list[str]:
        return [output.name for output in self.session.get_outputs()]

    @cached_property
    def expected(self) -> Tensors:
        """What ONNX Runtime answers."""
        return dict(zip(self.outputs, self.session.run(None, {self.input: self.row}), strict=True))


@dataclass(frozen=True)
class Question:
    """A model's input in one form."""

    model: Model
    form: str

    @property
    def name(self) -> str:
        return f"{self.model.name} {self.form}"

    @cached_property
    def head(self) -> bytes:
        """The request's JSON: all of it, or what stands before the raw bytes."""
        row = self.model.row
        tensor = {
            "name": self.model.input,
            "shape": row.shape,
            "datatype": DATATYPES[row.dtype.name],
        }
        if self.form == JSON:
            return json.dumps({"inputs": [{**tensor, "data": row.ravel().tolist()}]}).encode()
        tensor["parameters"] = {"binary_data_size": row.nbytes}
        wish = {"binary_data_output": True}
        return json.dumps({"inputs": [tensor], "parameters": wish}).encode()

    @property
    def body(self) -> bytes:
        return self.head if self.form == JSON else self.head + self.model.row.tobytes()

    @property
    def headers(self) -> dict[str, str]:
        if self.form == JSON:
            return {"content-type": "application/json"}
        return {"content-type": "application/octet-stream", HEAD_LENGTH: str(len(self.head))}

    def fault(self, content: bytes, head_length: str | None) -> str:
        """What is wrong with an answer; nothing when it says what ONNX Runtime does."""
        try:
            answered = read(content, head_length)
        except (ValueError, KeyError, TypeError) as error:
            return f"its answer can't be read: {error!r}"
        for name, wanted in self.model.expected.items():
            found = answered.get(name)
            if found is None or found.shape != wanted.shape:
                return f"its `{name}` is missing or has another shape"
            if not np.allclose(found, wanted, **TOLERANCE):
                return f"its `{name}` is not what ONNX Runtime gives"
        return ""


def read(content: bytes, head_length: str | None) -> Tensors:
    """The outputs of an answer, as arrays."""
    end = int(head_length) if head_length else len(content)
    tensors, at = {}, end
    for item in json.loads(content[:end])["outputs"]:
        dtype = next(name for name, datatype in DATATYPES.items() if datatype == item["datatype"])
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(item["data"], dtype)
        else:
            values = np.frombuffer(content[at : at + size], dtype)
            at += size
        tensors[item["name"]] = values.reshape(item["shape"])
    return tensors


def questions(folder: Path) -> list[Question]:
    """The five, in the order in which they are asked."""
    forest, image, detector, magika = models(folder)
    return [
        Question(forest, JSON),
        Question(image, JSON),
        Question(image, BINARY),
        Question(detector, BINARY),
        Question(magika, BINARY),
    ]


def models(folder: Path) -> list[Model]:
    """A forest of some microseconds, and networks of about 1, 20 and 10 ms."""
    rng = np.random.default_rng(7)
    forest = folder / "forest.onnx"
    row = write_forest(forest)
    ocr = package("rapidocr_onnxruntime") / "models"
    image = rng.uniform(-1, 1, (1, 3, 48, 192)).astype(np.float32)
    page = rng.uniform(-1, 1, (1, 3, 320, 320)).astype(np.float32)
    text = rng.integers(0, 256, (1, 2048)).astype(np.int32)
    return [
        Model("forest", forest, row),
        Model("image", ocr / "ch_ppocr_mobile_v2.0_cls_infer.onnx", image),
        Model("detector", ocr / "ch_PP-OCRv4_det_infer.onnx", page),
        Model("magika", package("magika") / "models/standard_v3_3/model.onnx", text),
    ]


def package(name: str) -> Path:
    """Where an installed package lies, which is never imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the package `{name}` is missing\nhint: cargo xtask setup")
    return Path(found.submodule_search_locations[0])
