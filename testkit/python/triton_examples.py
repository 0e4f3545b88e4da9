"""Triton's published Python client examples, asked of Mantlet: the same calls, arguments and checks.

Run: python triton_examples.py --data-dir DIR --mantlet BIN

Written anew after the examples in triton-inference-server/client, src/python/examples. Each function
keeps every call, argument and check of its example; added are TLS and the token, taken away are the
printing, the sleeping and the flags. Two checks differ: the server's name is `mantlet`, not `triton`,
and the repository holds at least the models deployed here, not exactly seven or eight.

    simple_http_infer_client              http_infer (plain, gzip, deflate)
    simple_http_async_infer_client        http_async_infer
    simple_http_string_infer_client       http_string_infer
    simple_http_health_metadata           http_health_metadata
    simple_http_model_control             http_repository_index (the index only)
    simple_http_aio_infer_client          http_aio_infer (plain, gzip, deflate)
    simple_http_aio_string_infer_client   http_aio_string_infer
    simple_http_aio_health_metadata       http_aio_health_metadata
    simple_grpc_infer_client              grpc_infer (plain, gzip, deflate)
    simple_grpc_async_infer_client        grpc_async_infer
    simple_grpc_string_infer_client       grpc_string_infer
    simple_grpc_health_metadata           grpc_health_metadata
    simple_grpc_model_control             grpc_repository_index (the index only)
    simple_grpc_keepalive_client          grpc_keepalive
    simple_grpc_custom_args_client        grpc_custom_args
    simple_grpc_sequence_stream_infer_client      grpc_stream (no sequence state)
    simple_grpc_aio_infer_client          grpc_aio_infer (plain, gzip, deflate)
    simple_grpc_aio_string_infer_client   grpc_aio_string_infer
    simple_grpc_aio_health_metadata       grpc_aio_health_metadata
    simple_grpc_aio_keepalive_client      grpc_aio_keepalive
    simple_grpc_aio_custom_args_client    grpc_aio_custom_args
    simple_grpc_aio_sequence_stream_infer_client  grpc_aio_stream (no sequence state)
    grpc_client                           grpc_raw_stub
    grpc_explicit_int_content_client      grpc_explicit_int
    grpc_explicit_int8_content_client     grpc_explicit_int8
    grpc_explicit_byte_content_client     grpc_explicit_byte
    memory_growth_test                    memory_growth_http, memory_growth_grpc

Left out: examples of shared memory, CUDA, sequence state, ensembles, decoupled models and of loading
and unloading by name, none of which Mantlet has.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcclient_aio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpclient_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

import make_models
from node import Mantlet, Node, read_node
from triton import BearerToken, grpc_client, http_client

# Triton's HTTP and gRPC clients answer with classes of their own that read alike.
InferResult = httpclient.InferResult | grpcclient.InferResult

SERVER_NAME = "mantlet"
MODELS = ["simple", "simple_int8", "simple_string", "simple_identity", "identity_int32"]
QUERY = {"test_1": 1, "test_2": 2}
UNKNOWN_MODEL = "Request for unknown model"
KEEPALIVE = {
    "keepalive_time_ms": 2**31 - 1,
    "keepalive_timeout_ms": 20_000,
    "keepalive_permit_without_calls": False,
    "http2_max_pings_without_data": 2,
}
CHANNEL_ARGS = [
    ("grpc.max_send_message_length", 1024 * 1024),
    ("grpc.max_receive_message_length", 1024 * 1024),
    ("grpc.keepalive_time_ms", 2**31 - 1),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", False),
    ("grpc.http2.max_pings_without_data", 2),
    ("grpc.dns_enable_srv_queries", 1),
]
STREAM_RUNS = {
    "1000": [0, 11, 7, 5, 3, 2, 0, 1],
    "1001": [100, -11, -7, -5, -3, -2, 0, -1],
    "1002": [20, -11, -7, -5, -3, -2, 0, -1],
}
# An answer that takes longer is a failure; the examples wait ten seconds.
PATIENCE_SECONDS = 10
GROWTH_REPETITIONS = 100


def demand(condition: bool, otherwise: str) -> None:
    """A check of an example; says what was wrong instead of ending the process."""
    if not condition:
        raise AssertionError(otherwise)


def demand_refusal(call: Callable[[], object], words: str, whole_start: bool = False) -> None:
    """The call must be refused, in words that contain `words`, or start with them."""
    try:
        call()
    except InferenceServerException as error:
        message = error.message()
    except grpc.RpcError as error:
        message = error.details()
    else:
        raise AssertionError(f"was answered, where {words!r} was expected")
    fits = message.startswith(words) if whole_start else words in message
    demand(fits, f"refused with {message!r}, expected {words!r}")


# --- the questions that most examples ask ------------------------------------------------------


def operands(second: int) -> tuple[np.ndarray, np.ndarray]:
    """0 to 15, and sixteen times `second`, each [1, 16]."""
    first = np.expand_dims(np.arange(start=0, stop=16, dtype=np.int32), axis=0)
    return first, np.full(shape=(1, 16), fill_value=second, dtype=np.int32)


def demand_sum_and_difference(result: InferResult, first: np.ndarray, second: np.ndarray) -> None:
    demand(np.array_equal(result.as_numpy("OUTPUT0"), first + second), "incorrect sum")
    demand(np.array_equal(result.as_numpy("OUTPUT1"), first - second), "incorrect difference")


def http_add_sub(first: np.ndarray, second: np.ndarray, named: bool) -> dict:
    """One input in JSON and one in binary; outputs likewise, or not named at all."""
    inputs = [
        httpclient.InferInput("INPUT0", [1, 16], "INT32"),
        httpclient.InferInput("INPUT1", [1, 16], "INT32"),
    ]
    inputs[0].set_data_from_numpy(first, binary_data=False)
    inputs[1].set_data_from_numpy(second, binary_data=True)
    outputs = [
        httpclient.InferRequestedOutput("OUTPUT0", binary_data=True),
        httpclient.InferRequestedOutput("OUTPUT1", binary_data=False),
    ]
    return {"inputs": inputs, "outputs": outputs if named else None}


def grpc_add_sub(first: np.ndarray, second: np.ndarray) -> dict:
    inputs = [
        grpcclient.InferInput("INPUT0", [1, 16], "INT32"),
        grpcclient.InferInput("INPUT1", [1, 16], "INT32"),
    ]
    inputs[0].set_data_from_numpy(first)
    inputs[1].set_data_from_numpy(second)
    outputs = [
        grpcclient.InferRequestedOutput("OUTPUT0"),
        grpcclient.InferRequestedOutput("OUTPUT1"),
    ]
    return {"inputs": inputs, "outputs": outputs}


def decimal(numbers: np.ndarray) -> np.ndarray:
    """The numbers as text, in an object array of bytes."""
    text = [str(number).encode("utf-8") for number in numbers.ravel()]
    return np.array(text, dtype=np.object_).reshape(numbers.shape)


def demand_textual_sum_and_difference(
    result: InferResult, first: np.ndarray, second: np.ndarray
) -> None:
    sums = [int(text) for text in result.as_numpy("OUTPUT0")[0]]
    differences = [int(text) for text in result.as_numpy("OUTPUT1")[0]]
    demand(sums == (first + second)[0].tolist(), "incorrect sum")
    demand(differences == (first - second)[0].tolist(), "incorrect difference")


def identity_texts() -> list[np.ndarray]:
    """Text with a NUL inside as objects, and four raw bytes that begin with NUL as numpy bytes."""
    nulls = np.array([b"he\x00llo"] * 16, dtype=np.object_).reshape([1, 16])
    blobs = np.array([b"\x00\x01\x02\x03"] * 16, dtype=np.bytes_).reshape([1, 16])
    return [nulls, blobs]


def demand_identity(sent: np.ndarray, received: np.ndarray) -> None:
    """JSON gives text, binary gives bytes; both must be what was sent."""
    demand(received is not None, "OUTPUT0 is missing")
    values = [v if isinstance(v, bytes) else str(v).encode("utf-8") for v in received.ravel()]
    demand(received.shape == sent.shape, "incorrect shape")
    demand(values == [bytes(value) for value in sent.ravel()], "incorrect output")


# --- HTTP --------------------------------------------------------------------------------------


def http_infer(node: Node, compression: str | None) -> None:
    client = http_client(node)
    first, second = operands(-1)

    def ask(model: str, named: bool) -> InferResult:
        return client.infer(
            model,
            **http_add_sub(first, second, named),
            query_params=QUERY,
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )

    result = ask("simple", named=True)
    result.get_response()
    statistics = client.get_inference_statistics(model_name="simple")
    demand(len(statistics["model_stats"]) == 1, "statistics are not of one model")
    demand_sum_and_difference(result, first, second)
    demand_sum_and_difference(ask("simple", named=False), first, second)
    demand_refusal(lambda: ask("wrong_model_name", named=True), UNKNOWN_MODEL, whole_start=True)


def http_async_infer(node: Node) -> None:
    client = http_client(node, concurrency=2)
    first, second = operands(1)
    inputs = [
        httpclient.InferInput("INPUT0", [1, 16], "INT32"),
        httpclient.InferInput("INPUT1", [1, 16], "INT32"),
    ]
    inputs[0].set_data_from_numpy(first, binary_data=True)
    inputs[1].set_data_from_numpy(second, binary_data=True)
    outputs = [
        httpclient.InferRequestedOutput("OUTPUT0", binary_data=True),
        httpclient.InferRequestedOutput("OUTPUT1", binary_data=True),
    ]
    waiting = [
        client.async_infer(model_name="simple", inputs=inputs, outputs=outputs) for _ in range(2)
    ]
    for one in waiting:
        demand_sum_and_difference(one.get_result(), first, second)


def http_string_request() -> tuple[dict, np.ndarray, np.ndarray]:
    first, second = operands(1)
    inputs = [
        httpclient.InferInput("INPUT0", [1, 16], "BYTES"),
        httpclient.InferInput("INPUT1", [1, 16], "BYTES"),
    ]
    inputs[0].set_data_from_numpy(decimal(first), binary_data=True)
    inputs[1].set_data_from_numpy(decimal(second), binary_data=False)
    outputs = [
        httpclient.InferRequestedOutput("OUTPUT0", binary_data=True),
        httpclient.InferRequestedOutput("OUTPUT1", binary_data=False),
    ]
    return {"inputs": inputs, "outputs": outputs}, first, second


def http_identity_request(text: np.ndarray, binary: bool) -> dict:
    inputs = [httpclient.InferInput("INPUT0", text.shape, "BYTES")]
    inputs[0].set_data_from_numpy(text, binary_data=binary)
    outputs = [httpclient.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    return {"inputs": inputs, "outputs": outputs}


def http_string_infer(node: Node) -> None:
    client = http_client(node)
    request, first, second = http_string_request()
    result = client.infer(model_name="simple_string", **request)
    demand_textual_sum_and_difference(result, first, second)
    for text in identity_texts():
        for binary in (True, False):
            request = http_identity_request(text, binary)
            result = client.infer(model_name="simple_identity", **request)
            demand_identity(text, result.as_numpy("OUTPUT0"))


def http_health_metadata(node: Node) -> None:
    client = http_client(node)
    demand(client.is_server_live(query_params=QUERY), "is_server_live")
    demand(client.is_server_ready(), "is_server_ready")
    demand(client.is_model_ready("simple"), "is_model_ready")
    demand(client.get_server_metadata()["name"] == SERVER_NAME, "get_server_metadata")
    metadata = client.get_model_metadata("simple", query_params=QUERY)
    demand(metadata["name"] == "simple", "get_model_metadata")
    demand_refusal(lambda: client.get_model_metadata("wrong_model_name"), UNKNOWN_MODEL)


def http_repository_index(node: Node) -> None:
    names = {entry["name"] for entry in http_client(node).get_model_repository_index()}
    demand(set(MODELS) <= names, f"the index has {sorted(names)}")


# --- HTTP, asyncio -----------------------------------------------------------------------------


def http_aio_client(node: Node) -> httpclient_aio.InferenceServerClient:
    client = httpclient_aio.InferenceServerClient(
        url=node.authority, ssl=True, ssl_context=node.ssl_context()
    )
    client.register_plugin(BearerToken(node))
    return client


async def http_aio_infer(node: Node, compression: str | None) -> None:
    first, second = operands(-1)
    async with http_aio_client(node) as client:

        async def ask(model: str, named: bool) -> InferResult:
            return await client.infer(
                model,
                **http_add_sub(first, second, named),
                query_params=QUERY,
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )

        result = await ask("simple", named=True)
        statistics = await client.get_inference_statistics(model_name="simple")
        demand(len(statistics["model_stats"]) == 1, "statistics are not of one model")
        demand_sum_and_difference(result, first, second)
        demand_sum_and_difference(await ask("simple", named=False), first, second)
        await demand_refusal_later(ask("wrong_model_name", named=True), UNKNOWN_MODEL)
        both = await asyncio.gather(ask("simple", named=True), ask("simple", named=False))
        for result in both:
            demand_sum_and_difference(result, first, second)


async def demand_refusal_later(call: Awaitable, words: str) -> None:
    """The awaited call must be refused in words that start with `words`."""
    try:
        await call
    except InferenceServerException as error:
        demand(error.message().startswith(words), f"refused with {error.message()!r}")
    else:
        raise AssertionError(f"was answered, where {words!r} was expected")


async def http_aio_string_infer(node: Node) -> None:
    async with http_aio_client(node) as client:
        request, first, second = http_string_request()
        result = await client.infer(model_name="simple_string", **request)
        demand_textual_sum_and_difference(result, first, second)
        for text in identity_texts():
            for binary in (True, False):
                request = http_identity_request(text, binary)
                result = await client.infer(model_name="simple_identity", **request)
                demand_identity(text, result.as_numpy("OUTPUT0"))


async def http_aio_health_metadata(node: Node) -> None:
    async with http_aio_client(node) as client:
        demand(await client.is_server_live(query_params=QUERY), "is_server_live")
        demand(await client.is_server_ready(), "is_server_ready")
        demand(await client.is_model_ready("simple"), "is_model_ready")
        metadata = await client.get_server_metadata()
        demand(metadata["name"] == SERVER_NAME, "get_server_metadata")
        metadata = await client.get_model_metadata("simple", query_params=QUERY)
        demand(metadata["name"] == "simple", "get_model_metadata")
        await demand_refusal_later(client.get_model_metadata("wrong_model_name"), UNKNOWN_MODEL)


# --- gRPC --------------------------------------------------------------------------------------


def grpc_infer(node: Node, compression: str | None) -> None:
    client = grpc_client(node)
    first, second = operands(1)
    request = grpc_add_sub(first, second)
    result = client.infer(
        model_name="simple",
        **request,
        client_timeout=None,
        headers={"test": "1"},
        compression_algorithm=compression,
    )
    statistics = client.get_inference_statistics(model_name="simple")
    demand(len(statistics.model_stats) == 1, "statistics are not of one model")
    demand_sum_and_difference(result, first, second)
    result = client.infer(
        model_name="simple",
        inputs=request["inputs"],
        outputs=None,
        compression_algorithm=compression,
    )
    demand_sum_and_difference(result, first, second)


def put_answer(
    arrived: queue.Queue,
    result: grpcclient.InferResult | None,
    error: InferenceServerException | None,
) -> None:
    """The callback that Triton's gRPC client wants, which runs on a thread of its own."""
    arrived.put(error or result)


