"""Proves that unmodified Triton and KServe clients get from Mantlet what ONNX Runtime gives itself.

Run: python conformance.py --data-dir DIR --mantlet BIN --models OUTDIR [--shared DIR]

Deploys, over the command line, every example made into OUTDIR (folders with a manifest.yaml), the
models of make_models.py, and the models of a shared data folder (`DIR/models`). Each is then asked the
same question by every client, in every form that client can send, and every answer is compared with
ONNX Runtime run in this process. Metadata, readiness, statistics and the repository index are checked
too. Exit 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import pickle
import queue
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc

import make_models
from cases import Case, Tally
from node import Deployed, Mantlet, Node, read_node
from reference import (
    Model,
    TensorInfo,
    Tensors,
    against_record,
    differences,
    inputs_by_rule,
    load_rows,
)
from triton import grpc_client, http_client

HERE = Path(__file__).resolve().parent
SEED = 20_240_601
REQUEST_ID = "conformance"
ROWS_PER_EXAMPLE = 2

# Open sizes other than 2, so that sizes which must not be mixed up differ.
SHAPES = {"dynamic_batch": {"INPUT0": (5, 4)}, "simple_identity": {"INPUT0": (3, 7)}}

# Time enough for the slowest model on a busy machine; a hang must end the run.
PATIENCE_SECONDS = 60

# The field of InferTensorContents that carries a datatype; the 16-bit floats have none.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def deploy_all(mantlet: Mantlet, models: Path, shared: Path | None, scratch: Path) -> list[Case]:
    """Deploys everything there is to ask, in a fixed order."""
    cases = []
    for manifest in sorted(models.glob("*/manifest.yaml")):
        rows = load_rows(manifest.parent / "rows.npz").inputs
        inputs = {name: array[:ROWS_PER_EXAMPLE] for name, array in rows.items()}
        model = Model(manifest.parent / "model.onnx")
        cases.append(to_case(mantlet.deploy(manifest), model, inputs))
    if not cases:
        raise SystemExit(
            f"no example was made into {models}\n"
            f"hint: python examples/healthcare/make.py {models}/healthcare"
        )
    for path in make_models.build(scratch / "made"):
        model = Model(path)
        inputs = model.seeded_inputs(SEED, SHAPES.get(path.stem))
        cases.append(to_case(mantlet.deploy(path, path.stem), model, inputs))
    if shared is not None:
        cases.extend(deploy_shared(mantlet, shared / "models", scratch))
    return cases


def deploy_shared(mantlet: Mantlet, folder: Path, scratch: Path) -> Iterator[Case]:
    """Deploys the shared models; their inputs follow the rules written beside them."""
    record = json.loads((folder / "expected_outputs.json").read_text())
    for entry in record["models"]:
        path = folder / entry["model"]
        deployed = mantlet.deploy(roomy_manifest(path.resolve(), scratch))
        case = to_case(deployed, Model(path), inputs_by_rule(entry))
        faults = against_record(entry, case.expected)
        if faults:
            raise SystemExit(f"{path}: this ONNX Runtime departs from the record: {faults}")
        yield case


def roomy_manifest(path: Path, scratch: Path) -> Path:
    """A manifest that lets an image travel as JSON, which takes up to 20 bytes a number."""
    manifest = scratch / f"{path.stem}.yaml"
    fields = {
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": {"name": path.stem},
        "spec": {"source": {"onnx": str(path)}, "limits": {"body": "16MiB"}},
    }
    # JSON is YAML too.
    manifest.write_text(json.dumps(fields, indent=1))
    return manifest


def to_case(deployed: Deployed, model: Model, inputs: Tensors) -> Case:
    """The question, with the answer that ONNX Runtime gives here."""
    return Case(deployed, model.inputs, model.outputs, inputs, model.run(inputs))


class HttpQuestions:
    """One model asked through Triton's HTTP client."""

    def __init__(self, node: Node, case: Case) -> None:
        self._client = http_client(node, concurrency=2)
        self._case = case

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def ask(self, tally: Tally) -> None:
        """Every form of inference, then what the model says of itself."""
        version = self._case.deployed.version
        forms = {
            "binary": lambda: self.infer(True, True),
            "binary gzip": lambda: self.infer(True, True, compression="gzip"),
            "binary deflate": lambda: self.infer(True, True, compression="deflate"),
            "binary, version named": lambda: self.infer(True, True, version=version),
            "outputs and id unnamed": self.infer_unnamed,
            "async": self.infer_async,
        }
        if not self._case.binary_only:
            forms |= {
                "json": lambda: self.infer(False, False),
                "json gzip": lambda: self.infer(False, False, compression="gzip"),
                "json deflate": lambda: self.infer(False, False, compression="deflate"),
                "binary in, json out": lambda: self.infer(True, False),
                "json in, binary out": lambda: self.infer(False, True),
            }
        forms |= {
            "metadata": self.metadata,
            "model ready": self.ready,
            "statistics": self.statistics,
        }
        for form, question in forms.items():
            tally.check(self._case.name, "tritonclient.http", form, question)

    def _request(self, binary_in: bool, binary_out: bool) -> dict:
        inputs = []
        for name, array in self._case.inputs.items():
            datatype = self._case.input_datatype(name)
            inputs.append(triton_http.InferInput(name, list(array.shape), datatype))
            inputs[-1].set_data_from_numpy(array, binary_data=binary_in)
        outputs = [
            triton_http.InferRequestedOutput(name, binary_data=binary_out)
            for name in self._case.expected
        ]
        return {"inputs": inputs, "outputs": outputs}

    def infer(
        self, binary_in: bool, binary_out: bool, compression: str | None = None, version: str = ""
    ) -> list[str]:
        """One inference."""
        result = self._client.infer(
            self._case.name,
            request_id=REQUEST_ID,
            model_version=version,
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
            **self._request(binary_in, binary_out),
        )
        return self._faults(result, REQUEST_ID)

    def infer_unnamed(self) -> list[str]:
        """No outputs named: all of them come, in binary; no id given: one is minted."""
        inputs = self._request(binary_in=True, binary_out=True)["inputs"]
        return self._faults(self._client.infer(self._case.name, inputs), None)

    def infer_async(self) -> list[str]:
        """Two requests in flight on two connections."""
        request = self._request(binary_in=True, binary_out=True)
        waiting = {
            str(number): self._client.async_infer(
                self._case.name, request_id=str(number), **request
            )
            for number in range(2)
        }
        faults = []
        for request_id, one in waiting.items():
            faults += self._faults(one.get_result(), request_id)
        return faults

    def _faults(self, result: triton_http.InferResult, request_id: str | None) -> list[str]:
        response = result.get_response()
        actual = {name: result.as_numpy(name) for name in self._case.expected}
        faults = differences(self._case.expected, actual)
        faults += wrong_envelope(
            self._case,
            response["model_name"],
            response["model_version"],
            response.get("id", ""),
            request_id,
        )
        for output in response["outputs"]:
            faults += self._case.wrong_datatype(output["name"], output["datatype"])
        return faults

    def metadata(self) -> list[str]:
        """Names, types and shapes, and the classes of outputs that were maps."""
        faults = []
        for version in ("", self._case.deployed.version):
            said = self._client.get_model_metadata(self._case.name, version)
            faults += wrong_name(self._case, said["name"], said["versions"])
            for kind in ("inputs", "outputs"):
                tensors = [(t["name"], t["datatype"], tuple(t["shape"])) for t in said[kind]]
                faults += wrong_tensors(self._case, kind, tensors)
            for info in self._case.outputs_info:
                faults += wrong_classes(info, said["outputs"])
        return faults

    def ready(self) -> list[str]:
        """The model, and its version, are ready."""
        return [
            f"not ready, version {version!r}"
            for version in ("", self._case.deployed.version)
            if not self._client.is_model_ready(self._case.name, version)
        ]

    def statistics(self) -> list[str]:
        """The model has answered before, so its counts cannot be nought."""
        entries = self._client.get_inference_statistics(self._case.name)["model_stats"]
        if [entry["name"] for entry in entries] != [self._case.name]:
            return [f"entries are {entries}"]
        entry = entries[0]
        counts = {
            "inference_count": entry["inference_count"],
            "execution_count": entry["execution_count"],
            "success": entry["inference_stats"]["success"]["count"],
        }
        return [f"{name} is {count}" for name, count in counts.items() if count < 1]


