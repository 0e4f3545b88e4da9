"""HTTP/2 as bytes: frames by hand, since no library would send these, and answers read back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import hpack

from wire import Answer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
ERRORS = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
    *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"),
    *("CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)

Header = tuple[bytes, bytes]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame with these values, by their names above."""
    pairs = [struct.pack(">HI", globals()[name], value) for name, value in values.items()]
    return frame(SETTINGS, payload=b"".join(pairs))


def number(value: int, bits: int, first: int = 0) -> bytes:
    """An integer with a prefix of so many bits (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytearray([first | most]), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def literal(name: bytes, value: bytes, first: int = 0) -> bytes:
    """A header in plain bytes; `first` is 0x40 to have it remembered."""
    texts = (number(len(name), 7) + name, number(len(value), 7) + value)
    return bytes([first]) + b"".join(texts)


def block(*headers: Header) -> bytes:
    """These headers, as they are."""
    return b"".join(literal(name, value) for name, value in headers)


def head(path: str, *more: Header, method: bytes = b"GET") -> list[Header]:
    """The headers of a request."""
    pseudo = [(b":method", method), (b":scheme", b"https"), (b":path", path.encode())]
    return [*pseudo, (b":authority", b"localhost"), *more]


def request(stream: int, headers: list[Header], *, end: bool = True) -> bytes:
    """A HEADERS frame that opens a stream."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(*headers))


def streams(count: int) -> range:
    """The ids of so many streams of a client."""
    return range(1, 2 * count, 2)


def read_frames(data: bytes | bytearray) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of every whole frame."""
    at = 0
    while at + 9 <= len(data):
        length = int.from_bytes(data[at : at + 3])
        kind, flags, stream = struct.unpack_from(">BBI", data, at + 3)
        if at + 9 + length > len(data):
            return
        yield kind, flags, stream, bytes(data[at + 9 : at + 9 + length])
        at += 9 + length


@dataclass
class Spoken:
    """What a node said over HTTP/2."""

    statuses: dict[int, int] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    resets: dict[int, str] = field(default_factory=dict)
    goaway: str = ""
    pongs: int = 0

    def answers(self) -> Iterator[Answer]:
        """The answers, in the form that HTTP/1.1 ones have."""
        for stream, status in self.statuses.items():
            yield Answer(status, self.kinds[stream], self.bodies.get(stream, b""))


def name_of(error: int) -> str:
    """An error's name."""
    return ERRORS[error] if error < len(ERRORS) else hex(error)


def read(data: bytes) -> Spoken:
    """Reads everything that a node said."""
    spoken, decoder = Spoken(), hpack.Decoder()
    for kind, flags, stream, payload in read_frames(data):
        if kind == HEADERS:
            headers = dict(decoder.decode(payload))
            # Trailers have no status.
            spoken.statuses.setdefault(stream, int(headers.get(":status", 0)))
            spoken.kinds.setdefault(stream, headers.get("content-type", ""))
        elif kind == DATA:
            spoken.bodies[stream] = spoken.bodies.get(stream, b"") + payload
        elif kind == RST_STREAM:
            spoken.resets[stream] = name_of(int.from_bytes(payload))
        elif kind == GOAWAY:
            spoken.goaway = name_of(int.from_bytes(payload[4:8]))
        elif kind == PING and flags & ACK:
            spoken.pongs += 1
    return spoken
