"""The truth the server is compared with: seeded inputs, ONNX Runtime's own outputs, and equality.

Not a script. `Model` runs a file in this process, on the CPU, in the types the Open Inference
Protocol has; `differences` says where a served answer departs from it.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime

Tensors = dict[str, np.ndarray]

# ONNX Runtime's name of an element type, the protocol's name, numpy's type. Strings are object
# arrays of `bytes`, as the Triton client wants them.
ELEMENTS = {
    "bool": ("BOOL", np.bool_),
    "uint8": ("UINT8", np.uint8),
    "uint16": ("UINT16", np.uint16),
    "uint32": ("UINT32", np.uint32),
    "uint64": ("UINT64", np.uint64),
    "int8": ("INT8", np.int8),
    "int16": ("INT16", np.int16),
    "int32": ("INT32", np.int32),
    "int64": ("INT64", np.int64),
    "float16": ("FP16", np.float16),
    "float": ("FP32", np.float32),
    "double": ("FP64", np.float64),
    "bfloat16": ("BF16", ml_dtypes.bfloat16),
    "string": ("BYTES", np.object_),
}
DTYPES = {datatype: dtype for datatype, dtype in ELEMENTS.values()}
ONNX_BFLOAT16 = onnx.TensorProto.BFLOAT16

# Largest difference allowed between two runs of one model, relative above 1: batching changes
# the order of additions (DESIGN §8).
TOLERANCE = 1e-5


@dataclass(frozen=True)
class TensorInfo:
    """One input or output as the server should describe it; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()


class Model:
    """An ONNX file with its session; inputs and outputs in the protocol's words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._zipmaps = zipmap_classes(onnx.load(str(path), load_external_data=False))
        self.inputs = [self._describe(node) for node in self._session.get_inputs()]
        self.outputs = [self._describe(node) for node in self._session.get_outputs()]

    def _describe(self, node: onnxruntime.NodeArg) -> TensorInfo:
        if node.name in self._zipmaps:
            classes = self._zipmaps[node.name]
            return TensorInfo(node.name, "FP32", (-1, len(classes)), classes)
        element = re.fullmatch(r"tensor\((\w+)\)", node.type)
        if not element or element[1] not in ELEMENTS:
            raise ValueError(f"{self.path}: {node.name} is a {node.type}, which has no tensor form")
        shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
        return TensorInfo(node.name, ELEMENTS[element[1]][0], shape)

    def seeded_inputs(
        self, seed: int, dims: Mapping[str, tuple[int, ...]] | None = None
    ) -> Tensors:
        """Inputs drawn from `seed`; a size left open is 2 unless `dims` gives the shape."""
        rng = np.random.default_rng(seed)
        inputs = {}
        for info in self.inputs:
            open_sizes = tuple(2 if size < 0 else size for size in info.shape)
            shape = (dims or {}).get(info.name, open_sizes)
            inputs[info.name] = draw(rng, info.datatype, shape)
        return inputs

    def run(self, inputs: Tensors) -> Tensors:
        """What ONNX Runtime answers, each output in the form the server gives it."""
        feeds = {name: to_ort(array) for name, array in inputs.items()}
        if any(isinstance(feed, onnxruntime.OrtValue) for feed in feeds.values()):
            return self._run_bfloat16(feeds)
        answers = self._session.run(None, feeds)
        return {info.name: from_ort(info, answer) for info, answer in zip(self.outputs, answers)}

    def _run_bfloat16(self, feeds: dict) -> Tensors:
        values = {
            name: feed
            if isinstance(feed, onnxruntime.OrtValue)
            else onnxruntime.OrtValue.ortvalue_from_numpy(feed)
            for name, feed in feeds.items()
        }
        answers = self._session.run_with_ort_values(None, values)
        return {info.name: read_memory(info, value) for info, value in zip(self.outputs, answers)}


def zipmap_classes(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """The class names, sorted, of every output that a ZipMap node turns into maps."""
    outputs = {output.name for output in model.graph.output}
    classes = {}
    for node in model.graph.node:
        if node.op_type != "ZipMap" or node.output[0] not in outputs:
            continue
        for attribute in node.attribute:
            names = attribute.ints or [name.decode() for name in attribute.strings]
            classes[node.output[0]] = tuple(str(name) for name in sorted(names))
    return classes


def draw(rng: np.random.Generator, datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Small values of `datatype`; strings are decimal numbers, so that a Cast can read them."""
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if datatype == "BYTES":
        numbers = np.asarray(rng.integers(0, 100, shape))
        return objects([str(number).encode() for number in numbers.ravel()], shape)
    if datatype in ("FP16", "BF16", "FP32", "FP64"):
        return np.asarray(rng.uniform(-1, 1, shape)).astype(DTYPES[datatype])
    return np.asarray(rng.integers(0, 100, shape)).astype(DTYPES[datatype])


def objects(values: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """An object array of `values`; numpy alone would cut trailing NULs off."""
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array.reshape(shape)


def to_ort(array: np.ndarray) -> np.ndarray | onnxruntime.OrtValue:
    """The array as ONNX Runtime takes it: text for strings, an OrtValue for bfloat16."""
    if array.dtype == ml_dtypes.bfloat16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            np.ascontiguousarray(array).view(np.uint16), ONNX_BFLOAT16
        )
    if array.dtype == np.object_:
        text = np.empty(array.size, dtype=np.object_)
        text[:] = [value.decode() for value in array.ravel()]
        return text.reshape(array.shape)
    return array