def grpc_async_infer(node: Node) -> None:
    client = grpc_client(node)
    first, second = operands(1)
    arrived: queue.Queue = queue.Queue()

    client.async_infer(
        model_name="simple",
        callback=partial(put_answer, arrived),
        client_timeout=None,
        **grpc_add_sub(first, second),
    )
    answer = arrived.get(timeout=PATIENCE_SECONDS)
    demand(not isinstance(answer, InferenceServerException), str(answer))
    demand_sum_and_difference(answer, first, second)


def grpc_string_request() -> tuple[dict, np.ndarray, np.ndarray]:
    first, second = operands(1)
    inputs = [
        grpcclient.InferInput("INPUT0", [1, 16], "BYTES"),
        grpcclient.InferInput("INPUT1", [1, 16], "BYTES"),
    ]
    inputs[0].set_data_from_numpy(decimal(first))
    inputs[1].set_data_from_numpy(decimal(second))
    outputs = [
        grpcclient.InferRequestedOutput("OUTPUT0"),
        grpcclient.InferRequestedOutput("OUTPUT1"),
    ]
    return {"inputs": inputs, "outputs": outputs}, first, second


def grpc_identity_request(text: np.ndarray) -> dict:
    inputs = [grpcclient.InferInput("INPUT0", text.shape, "BYTES")]
    inputs[0].set_data_from_numpy(text)
    return {"inputs": inputs, "outputs": [grpcclient.InferRequestedOutput("OUTPUT0")]}


