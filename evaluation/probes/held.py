"""Connections that are held without paying for them: how long the node puts up with each.

A connection takes one of the node's places (`gateway.connections`), so whoever holds enough of them
for ever has stopped the node for everybody else.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from frames import HEADERS, PREFACE, frame, head, request, settings
from http1 import HOST, get, post
from result import Result
from target import Target
from wire import connect

# Handshake and head 10 s, silence in a body 10 s, deadline 30 s, HTTP/2's pings 30 s and 20 s more.
PATIENCE_SECONDS = 55
LOOK_SECONDS = 0.5
# Heads that are never ended: so many connections at once, each with so many bytes.
HEADS, HEAD = 1000, 250_000


@dataclass(frozen=True)
class Case:
    """A connection: how it begins, and what drips into it how often."""

    name: str
    begin: bytes = b""
    protocol: str | None = "http/1.1"
    drip: bytes = b""
    every: float = 4
    tls: bool = True
    # Whether what the node says is read; a connection that is never read from looks open for ever.
    listen: bool = True


def cases(target: Target) -> Iterator[Case]:
    """Every way to hold a connection that we know."""
    token = b"authorization: Bearer " + target.tokens["prober"].encode()
    admin = b"authorization: Bearer " + target.node.token.encode()
    size = b"content-length: 4096"
    half = b"GET /v2/health/live HTTP/1.1\r\n" + HOST
    infer = post(target.infer, token, size, body=b"{")
    open_stream = head(target.infer, (b"authorization", token[15:]), method=b"POST")

    yield Case("nothing, not even TLS", tls=False)
    yield Case("nothing after TLS")
    yield Case("nothing after TLS, no ALPN", protocol=None)
    yield Case("nothing after TLS, ALPN h2", protocol="h2")
    yield Case("half of HTTP/2's preface", PREFACE[:12], "h2")
    yield Case("HTTP/2's preface", PREFACE, "h2")
    yield Case("half a header block", PREFACE + settings() + frame(HEADERS, 0, 1, b"\x82"), "h2")
    yield Case("half a head", half)
    yield Case("half a head, dripping", half, drip=b"x: y\r\n")
    yield Case("an answered request", get(b"/v2/health/live"))
    for method, path in target.takers():
        for who, headers in {"no token": (size,), "admin": (admin, size)}.items():
            raw = post(path, *headers, body=b"{").replace(b"POST", method.encode(), 1)
            yield Case(f"{who}, half a body for {method} {path}", raw)
    yield Case("caller, half a body", infer)
    yield Case("caller, a body dripping", infer, drip=b" ")
    streamed = PREFACE + settings() + request(1, open_stream, end=False)
    yield Case("caller, half a body over HTTP/2", streamed, "h2")
    chunked = post(target.infer, token, b"transfer-encoding: chunked", body=b"1;")
    yield Case("caller, a chunk extension dripping", chunked, drip=b"a" * 100, every=2)
    unread = get(b"/nothing") * 50_000
    yield Case("no token, 50,000 answers never read", unread, listen=False)


def hold(target: Target, case: Case, found: dict[str, float]) -> None:
    """Holds one connection until the node lets go of it, and notes after how many seconds."""
    begin = dripped = time.monotonic()
    stream: socket.socket | ssl.SSLSocket
    if case.tls:
        stream = connect(target, case.protocol)
    else:
        stream = socket.create_connection(target.address, 10)
    with stream:
        port = stream.getsockname()[1]
        stream.settimeout(LOOK_SECONDS)
        # The node may take no more until we read, or have cut us already.
        with suppress(OSError):
            stream.sendall(case.begin)
        # Until the node has accepted it, a connection looks as if it were closed.
        time.sleep(LOOK_SECONDS)
        while time.monotonic() - begin < PATIENCE_SECONDS:
            if not target.holds(port):
                found[case.name] = time.monotonic() - begin
                return
            if case.drip and time.monotonic() - dripped > case.every:
                dripped = time.monotonic()
                with suppress(OSError):
                    stream.sendall(case.drip)
            if case.listen:
                with suppress(OSError):
                    stream.recv(1 << 16)
            time.sleep(LOOK_SECONDS)


def large_heads(target: Target) -> Result:
    """Heads that are large and never ended, on many connections at once."""
    raw = b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * HEAD
    held: list[ssl.SSLSocket] = []
    with target.another("large-heads") as fresh:
        with fresh.growth() as grown:
            for _ in range(HEADS):
                held.append(connect(fresh))
                # One that is refused before its end is refused as it should be.
                with suppress(OSError):
                    held[-1].sendall(raw)
        for stream in held:
            stream.close()
        trouble = fresh.alive()
    sent = f"{HEADS:,} connections, {HEAD:,} bytes of a head each, without a token"
    return Result(
        "held: large heads", sent, f"{grown}, {trouble or 'alive'}", grown.ok and not trouble
    )


def probe(target: Target) -> Iterator[Result]:
    """All at once, since each of them mostly waits."""
    every, found = list(cases(target)), {}
    threads = [threading.Thread(target=hold, args=(target, case, found)) for case in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for case in every:
        seconds = found.get(case.name)
        drip = f", {len(case.drip)} bytes every {case.every:g} s" if case.drip else ""
        outcome = (
            f"held for {PATIENCE_SECONDS} s" if seconds is None else f"cut after {seconds:.0f} s"
        )
        sent = f"{len(case.begin):,} bytes{drip}"
        yield Result(f"held: {case.name}", sent, outcome, seconds is not None)
    yield large_heads(target)
    trouble = target.alive()
    yield Result("held: all", f"{len(every)} connections", trouble or "alive", not trouble)