def from_ort(info: TensorInfo, answer: np.ndarray | list) -> np.ndarray:
    """One output in the protocol's form: maps become rows of scores, text becomes bytes."""
    if info.classes:
        return np.array([[row[key] for key in sorted(row)] for row in answer], dtype=np.float32)
    array = np.asarray(answer)
    if info.datatype == "BYTES":
        return objects([str(value).encode() for value in array.ravel()], array.shape)
    return array


def read_memory(info: TensorInfo, value: onnxruntime.OrtValue) -> np.ndarray:
    """Copies an output that numpy has no type for straight out of the runtime's memory."""
    dtype = np.dtype(DTYPES[info.datatype])
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), math.prod(shape) * dtype.itemsize)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def inputs_by_rule(entry: dict) -> Tensors:
    """The inputs that `expected_outputs.json` describes for one model."""
    inputs = {}
    for described in entry["inputs"]:
        element = re.fullmatch(r"tensor\((\w+)\)", described["type"])
        shape = tuple(described["shape"])
        values = fill(described["rule"], described["seed"], math.prod(shape))
        inputs[described["name"]] = values.astype(ELEMENTS[element[1]][1]).reshape(shape)
    return inputs


def fill(rule: str, seed: int, count: int) -> np.ndarray:
    """`count` values by `rule`, a function of u, the hash of the flat index in [0, 1)."""
    index = np.arange(count, dtype=np.uint64) + np.uint64(seed)
    u = (index * np.uint64(2654435761) % np.uint64(2**32)).astype(np.float64) / 2**32
    if rule == "zeros":
        return np.zeros(count)
    if rule == "2*u-1":
        return 2 * u - 1
    if scaled := re.fullmatch(r"floor\((\d+)\*u\)", rule):
        return np.floor(int(scaled[1]) * u)
    if re.fullmatch(r"-?\d+(\.\d+)?", rule):
        return np.full(count, float(rule))
    raise ValueError(f"no such rule: {rule}\nhint: add it to reference.fill")


def against_record(entry: dict, outputs: Tensors) -> list[str]:
    """Where outputs depart from those recorded in `expected_outputs.json`, to its own 1e-4."""
    faults = []
    for recorded in entry["outputs"]:
        actual = outputs[recorded["name"]]
        if "value" in recorded:
            rows = [[row[key] for key in sorted(row)] for row in recorded["value"]]
            expected, actual = np.array(rows), actual.astype(np.float64)
        else:
            expected = np.array(recorded["first"])
            actual = actual.ravel()[: expected.size].astype(np.float64)
            if list(outputs[recorded["name"]].shape) != recorded["shape"]:
                faults.append(f"{recorded['name']}: shape is not the recorded {recorded['shape']}")
        if not np.allclose(actual, expected, rtol=1e-4, atol=1e-4):
            faults.append(f"{recorded['name']}: differs from the recorded values")
    return faults


def differences(expected: Tensors, actual: Mapping[str, np.ndarray | None]) -> list[str]:
    """Every way in which a served answer is not the reference's; empty when it is."""
    faults = []
    for name, want in expected.items():
        got = actual.get(name)
        if got is None:
            faults.append(f"{name}: missing from the answer")
        elif got.shape != want.shape:
            faults.append(f"{name}: shape {list(got.shape)}, expected {list(want.shape)}")
        elif fault := unequal(want, got):
            faults.append(f"{name}: {fault}")
    return faults


def unequal(want: np.ndarray, got: np.ndarray) -> str | None:
    """How two arrays of one shape differ: floats within the tolerance, all else exactly."""
    if want.dtype == np.object_:
        pairs = zip(want.ravel(), got.ravel())
        bad = [index for index, (a, b) in enumerate(pairs) if a != as_bytes(b)]
    elif np.issubdtype(want.dtype, np.floating) or want.dtype == ml_dtypes.bfloat16:
        a, b = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            near = np.abs(a - b) <= TOLERANCE * np.maximum(1, np.abs(a))
        bad = np.flatnonzero(~(same | near)).tolist()
    else:
        bad = np.flatnonzero((want != got).ravel()).tolist()
    if not bad:
        return None
    first = bad[0]
    return (
        f"{len(bad)} of {want.size} values differ, "
        f"first at {first}: {got.ravel()[first]!r}, expected {want.ravel()[first]!r}"
    )


def as_bytes(value: bytes | str) -> bytes:
    """JSON gives strings where binary gives bytes; both mean the same element."""
    return value.encode() if isinstance(value, str) else bytes(value)


@dataclass(frozen=True)
class Rows:
    """An example's `rows.npz`: one array per input, and what is known about each row."""

    inputs: Tensors
    labels: np.ndarray | None
    kept_out: np.ndarray | None
    """True for a row that training has not seen; None when it has seen none of them."""


def load_rows(path: Path) -> Rows:
    """Every array but `label` and `kept_out` is an input of the model."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    labels = arrays.pop("label", None)
    kept_out = arrays.pop("kept_out", None)
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            arrays[name] = objects([bytes(value) for value in array.ravel()], array.shape)
    return Rows(arrays, labels, kept_out)
