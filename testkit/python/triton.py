"""Triton's clients, unmodified, pointed at a Mantlet node: TLS with its CA, its token on every call.

Not a script. A module of its own because Triton's and KServe's generated messages share their names:
one process can import either, never both.
"""

from __future__ import annotations

import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient._request import Request
from tritonclient.http import InferenceServerClientPlugin

from node import Node


class BearerToken(InferenceServerClientPlugin):
    """Adds the token to every request of a Triton client, calls without `headers` included."""

    def __init__(self, node: Node) -> None:
        self._header = node.authorization

    def __call__(self, request: Request) -> None:
        # A new dict: the caller's own must not grow a token.
        request.headers = {**request.headers, **self._header}


def http_client(node: Node, concurrency: int = 1) -> triton_http.InferenceServerClient:
    """Triton's HTTP client over TLS, as its `ssl_options` allow, with the token on every call."""
    client = triton_http.InferenceServerClient(
        url=node.authority,
        concurrency=concurrency,
        ssl=True,
        ssl_options={"ca_certs": node.ca},
    )
    client.register_plugin(BearerToken(node))
    return client


def grpc_client(node: Node, **options) -> triton_grpc.InferenceServerClient:
    """Triton's gRPC client over TLS on the same port, with the token on every call."""
    client = triton_grpc.InferenceServerClient(
        url=node.authority, ssl=True, root_certificates=node.ca, **options
    )
    client.register_plugin(BearerToken(node))
    return client
