"""The KServe half of conformance.py, in its own process; conformance.py starts it.

Run: python conformance_kserve.py --data-dir DIR --cases FILE --tally FILE

A process of its own because Triton's and KServe's generated messages share their names. FILE holds
the cases as conformance.py pickled them; the tally goes back as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import kserve
from kserve.inference_client import RESTConfig

from cases import Case, Tally
from node import Node, read_node
from reference import as_bytes, differences, objects

T = TypeVar("T")

REQUEST_ID = "conformance"

# KServe's client has no numpy type for it.
UNKNOWN_TO_KSERVE = {"BF16"}


def to_request(case: Case, raw: bool) -> kserve.InferRequest:
    """The question in KServe's types: raw tensors both ways, or plain lists."""
    inputs = []
    for name, array in case.inputs.items():
        inputs.append(kserve.InferInput(name, list(array.shape), case.input_datatype(name)))
        inputs[-1].set_data_from_numpy(array, binary_data=raw)
    return kserve.InferRequest(
        model_name=case.name,
        infer_inputs=inputs,
        request_id=REQUEST_ID,
        parameters={"binary_data_output": True} if raw else None,
    )


def faults_in(case: Case, response: kserve.InferResponse) -> list[str]:
    """How an answer departs from the case's."""
    actual = {}
    faults = []
    for output in response.outputs:
        array = output.as_numpy()
        if output.datatype == "BYTES":
            array = objects([as_bytes(value) for value in array.ravel()], array.shape)
        actual[output.name] = array
        faults.extend(case.wrong_datatype(output.name, output.datatype))
    if response.model_name != case.name or response.id != REQUEST_ID:
        faults.append(f"answer is of {response.model_name!r}, id {response.id!r}")
    return faults + differences(case.expected, actual)


class Clients:
    """Both of KServe's clients, which are asynchronous, behind ordinary calls."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._metadata = tuple(node.authorization.items())
        self._loop = asyncio.new_event_loop()
        # They bind to the running loop when made, so they are made inside it.
        self._rest, self._grpc = self._run(self._open())

    async def _open(self) -> tuple[kserve.InferenceRESTClient, kserve.InferenceGRPCClient]:
        rest = kserve.InferenceRESTClient(
            RESTConfig(protocol="v2", verify=self._node.ssl_context())
        )
        grpc = kserve.InferenceGRPCClient(
            self._node.authority, use_ssl=True, root_certificates=self._node.ca
        )
        return rest, grpc

    def _run(self, call: Awaitable[T]) -> T:
        return self._loop.run_until_complete(call)

    def close(self) -> None:
        """Closes both connections."""
        self._run(self._rest.close())
        self._run(self._grpc.close())
        self._loop.close()

    def infer_rest(self, case: Case, raw: bool) -> list[str]:
        """One inference over REST."""
        call = self._rest.infer(
            self._node.url,
            to_request(case, raw),
            model_name=case.name,
            headers=dict(self._node.authorization),
        )
        return faults_in(case, self._run(call))

    def infer_grpc(self, case: Case, raw: bool) -> list[str]:
        """One inference over gRPC."""
        call = self._grpc.infer(to_request(case, raw), headers=self._metadata)
        return faults_in(case, self._run(call))

    def model_ready_rest(self, case: Case) -> list[str]:
        """Readiness of a model over REST."""
        headers = dict(self._node.authorization)
        return denied(self._run(self._rest.is_model_ready(self._node.url, case.name, headers)))

    def model_ready_grpc(self, case: Case) -> list[str]:
        """Readiness of a model over gRPC."""
        return denied(self._run(self._grpc.is_model_ready(case.name, headers=self._metadata)))

    def server_questions(self) -> dict[tuple[str, str], Callable[[], list[str]]]:
        """Liveness and readiness of the server, which need no token."""
        return {
            ("kserve rest", "server live"): lambda: denied(
                self._run(self._rest.is_server_live(self._node.url))
            ),
            ("kserve rest", "server ready"): lambda: denied(
                self._run(self._rest.is_server_ready(self._node.url))
            ),
            ("kserve grpc", "server live"): lambda: denied(self._run(self._grpc.is_server_live())),
            ("kserve grpc", "server ready"): lambda: denied(
                self._run(self._grpc.is_server_ready())
            ),
        }


def denied(answer: bool) -> list[str]:
    """A fault where the answer had to be yes."""
    return [] if answer is True else [f"the answer is {answer!r}"]


def ask_everything(clients: Clients, case: Case, tally: Tally) -> None:
    """Every form of one question that KServe's clients can send."""
    if case.datatypes & UNKNOWN_TO_KSERVE:
        print(f"       {case.name:18} kserve             not asked: it has no type for BF16")
        return
    tally.check(case.name, "kserve rest", "binary", lambda: clients.infer_rest(case, raw=True))
    tally.check(case.name, "kserve grpc", "raw", lambda: clients.infer_grpc(case, raw=True))
    if not case.binary_only:
        tally.check(case.name, "kserve rest", "json", lambda: clients.infer_rest(case, raw=False))
        tally.check(
            case.name, "kserve grpc", "typed contents", lambda: clients.infer_grpc(case, raw=False)
        )
    tally.check(case.name, "kserve rest", "model ready", lambda: clients.model_ready_rest(case))
    tally.check(case.name, "kserve grpc", "model ready", lambda: clients.model_ready_grpc(case))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--cases", type=Path, required=True, help="pickled by conformance.py")
    parser.add_argument("--tally", type=Path, required=True, help="file to write the counts to")
    arguments = parser.parse_args()

    cases: list[Case] = pickle.loads(arguments.cases.read_bytes())
    clients = Clients(read_node(arguments.data_dir))
    tally = Tally()
    for case in cases:
        ask_everything(clients, case, tally)
    for (client, form), question in clients.server_questions().items():
        tally.check("(server)", client, form, question)
    clients.close()
    arguments.tally.write_text(json.dumps({"passed": tally.passed, "failed": tally.failed}))


if __name__ == "__main__":
    main()
