"""Builds the small ONNX models that the protocol's corners are tested with, and runs each once.

Run: python make_models.py OUT

OUT then holds one `NAME.onnx` per model: add and subtract for numbers and strings, an identity for
every datatype, a scalar, an open batch size, and classifiers whose scores leave the graph as maps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from reference import Model, differences

# The newest pair that every ONNX Runtime since 1.16 reads; nothing here needs a newer one.
OPSET = 17
IR_VERSION = 8
ML_OPSET = 3

# The protocol's datatype names and the graph's.
IDENTITIES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "fp16": TensorProto.FLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bf16": TensorProto.BFLOAT16,
    "bytes": TensorProto.STRING,
}


def build(out: Path) -> list[Path]:
    """Writes every model into `out` and returns the files, in a fixed order."""
    out.mkdir(parents=True, exist_ok=True)
    models = {
        "simple": add_sub(TensorProto.INT32),
        "simple_int8": add_sub(TensorProto.INT8),
        "simple_string": string_add_sub(),
        "simple_identity": identity(TensorProto.STRING, [None, None]),
        **{f"identity_{name}": identity(kind, [None, 16]) for name, kind in IDENTITIES.items()},
        "scalar": scalar(),
        "dynamic_batch": dynamic_batch(),
        "zipmap_int": zipmap([7, 3, 11]),
        "zipmap_string": zipmap(["low", "high", "middle"]),
    }
    return [save(out / f"{name}.onnx", graph) for name, graph in models.items()]


def save(path: Path, graph: onnx.GraphProto) -> Path:
    """Checks the graph and writes it; the bytes depend on nothing but the graph."""
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        producer_name="mantlet-testkit",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def value(name: str, kind: int, shape: list[int | str | None]) -> onnx.ValueInfoProto:
    """An input or output of the graph; `None` is a size that the caller chooses."""
    named = [f"d{axis}" if size is None else size for axis, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, kind, named)


def add_sub(kind: int) -> onnx.GraphProto:
    """OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1, all [1, 16]."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    return pair_graph("add_sub", kind, nodes)


def string_add_sub() -> onnx.GraphProto:
    """The same for decimal numbers written as strings: read, computed in int64, written again."""
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=TensorProto.INT64),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=TensorProto.INT64),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TensorProto.STRING),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TensorProto.STRING),
    ]
    return pair_graph("string_add_sub", TensorProto.STRING, nodes)


def pair_graph(name: str, kind: int, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    """A graph with two inputs and two outputs of one kind, [1, 16] each."""
    inputs = [value(port, kind, [1, 16]) for port in ("INPUT0", "INPUT1")]
    outputs = [value(port, kind, [1, 16]) for port in ("OUTPUT0", "OUTPUT1")]
    return helper.make_graph(nodes, name, inputs, outputs)


def identity(kind: int, shape: list[int | None]) -> onnx.GraphProto:
    """OUTPUT0 = INPUT0: whatever arrives must come back unchanged."""
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    ports = [value("INPUT0", kind, shape)], [value("OUTPUT0", kind, shape)]
    return helper.make_graph([node], "identity", *ports)


def scalar() -> onnx.GraphProto:
    """OUTPUT0 = INPUT0 + INPUT0 for a tensor of shape []."""
    node = helper.make_node("Add", ["INPUT0", "INPUT0"], ["OUTPUT0"])
    ports = [value("INPUT0", TensorProto.FLOAT, [])], [value("OUTPUT0", TensorProto.FLOAT, [])]
    return helper.make_graph([node], "scalar", *ports)


def dynamic_batch() -> onnx.GraphProto:
    """The row sums and row maxima of INPUT0 [batch, 4]: a wrong split of a batch shows."""
    nodes = [
        helper.make_node("ReduceSum", ["INPUT0", "axis"], ["SUM"], keepdims=0),
        helper.make_node("ReduceMax", ["INPUT0"], ["MAXIMUM"], axes=[1], keepdims=0),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    return helper.make_graph(
        nodes,
        "dynamic_batch",
        [value("INPUT0", TensorProto.FLOAT, ["batch", 4])],
        [value(name, TensorProto.FLOAT, ["batch"]) for name in ("SUM", "MAXIMUM")],
        [axis],
    )


def zipmap(classes: list[int] | list[str]) -> onnx.GraphProto:
    """A linear classifier whose scores leave as a list of maps; the classes are not sorted."""
    textual = isinstance(classes[0], str)
    labels = {"classlabels_strings" if textual else "classlabels_ints": classes}
    keys = {"classlabels_strings" if textual else "classlabels_int64s": classes}
    classifier = helper.make_node(
        "LinearClassifier",
        ["INPUT0"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=[1.0, -0.5, 0.25, 0.75, -1.0, 0.5],
        intercepts=[0.1, 0.2, 0.3],
        multi_class=0,
        post_transform="SOFTMAX",
        **labels,
    )
    mapped = helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **keys)
    key_kind = TensorProto.STRING if textual else TensorProto.INT64
    score = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(key_kind, score))
    return helper.make_graph(
        [classifier, mapped],
        "zipmap",
        [value("INPUT0", TensorProto.FLOAT, ["batch", 2])],
        [
            value("label", key_kind, ["batch"]),
            helper.make_value_info("probabilities", maps),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the models into")
    out = parser.parse_args().out
    for path in build(out):
        model = Model(path)
        inputs = model.seeded_inputs(seed=1)
        outputs = model.run(inputs)
        if path.stem.startswith("identity_") or path.stem == "simple_identity":
            faults = differences({"OUTPUT0": inputs["INPUT0"]}, outputs)
            if faults:
                raise SystemExit(f"{path.name} is no identity: {faults}")
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        print(f"{path.name:24} {path.stat().st_size:6} bytes  {shapes}")


if __name__ == "__main__":
    main()