def grpc_string_infer(node: Node) -> None:
    client = grpc_client(node)
    request, first, second = grpc_string_request()
    result = client.infer(model_name="simple_string", **request)
    demand_textual_sum_and_difference(result, first, second)
    for text in identity_texts():
        result = client.infer(model_name="simple_identity", **grpc_identity_request(text))
        demand_identity(text, result.as_numpy("OUTPUT0"))


def grpc_health_metadata(node: Node) -> None:
    client = grpc_client(node)
    headers = {"test": "1", "dummy": "2"}
    demand(client.is_server_live(headers=headers), "is_server_live")
    demand(client.is_server_ready(), "is_server_ready")
    demand(client.is_model_ready("simple"), "is_model_ready")
    demand(client.get_server_metadata().name == SERVER_NAME, "get_server_metadata")
    metadata = client.get_model_metadata("simple", headers=headers)
    demand(metadata.name == "simple", "get_model_metadata")
    demand_refusal(lambda: client.get_model_metadata("wrong_model_name"), UNKNOWN_MODEL)
    demand(client.get_model_config("simple").config.name == "simple", "get_model_config")


def grpc_repository_index(node: Node) -> None:
    names = {entry.name for entry in grpc_client(node).get_model_repository_index().models}
    demand(set(MODELS) <= names, f"the index has {sorted(names)}")


