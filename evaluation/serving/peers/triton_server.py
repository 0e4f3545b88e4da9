"""Triton with its Python backend, by PyTriton, calling ONNX Runtime.

Run: python triton_server.py --model FILE --port PORT [--instances N] [--batch N]
[--http-threads N] [--threads N]

Serves until told to stop; `python` is one that has requirements-triton.txt.
"""

from __future__ import annotations

import argparse
import signal

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from session import open_session

TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


def tensors(nodes: list, batched: bool) -> list[Tensor]:
    """Inputs or outputs as Triton wants them: without the batch's dimension when it batches."""
    return [
        Tensor(
            name=node.name,
            dtype=TYPES[node.type],
            shape=tuple(one if isinstance(one, int) else -1 for one in node.shape[int(batched) :]),
        )
        for node in nodes
    ]


def infer_function(path: str, threads: int, batched: bool):
    """One instance: a session of its own, called with whole batches or with single requests."""
    session = open_session(path, threads)
    names = [output.name for output in session.get_outputs()]

    def infer(**inputs):
        return dict(zip(names, session.run(None, inputs), strict=True))

    if batched:
        return batch(infer)
    return lambda requests: [infer(**request.data) for request in requests]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="most requests in one batch")
    parser.add_argument("--http-threads", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference")
    arguments = parser.parse_args()

    batched = arguments.batch > 1
    graph = open_session(arguments.model, 1)
    functions = [
        infer_function(arguments.model, arguments.threads, batched)
        for _ in range(arguments.instances)
    ]
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.port,
        http_thread_count=arguments.http_threads,
        allow_grpc=False,
        allow_metrics=False,
        exit_timeout_secs=2,
    )
    # It cleans up after an interrupt alone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=functions,
            inputs=tensors(graph.get_inputs(), batched),
            outputs=tensors(graph.get_outputs(), batched),
            config=ModelConfig(batching=batched, max_batch_size=arguments.batch),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
