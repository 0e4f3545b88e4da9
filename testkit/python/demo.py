"""Sends an example's rows to a served model, one at a time, by REST and by gRPC, and compares.

Run: python demo.py --data-dir DIR --name MODEL --rows rows.npz

Prints, for each way in, the accuracy on the labelled rows and the median and 99th percentile of the
time one row takes; then whether both ways gave the same bits, and the id of a prediction. Exit 1 when
they differ.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from node import Node, read_node
from reference import Rows, Tensors, as_bytes, load_rows, objects
from triton import grpc_client

PREDICTION_ID = "mantlet-prediction-id"


@dataclass
class Answers:
    """What came back for every row, in order."""

    outputs: list[Tensors] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    prediction: str = ""


class RestClient:
    """One kept-alive HTTPS connection that speaks the protocol's JSON."""

    def __init__(self, node: Node, model: str) -> None:
        self.connection = http.client.HTTPSConnection(node.authority, context=node.ssl_context())
        self._path = f"/v2/models/{model}/infer"
        self.headers = {**node.authorization, "content-type": "application/json"}

    def infer(self, row: Tensors) -> tuple[Tensors, str]:
        """The outputs for one row, and the prediction's id."""
        body = json.dumps({"inputs": [to_json(name, array) for name, array in row.items()]})
        self.connection.request("POST", self._path, body, self.headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise SystemExit(
                f"REST answered {response.status}: {content.decode(errors='replace')}\n"
                "hint: deploy the example first, and pass the name from its manifest"
            )
        outputs = {item["name"]: from_json(item) for item in json.loads(content)["outputs"]}
        return outputs, response.getheader(PREDICTION_ID, "")

    def label(self, labels: list[dict]) -> None:
        """Says what was right for earlier predictions."""
        if not labels:
            return
        self.connection.request("POST", "/v1/feedback", json.dumps(labels), self.headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise SystemExit(f"feedback answered {response.status}: {content.decode(errors='replace')}")


class GrpcClient:
    """One HTTP/2 connection that carries raw tensors."""

    def __init__(self, node: Node, model: str) -> None:
        self._client = grpc_client(node)
        self._model = model

    def infer(self, row: Tensors) -> tuple[Tensors, str]:
        """The outputs for one row, and the prediction's id, which the answer's `id` repeats."""
        inputs = []
        for name, array in row.items():
            datatype = np_to_triton_dtype(array.dtype)
            inputs.append(triton_grpc.InferInput(name, list(array.shape), datatype))
            inputs[-1].set_data_from_numpy(array)
        result = self._client.infer(self._model, inputs)
        response = result.get_response()
        outputs = {item.name: result.as_numpy(item.name) for item in response.outputs}
        return outputs, response.id


def to_json(name: str, array: np.ndarray) -> dict:
    """One tensor in JSON; text elements as strings."""
    values = array.ravel().tolist()
    if array.dtype == np.object_:
        values = [value.decode() for value in values]
    datatype = np_to_triton_dtype(array.dtype)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": values}


def from_json(item: dict) -> np.ndarray:
    """One output of a JSON answer as an array."""
    shape = tuple(item["shape"])
    if item["datatype"] == "BYTES":
        return objects([as_bytes(value) for value in item["data"]], shape)
    return np.array(item["data"], dtype=triton_to_np_dtype(item["datatype"])).reshape(shape)


def each_row(rows: Tensors) -> Iterator[Tensors]:
    """Every row as a batch of one."""
    count = len(next(iter(rows.values())))
    for index in range(count):
        yield {name: array[index : index + 1] for name, array in rows.items()}


def send_all(client: RestClient | GrpcClient, rows: Tensors) -> Answers:
    """Sends every row and keeps the answers; the first call, which connects, is not timed."""
    client.infer(next(each_row(rows)))
    answers = Answers()
    for row in each_row(rows):
        begin = time.perf_counter()
        outputs, prediction = client.infer(row)
        answers.seconds.append(time.perf_counter() - begin)
        answers.outputs.append(outputs)
        answers.prediction = prediction
    return answers


def predicted_label(outputs: Tensors) -> int:
    """The class an answer stands for: a label, the best of several scores, or a map's yes or no."""
    for array in outputs.values():
        if array.size == 1 and np.issubdtype(array.dtype, np.integer):
            return int(array.ravel()[0])
    scores = next(iter(outputs.values()))
    if scores.ndim == 2:
        return int(scores[0].argmax())
    return int(scores.max() > 0.5)


def report(way: str, answers: Answers, rows: Rows) -> None:
    """One line on a way in: latency, and accuracy where it means something.

    Rows that training saw say nothing about accuracy, so they don't count. Where training saw none,
    the second half is compared with the first, which shows drift.
    """
    milliseconds = np.array(answers.seconds) * 1000
    p50, p99 = np.percentile(milliseconds, [50, 99])
    line = f"{way:5} {len(answers.outputs)} rows  p50 {p50:.2f} ms  p99 {p99:.2f} ms"
    if rows.labels is not None:
        right = np.array([predicted_label(outputs) for outputs in answers.outputs]) == rows.labels
        if rows.kept_out is not None:
            unseen = right[rows.kept_out]
            line += f"  accuracy {unseen.mean():.3f} on the {len(unseen)} kept out of training"
        else:
            halves = np.array_split(right, 2)
            line += (
                f"  accuracy {right.mean():.3f}"
                f" (first half {halves[0].mean():.3f}, second {halves[1].mean():.3f})"
            )
    print(line)


def same_bits(one: Tensors, other: Tensors) -> bool:
    """Whether two answers have the same outputs, types, shapes and bytes."""
    if one.keys() != other.keys():
        return False
    for name, array in one.items():
        twin = other[name]
        if array.dtype != twin.dtype or array.shape != twin.shape:
            return False
        if bits(array) != bits(twin):
            return False
    return True


def bits(array: np.ndarray) -> bytes | list:
    """What an array holds, exactly; the bytes of an object array are only addresses."""
    return array.ravel().tolist() if array.dtype == np.object_ else array.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--name", required=True, help="the deployed model")
    parser.add_argument("--rows", type=Path, required=True, help="rows.npz of the example")
    arguments = parser.parse_args()

    node = read_node(arguments.data_dir)
    rows = load_rows(arguments.rows)
    rest = send_all(RestClient(node, arguments.name), rows.inputs)
    grpc = send_all(GrpcClient(node, arguments.name), rows.inputs)
    report("REST", rest, rows)
    report("gRPC", grpc, rows)
    different = [
        index
        for index, (one, other) in enumerate(zip(rest.outputs, grpc.outputs))
        if not same_bits(one, other)
    ]
    print(f"last prediction: {rest.prediction} (REST), {grpc.prediction} (gRPC)")
    if different:
        raise SystemExit(
            f"{len(different)} rows differ between REST and gRPC, first {different[0]}"
        )
    print(f"REST and gRPC agree bit by bit on all {len(rest.outputs)} rows")


if __name__ == "__main__":
    main()
