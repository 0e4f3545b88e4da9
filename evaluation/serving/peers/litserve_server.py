"""LitServe calling ONNX Runtime, with the protocol's JSON, or raw bytes, as its own format.

Run: python litserve_server.py --model FILE --port PORT --form json|binary [--shape N ...]
[--workers N] [--servers N]

Serves until told to stop; `python` is one that has requirements-litserve.txt. LitServe has no
binary protocol, so a binary request is the tensor's bytes alone, whose --shape is known. It reads
the types of requests from annotations, so they can't be postponed here.
"""

import argparse
import json
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Request, Response
from session import open_session

DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32}
DATATYPES = {"float32": "FP32", "int64": "INT64"}


class Json(litserve.LitAPI):
    """The protocol's JSON in and out."""

    def __init__(self, path: str, shape: list[int]) -> None:
        super().__init__()
        self._path = path
        self._shape = shape

    def setup(self, device: str) -> None:
        self._session = open_session(self._path, 1)
        self._input = self._session.get_inputs()[0]
        self._dtype = DTYPES[self._input.type]
        self._names = [output.name for output in self._session.get_outputs()]

    def decode_request(self, request: Request) -> np.ndarray:
        tensor = request["inputs"][0]
        return np.array(tensor["data"], self._dtype).reshape(tensor["shape"])

    def predict(self, array: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {self._input.name: array})

    def encode_response(self, arrays: list[np.ndarray]) -> dict:
        return {
            "outputs": [
                {**head(*one), "data": one[1].ravel().tolist()} for one in self._named(arrays)
            ]
        }

    def _named(self, arrays: list[np.ndarray]) -> list[tuple[str, np.ndarray]]:
        return list(zip(self._names, arrays, strict=True))


class Binary(Json):
    """A tensor's bytes in, the protocol's JSON head and bytes out."""

    def decode_request(self, request: Annotated[bytes, Body()]) -> np.ndarray:
        return np.frombuffer(request, self._dtype).reshape(self._shape)

    def encode_response(self, arrays: list[np.ndarray]) -> Response:
        outputs = [
            {**head(*one), "parameters": {"binary_data_size": one[1].nbytes}}
            for one in self._named(arrays)
        ]
        front = json.dumps({"outputs": outputs}).encode()
        content = front + b"".join(array.tobytes() for array in arrays)
        return Response(content, headers={"inference-header-content-length": str(len(front))})


def head(name: str, array: np.ndarray) -> dict:
    """An output's description."""
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype.name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--form", choices=("json", "binary"), required=True)
    parser.add_argument("--shape", type=int, nargs="+")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--servers", type=int, default=1)
    arguments = parser.parse_args()
    api = (Json if arguments.form == "json" else Binary)(arguments.model, arguments.shape)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=arguments.workers, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=arguments.port,
        num_api_servers=arguments.servers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