def grpc_keepalive(node: Node) -> None:
    options = grpcclient.KeepAliveOptions(**KEEPALIVE)
    grpc_one_infer(grpc_client(node, keepalive_options=options))


def grpc_custom_args(node: Node) -> None:
    grpc_one_infer(grpc_client(node, channel_args=CHANNEL_ARGS))


def grpc_one_infer(client: grpcclient.InferenceServerClient) -> None:
    first, second = operands(1)
    result = client.infer(model_name="simple", **grpc_add_sub(first, second), headers={"test": "1"})
    demand_sum_and_difference(result, first, second)


def stream_requests() -> list[dict]:
    """Every value of every run on one stream, told apart by the request id."""
    requests = []
    for request_id, value in streamed_values().items():
        data = np.full(shape=[1, 16], fill_value=value, dtype=np.int32)
        inputs = [grpcclient.InferInput("INPUT0", data.shape, "INT32")]
        inputs[0].set_data_from_numpy(data)
        requests.append(
            {
                "model_name": "identity_int32",
                "inputs": inputs,
                "outputs": [grpcclient.InferRequestedOutput("OUTPUT0")],
                "request_id": request_id,
            }
        )
    return requests


def streamed_values() -> dict[str, int]:
    """The values of the example's three runs, by request id."""
    return {
        f"{run}_{count}": value
        for run, values in STREAM_RUNS.items()
        for count, value in enumerate(values, start=1)
    }