class GrpcQuestions:
    """One model asked through Triton's gRPC client, and its stub where the class has no way."""

    def __init__(self, node: Node, case: Case) -> None:
        self._node = node
        self._client = grpc_client(node)
        self._case = case

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def ask(self, tally: Tally) -> None:
        """Every form of inference, then what the model says of itself."""
        forms = {
            "raw": lambda: self.infer(None),
            "raw gzip": lambda: self.infer("gzip"),
            "raw deflate": lambda: self.infer("deflate"),
            "version named, id unnamed": self.infer_unnamed,
            "async": self.infer_async,
            "stream": self.infer_stream,
        }
        if not self._case.binary_only:
            forms["typed contents"] = self.infer_typed
        forms |= {
            "metadata": self.metadata,
            "model ready": self.ready,
            "statistics": self.statistics,
        }
        for form, question in forms.items():
            tally.check(self._case.name, "tritonclient.grpc", form, question)

    def _request(self) -> dict:
        inputs = []
        for name, array in self._case.inputs.items():
            datatype = self._case.input_datatype(name)
            inputs.append(triton_grpc.InferInput(name, list(array.shape), datatype))
            inputs[-1].set_data_from_numpy(array)
        outputs = [triton_grpc.InferRequestedOutput(name) for name in self._case.expected]
        return {"inputs": inputs, "outputs": outputs}

    def infer(self, compression: str | None) -> list[str]:
        """One inference with raw tensors."""
        result = self._client.infer(
            self._case.name,
            request_id=REQUEST_ID,
            compression_algorithm=compression,
            client_timeout=PATIENCE_SECONDS,
            **self._request(),
        )
        return self._faults(result, REQUEST_ID)

    def infer_unnamed(self) -> list[str]:
        """A version named, but neither outputs nor an id."""
        result = self._client.infer(
            self._case.name,
            self._request()["inputs"],
            model_version=self._case.deployed.version,
        )
        return self._faults(result, None)

    def infer_async(self) -> list[str]:
        """Two requests in flight; the answers come to a callback."""
        arrived: queue.Queue = queue.Queue()
        ids = {"0", "1"}
        for request_id in sorted(ids):
            self._client.async_infer(
                self._case.name,
                callback=lambda result, error: arrived.put((result, error)),
                request_id=request_id,
                **self._request(),
            )
        return self._faults_arriving(arrived, ids)

    def infer_stream(self) -> list[str]:
        """Three messages on one ModelStreamInfer call."""
        arrived: queue.Queue = queue.Queue()
        ids = {"0", "1", "2"}
        self._client.start_stream(callback=lambda result, error: arrived.put((result, error)))
        try:
            for request_id in sorted(ids):
                self._client.async_stream_infer(
                    self._case.name, request_id=request_id, **self._request()
                )
            return self._faults_arriving(arrived, ids)
        finally:
            self._client.stop_stream()

    def infer_typed(self) -> list[str]:
        """Typed contents, through the stub; the answer may still be raw."""
        request = service_pb2.ModelInferRequest(model_name=self._case.name, id=REQUEST_ID)
        for name, array in self._case.inputs.items():
            datatype = self._case.input_datatype(name)
            tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())
        credentials = grpc.ssl_channel_credentials(Path(self._node.ca).read_bytes())
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.secure_channel(self._node.authority, credentials, unlimited) as channel:
            response = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                request,
                metadata=tuple(self._node.authorization.items()),
                timeout=PATIENCE_SECONDS,
            )
        return self._faults(triton_grpc.InferResult(response), REQUEST_ID)

    def _faults_arriving(self, arrived: queue.Queue, ids: set[str]) -> list[str]:
        """Takes one answer per id off the queue, in any order."""
        faults = []
        waiting = set(ids)
        for _ in ids:
            result, error = arrived.get(timeout=PATIENCE_SECONDS)
            if error is not None:
                faults.append(str(error))
                continue
            request_id = result.get_response().id
            if request_id not in waiting:
                faults.append(f"id {request_id!r} was not asked for, or came twice")
            waiting.discard(request_id)
            faults += self._faults(result, request_id)
        return faults

    def _faults(self, result: triton_grpc.InferResult, request_id: str | None) -> list[str]:
        response = result.get_response()
        actual = {name: result.as_numpy(name) for name in self._case.expected}
        faults = differences(self._case.expected, actual)
        faults += wrong_envelope(
            self._case, response.model_name, response.model_version, response.id, request_id
        )
        for output in response.outputs:
            faults += self._case.wrong_datatype(output.name, output.datatype)
        return faults

    def metadata(self) -> list[str]:
        """Names, types and shapes."""
        faults = []
        for version in ("", self._case.deployed.version):
            said = self._client.get_model_metadata(self._case.name, version)
            faults += wrong_name(self._case, said.name, list(said.versions))
            for kind in ("inputs", "outputs"):
                tensors = [(t.name, t.datatype, tuple(t.shape)) for t in getattr(said, kind)]
                faults += wrong_tensors(self._case, kind, tensors)
        return faults

    def ready(self) -> list[str]:
        """The model, and its version, are ready."""
        return [
            f"not ready, version {version!r}"
            for version in ("", self._case.deployed.version)
            if not self._client.is_model_ready(self._case.name, version)
        ]

    def statistics(self) -> list[str]:
        """The model has answered before, so its counts cannot be nought."""
        entries = self._client.get_inference_statistics(self._case.name).model_stats
        if [entry.name for entry in entries] != [self._case.name]:
            return [f"entries are {[entry.name for entry in entries]}"]
        counts = {
            "inference_count": entries[0].inference_count,
            "execution_count": entries[0].execution_count,
            "success": entries[0].inference_stats.success.count,
        }
        return [f"{name} is {count}" for name, count in counts.items() if count < 1]


