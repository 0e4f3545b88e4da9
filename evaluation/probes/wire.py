"""Bytes out, bytes in: one connection over TLS to the node, and HTTP/1.1 answers read off it."""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from target import Target

# Longer than this without an answer and without a cut, and the node hangs.
HANG_SECONDS = 30.0
PIECE = 16 << 10
PAUSE_MILLISECONDS = 20

# What to send: pieces, or a function that gives them and may look at what came back so far.
Sender = Iterable[bytes] | Callable[[bytearray], Iterable[bytes]]


@dataclass(frozen=True)
class Heard:
    """What the node said, and how the exchange ended: `closed`, `cut`, `open` or `hung`."""

    data: bytes
    ended: str
    sent: int
    seconds: float


def connect(target: Target, protocol: str | None = "http/1.1") -> ssl.SSLSocket:
    """A TLS connection that speaks this protocol, or names none."""
    context = target.node.ssl_context()
    if protocol:
        context.set_alpn_protocols([protocol])
    host, _ = target.address
    return context.wrap_socket(socket.create_connection(target.address, 10), server_hostname=host)


def talk(
    target: Target,
    send: Sender,
    protocol: str = "http/1.1",
    *,
    quiet: float = 0.5,
    listen: bool = True,
) -> Heard:
    """Sends as fast as the node takes it and reads as fast as it answers.

    Ends when the node closes, when everything is sent, something came back and `quiet` seconds have
    passed in silence, or when the node hangs. Who does not `listen` ends after silence alone.
    """
    begin = last = time.monotonic()
    heard, sent, ended = bytearray(), 0, ""
    pieces = iter(send(heard) if callable(send) else send)
    piece: memoryview | None = memoryview(b"")
    with connect(target, protocol) as stream:
        stream.setblocking(False)
        poll = select.poll()
        while not ended:
            moved = False
            if piece is not None and not len(piece):
                content = next(pieces, None)
                piece = None if content is None else memoryview(content)
            try:
                if piece:
                    count = stream.send(piece[:PIECE])
                    piece, sent, moved = piece[count:], sent + count, True
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                # What the node said before it cut may still be there to read.
                piece = None
            try:
                if listen:
                    data = stream.recv(1 << 16)
                    ended = "" if data else "closed"
                    heard += data
                    moved = True
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                ended = "cut"
            now = time.monotonic()
            if moved:
                last = now
            elif now - last > quiet and (not listen or (piece is None and heard)):
                ended = "open"
            elif now - begin > HANG_SECONDS:
                ended = "hung"
            else:
                reads, writes = select.POLLIN * listen, select.POLLOUT * bool(piece)
                poll.register(stream, reads | writes)
                poll.poll(PAUSE_MILLISECONDS)
    return Heard(bytes(heard), ended, sent, time.monotonic() - begin)


@dataclass(frozen=True)
class Answer:
    """One HTTP/1.1 answer."""

    status: int
    kind: str
    body: bytes


def answers(data: bytes) -> list[Answer]:
    """Every whole answer in what a connection said; the node always names its length."""
    found = []
    while head := re.match(rb"HTTP/1\.[01] (\d{3}).*?\r\n\r\n", data, re.DOTALL):
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head[0])
        kind = re.search(rb"(?i)\r\ncontent-type: *([^\r;]+)", head[0])
        end = head.end() + (int(length[1]) if length else 0)
        body = data[head.end() : end]
        found.append(Answer(int(head[1]), kind[1].decode() if kind else "", body))
        data = data[end:]
    return found


def untyped(answer: Answer) -> str:
    """What is wrong with a refusal: the server failed, or it has no form that clients know."""
    typed = answer.kind == "application/problem+json"
    if answer.status >= 500 and not (answer.status == 503 and typed):
        return f"{answer.status}: {answer.body[:80]!r}"
    if answer.status >= 400 and answer.body and not typed:
        return f"{answer.status} as {answer.kind}: {answer.body[:80]!r}"
    return ""