def demand_streamed(answers: list[InferResult | InferenceServerException]) -> None:
    """Every request is answered once, with its own value."""
    waiting = streamed_values()
    for answer in answers:
        demand(not isinstance(answer, InferenceServerException), str(answer))
        wanted = waiting.pop(answer.get_response().id, None)
        demand(wanted is not None, f"unexpected id {answer.get_response().id!r}")
        demand(bool((answer.as_numpy("OUTPUT0") == wanted).all()), "incorrect output")
    demand(not waiting, f"no answer to {sorted(waiting)}")


def grpc_stream(node: Node) -> None:
    arrived: queue.Queue = queue.Queue()

    requests = stream_requests()
    with grpc_client(node) as client:
        client.start_stream(callback=partial(put_answer, arrived), stream_timeout=None)
        for request in requests:
            client.async_stream_infer(**request)
        answers = [arrived.get(timeout=PATIENCE_SECONDS) for _ in requests]
    demand_streamed(answers)


# --- gRPC, asyncio -----------------------------------------------------------------------------


def grpc_aio_client(node: Node, **options) -> grpcclient_aio.InferenceServerClient:
    client = grpcclient_aio.InferenceServerClient(
        url=node.authority, ssl=True, root_certificates=node.ca, **options
    )
    client.register_plugin(BearerToken(node))
    return client