def wrong_envelope(
    case: Case, model: str, version: str, answer_id: str, request_id: str | None
) -> list[str]:
    """Faults in what surrounds the tensors; without a request id any id will do, but one must be."""
    faults = []
    if (model, version) != (case.name, case.deployed.version):
        faults.append(f"answer is of {model!r}, version {version!r}")
    if not answer_id or (request_id is not None and answer_id != request_id):
        faults.append(f"id is {answer_id!r}, sent {request_id!r}")
    return faults


def wrong_name(case: Case, name: str, versions: list[str]) -> list[str]:
    """Faults in the head of a model's metadata."""
    faults = [] if name == case.name else [f"name is {name!r}"]
    if case.deployed.version not in versions:
        faults.append(f"versions are {versions}, without {case.deployed.version!r}")
    return faults


def wrong_tensors(case: Case, kind: str, said: list[tuple]) -> list[str]:
    """A fault where inputs or outputs are described otherwise than the graph has them."""
    infos = case.inputs_info if kind == "inputs" else case.outputs_info
    wanted = [(info.name, info.datatype, info.shape) for info in infos]
    return [] if said == wanted else [f"{kind} are {said}, expected {wanted}"]


def wrong_classes(info: TensorInfo, outputs: list[dict]) -> list[str]:
    """A fault where an output that was a list of maps lost the names of its columns."""
    if not info.classes:
        return []
    said = next((output for output in outputs if output["name"] == info.name), {})
    classes = said.get("parameters", {}).get("classes") or []
    if [str(name) for name in classes] == list(info.classes):
        return []
    return [f"{info.name}: classes are {classes}, expected {list(info.classes)}"]