async def grpc_aio_infer(node: Node, compression: str | None) -> None:
    first, second = operands(1)
    request = grpc_add_sub(first, second)
    async with grpc_aio_client(node) as client:
        result = await client.infer(
            model_name="simple",
            **request,
            client_timeout=None,
            headers={"test": "1"},
            compression_algorithm=compression,
        )
        statistics = await client.get_inference_statistics(model_name="simple")
        demand(len(statistics.model_stats) == 1, "statistics are not of one model")
        demand_sum_and_difference(result, first, second)
        both = await asyncio.gather(
            *(
                client.infer(
                    model_name="simple",
                    inputs=request["inputs"],
                    outputs=None,
                    compression_algorithm=compression,
                )
                for _ in range(2)
            )
        )
        for result in both:
            demand_sum_and_difference(result, first, second)


async def grpc_aio_string_infer(node: Node) -> None:
    async with grpc_aio_client(node) as client:
        request, first, second = grpc_string_request()
        result = await client.infer(model_name="simple_string", **request)
        demand_textual_sum_and_difference(result, first, second)
        for text in identity_texts():
            request = grpc_identity_request(text)
            result = await client.infer(model_name="simple_identity", **request)
            demand_identity(text, result.as_numpy("OUTPUT0"))


async def grpc_aio_health_metadata(node: Node) -> None:
    headers = {"test": "1", "dummy": "2"}
    async with grpc_aio_client(node) as client:
        demand(await client.is_server_live(headers=headers), "is_server_live")
        demand(await client.is_server_ready(), "is_server_ready")
        demand(await client.is_model_ready("simple"), "is_model_ready")
        metadata = await client.get_server_metadata()
        demand(metadata.name == SERVER_NAME, "get_server_metadata")
        metadata = await client.get_model_metadata("simple", headers=headers)
        demand(metadata.name == "simple", "get_model_metadata")
        await demand_refusal_later(client.get_model_metadata("wrong_model_name"), UNKNOWN_MODEL)
        config = await client.get_model_config("simple")
        demand(config.config.name == "simple", "get_model_config")


async def grpc_aio_keepalive(node: Node) -> None:
    await grpc_aio_one_infer(
        grpc_aio_client(node, keepalive_options=grpcclient_aio.KeepAliveOptions(**KEEPALIVE))
    )


async def grpc_aio_custom_args(node: Node) -> None:
    await grpc_aio_one_infer(grpc_aio_client(node, channel_args=CHANNEL_ARGS))


async def grpc_aio_one_infer(client: grpcclient_aio.InferenceServerClient) -> None:
    first, second = operands(1)
    async with client:
        result = await client.infer(
            model_name="simple", **grpc_add_sub(first, second), headers={"test": "1"}
        )
    demand_sum_and_difference(result, first, second)


async def grpc_aio_stream(node: Node) -> None:
    async def requests() -> AsyncIterator[dict]:
        for request in stream_requests():
            yield request

    async with grpc_aio_client(node) as client:
        iterator = client.stream_infer(inputs_iterator=requests(), stream_timeout=None)
        answers = [error or result async for result, error in iterator]
    demand_streamed(answers)


# --- gRPC, by the generated stub ---------------------------------------------------------------


class Stub:
    """The generated stub on a channel of its own, with the token on every call."""

    def __init__(self, node: Node) -> None:
        credentials = grpc.ssl_channel_credentials(Path(node.ca).read_bytes())
        self._channel = grpc.secure_channel(node.authority, credentials)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = tuple(node.authorization.items())

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, method: str, request: Any) -> Any:
        """One unary call."""
        return getattr(self._stub, method)(request, metadata=self._metadata)


def grpc_raw_stub(node: Node) -> None:
    with Stub(node) as stub:
        demand(stub.call("ServerLive", service_pb2.ServerLiveRequest()).live, "ServerLive")
        demand(stub.call("ServerReady", service_pb2.ServerReadyRequest()).ready, "ServerReady")
        named = {"name": "simple", "version": ""}
        ready = stub.call("ModelReady", service_pb2.ModelReadyRequest(**named))
        demand(ready.ready, "ModelReady")
        stub.call("ServerMetadata", service_pb2.ServerMetadataRequest())
        stub.call("ModelMetadata", service_pb2.ModelMetadataRequest(**named))
        stub.call("ModelConfig", service_pb2.ModelConfigRequest(**named))

        request = service_pb2.ModelInferRequest()
        request.model_name = "simple"
        request.model_version = ""
        request.id = "my request id"
        first, second = operands(1)
        for name, data in (("INPUT0", first), ("INPUT1", second)):
            request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
            request.raw_input_contents.append(data.tobytes())
        request.outputs.add(name="OUTPUT0")
        response = stub.call("ModelInfer", request)
        demand(response.id == "my request id", f"id is {response.id!r}")
        demand(len(response.outputs) == 1, "more came than the one output asked for")
        total = np.frombuffer(response.raw_output_contents[0], dtype=np.int32)
        demand(total.tolist() == (first + second)[0].tolist(), "incorrect sum")