def ask_server(node: Node, cases: list[Case], tally: Tally) -> None:
    """Liveness, readiness, metadata, index and statistics of the whole server."""
    http, by_grpc = http_client(node), grpc_client(node)

    def http_metadata() -> list[str]:
        said = http.get_server_metadata()
        return wrong_server(said["name"], said["version"], said["extensions"])

    def grpc_metadata() -> list[str]:
        said = by_grpc.get_server_metadata()
        return wrong_server(said.name, said.version, list(said.extensions))

    def http_index() -> list[str]:
        index = http.get_model_repository_index()
        return absent(cases, {entry["name"] for entry in index if entry["state"] == "READY"})

    def grpc_index() -> list[str]:
        index = by_grpc.get_model_repository_index().models
        return absent(cases, {entry.name for entry in index if entry.state == "READY"})

    def http_statistics() -> list[str]:
        entries = http.get_inference_statistics()["model_stats"]
        return absent(cases, {entry["name"] for entry in entries})

    def grpc_statistics() -> list[str]:
        entries = by_grpc.get_inference_statistics().model_stats
        return absent(cases, {entry.name for entry in entries})

    questions = {
        ("tritonclient.http", "server live"): lambda: denied(http.is_server_live()),
        ("tritonclient.http", "server ready"): lambda: denied(http.is_server_ready()),
        ("tritonclient.http", "server metadata"): http_metadata,
        ("tritonclient.http", "repository index"): http_index,
        ("tritonclient.http", "statistics of all"): http_statistics,
        ("tritonclient.grpc", "server live"): lambda: denied(by_grpc.is_server_live()),
        ("tritonclient.grpc", "server ready"): lambda: denied(by_grpc.is_server_ready()),
        ("tritonclient.grpc", "server metadata"): grpc_metadata,
        ("tritonclient.grpc", "repository index"): grpc_index,
        ("tritonclient.grpc", "statistics of all"): grpc_statistics,
    }
    for (client, form), question in questions.items():
        tally.check("(server)", client, form, question)