def explicit_request(
    model: str, datatype: str, field: str, first: list, second: list
) -> service_pb2.ModelInferRequest:
    """Typed contents for both inputs, and both outputs asked for."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version="")
    for name, data in (("INPUT0", first), ("INPUT1", second)):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1, 16])
        getattr(tensor.contents, field)[:] = data
    request.outputs.add(name="OUTPUT0")
    request.outputs.add(name="OUTPUT1")
    return request


def demand_explicit_integers(
    response: service_pb2.ModelInferResponse, dtype: type[np.integer]
) -> None:
    """The answer is raw, whatever the request was."""
    demand(len(response.outputs) == 2, "expected two outputs")
    sums, differences = (
        np.resize(np.frombuffer(raw, dtype=dtype), list(output.shape))
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    )
    demand(sums[0].tolist() == [n + 1 for n in range(16)], "incorrect sum")
    demand(differences[0].tolist() == [n - 1 for n in range(16)], "incorrect difference")


def grpc_explicit_int(node: Node) -> None:
    with Stub(node) as stub:
        first, second = list(range(16)), [1] * 16
        request = explicit_request("simple", "INT32", "int_contents", first, second)
        demand_explicit_integers(stub.call("ModelInfer", request), np.int32)
        request.raw_input_contents.append(np.array(first[0:8]).tobytes())
        request.inputs[0].contents.int_contents[:] = first[8:]
        demand_refusal(
            lambda: stub.call("ModelInfer", request),
            "contents field must not be specified when using "
            "raw_input_contents for 'INPUT0' for model 'simple'",
        )


def grpc_explicit_int8(node: Node) -> None:
    with Stub(node) as stub:
        first, second = list(range(16)), [1] * 16
        request = explicit_request("simple_int8", "INT8", "int_contents", first, second)
        demand_explicit_integers(stub.call("ModelInfer", request), np.int8)
        request.model_version = "wrong_specification"
        demand_refusal(
            lambda: stub.call("ModelInfer", request),
            "failed to get model version from specified version string 'wrong_specification'",
        )


def grpc_explicit_byte(node: Node) -> None:
    with Stub(node) as stub:
        first, second = [str(n).encode("utf-8") for n in range(16)], [b"1"] * 16
        request = explicit_request("simple_string", "BYTES", "bytes_contents", first, second)
        response = stub.call("ModelInfer", request)
        demand(len(response.outputs) == 2, "expected two outputs")
        sums, differences = (
            np.resize(deserialize_bytes_tensor(raw), list(output.shape))
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        )
        demand([int(text) for text in sums[0]] == [n + 1 for n in range(16)], "incorrect sum")
        demand(
            [int(text) for text in differences[0]] == [n - 1 for n in range(16)],
            "incorrect difference",
        )


# --- many connections, one after another -------------------------------------------------------


def memory_growth_http(node: Node) -> None:
    sent, _ = operands(1)
    for _ in range(GROWTH_REPETITIONS):
        client = http_client(node)
        inputs = [httpclient.InferInput("INPUT0", [1, 16], "INT32")]
        inputs[0].set_data_from_numpy(sent, binary_data=True)
        outputs = [httpclient.InferRequestedOutput("OUTPUT0", binary_data=True)]
        demand_same(sent, client.infer(model_name="identity_int32", inputs=inputs, outputs=outputs))


def memory_growth_grpc(node: Node) -> None:
    sent, _ = operands(1)
    for _ in range(GROWTH_REPETITIONS):
        client = grpc_client(node)
        inputs = [grpcclient.InferInput("INPUT0", [1, 16], "INT32")]
        inputs[0].set_data_from_numpy(sent)
        outputs = [grpcclient.InferRequestedOutput("OUTPUT0")]
        demand_same(sent, client.infer(model_name="identity_int32", inputs=inputs, outputs=outputs))


def demand_same(sent: np.ndarray, result: InferResult) -> None:
    received = result.as_numpy("OUTPUT0")
    demand(received.dtype == sent.dtype and received.shape == sent.shape, "incorrect output")
    demand(np.array_equal(received, sent), "incorrect output")


# --- the run -----------------------------------------------------------------------------------


def examples() -> dict[str, Callable[[Node], None]]:
    """Every example by name, as an ordinary function of the node."""
    plain = [
        http_async_infer,
        http_string_infer,
        http_health_metadata,
        http_repository_index,
        grpc_async_infer,
        grpc_string_infer,
        grpc_health_metadata,
        grpc_repository_index,
        grpc_keepalive,
        grpc_custom_args,
        grpc_stream,
        grpc_raw_stub,
        grpc_explicit_int,
        grpc_explicit_int8,
        grpc_explicit_byte,
        memory_growth_http,
        memory_growth_grpc,
    ]
    asynchronous = [
        http_aio_string_infer,
        http_aio_health_metadata,
        grpc_aio_string_infer,
        grpc_aio_health_metadata,
        grpc_aio_keepalive,
        grpc_aio_custom_args,
        grpc_aio_stream,
    ]
    found: dict[str, Callable[[Node], None]] = {check.__name__: check for check in plain}
    for check in asynchronous:
        found[check.__name__] = partial(run_async, check)
    for compression in (None, "gzip", "deflate"):
        suffix = f" {compression}" if compression else ""
        found[f"http_infer{suffix}"] = partial(http_infer, compression=compression)
        found[f"grpc_infer{suffix}"] = partial(grpc_infer, compression=compression)
        for check in (http_aio_infer, grpc_aio_infer):
            found[f"{check.__name__}{suffix}"] = partial(run_async, check, compression=compression)
    return found


def run_async(check: Callable[..., Awaitable[None]], node: Node, **options) -> None:
    """Runs an asyncio example on a loop of its own."""
    asyncio.run(check(node, **options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--mantlet", required=True, help="the mantlet binary")
    arguments = parser.parse_args()

    node = read_node(arguments.data_dir)
    mantlet = Mantlet(arguments.mantlet, arguments.data_dir)
    with tempfile.TemporaryDirectory() as scratch:
        paths = {path.stem: path for path in make_models.build(Path(scratch))}
        for name in MODELS:
            mantlet.deploy(paths[name], name)

    passed = failed = 0
    for name, example in sorted(examples().items()):
        try:
            example(node)
        except Exception:  # noqa: BLE001 - one example's failure must not hide the next one's
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok     {name}", flush=True)
    print(f"{passed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