def denied(answer: bool) -> list[str]:
    """A fault where the answer had to be yes."""
    return [] if answer is True else [f"the answer is {answer!r}"]


def wrong_server(name: str, version: str, extensions: list[str]) -> list[str]:
    """Faults in the server's metadata."""
    faults = [] if name == "mantlet" else [f"name is {name!r}"]
    if not version:
        faults.append("version is empty")
    for extension in ("binary_tensor_data", "model_repository", "statistics"):
        if extension not in extensions:
            faults.append(f"extension {extension} is not listed")
    return faults


def absent(cases: list[Case], names: set[str]) -> list[str]:
    """A fault for every deployed model that is not among `names`."""
    return [f"{case.name} is not listed" for case in cases if case.name not in names]


def ask_kserve(data_dir: Path, cases: list[Case], scratch: Path, tally: Tally) -> None:
    """Has the other process ask the same cases with KServe's clients, and adds its counts."""
    (scratch / "cases.pickle").write_bytes(pickle.dumps(cases))
    counts = scratch / "tally.json"
    command = [sys.executable, str(HERE / "conformance_kserve.py"), "--data-dir", str(data_dir)]
    command += ["--cases", str(scratch / "cases.pickle"), "--tally", str(counts)]
    subprocess.run(command, check=True)
    answer = json.loads(counts.read_text())
    tally.passed += answer["passed"]
    tally.failed += answer["failed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--mantlet", required=True, help="the mantlet binary")
    parser.add_argument("--models", type=Path, required=True, help="where the examples were made")
    parser.add_argument("--shared", type=Path, help="a data folder with models/*.onnx")
    arguments = parser.parse_args()

    node = read_node(arguments.data_dir)
    mantlet = Mantlet(arguments.mantlet, arguments.data_dir)
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        cases = deploy_all(mantlet, arguments.models, arguments.shared, scratch)
        for case in cases:
            for questions in (HttpQuestions(node, case), GrpcQuestions(node, case)):
                questions.ask(tally)
                questions.close()
        ask_server(node, cases, tally)
        ask_kserve(arguments.data_dir, cases, scratch, tally)

    verdict = "all equal" if tally.failed == 0 else f"{tally.failed} differ"
    print(f"{len(cases)} models, {tally.passed + tally.failed} checks, {verdict}")
    print(f"{tally.passed} passed, {tally.failed} failed")
    raise SystemExit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
