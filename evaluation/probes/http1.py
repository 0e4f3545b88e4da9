"""HTTP/1.1 abuse: requests that two readers may read differently, and ones without measure."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from result import Result
from target import Target
from wire import Answer, Heard, Sender, answers, talk, untyped

HOST = b"host: localhost\r\n"
# The request that hides in others, and what only its answer holds.
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nhost: hidden\r\n\r\n"
MARK = b'"live"'
BODY = b"0\r\n\r\n" + HIDDEN
THREADS = 8
PIPELINED = 1000

# Ways round to what needs a token.
ROUNDABOUT = rb"""
    //v1/models  /./v1/models  /v2/../v1/models  /v2/%2e%2e/v1/models  /v2/health/..;/..;/v1/models
    /v2/health/live/../../../v1/models  /v2/health/live%2f..%2f..%2f..%2fv1%2fmodels
    /v1%2fmodels  /v1/models%00  /v1/models%20  /v1/models%3f  /v1/models%23  /v1/models;x
    /v1\models  /v2\..\v1\models  /V1/models  /v1/models/  /%76%31/models  /metrics/.  *
    http://localhost/v1/models  http://user:pass@localhost/v1/models  ftp://x/v1/models
"""
# Names and questions that can't be read.
UNREADABLE = b"""
    /v2/models/%ff%fe/ready  /v2/models/%c0%ae%c0%ae/ready  /v2/models/\xff\xfe/ready
    /v2/models/%00/ready  /v2/models/%2e%2e/ready  /v2/models/%zz/ready  /v2/models/%/ready
    /v2/models/%F0%9F%92%A9/ready  /v2/models/a%0d%0ab/ready  /v2/models//ready
    /v1/ledger?from=x  /v1/ledger?from=-1  /v1/ledger?from=1&from=2  /v1/ledger?limit=99999999999
    /v1/models/tumour/bundle?version=%ff
"""
# Files that are in no bundle.
OUTSIDE = b"""
    ../../../ca.key  ..%2f..%2f..%2fca.key  %2e%2e%2f%2e%2e%2f%2e%2e%2fca.key  ..%5c..%5cca.key
    ..%252f..%252fca.key  %2fetc%2fpasswd  model.onnx%00  .
"""

# What must hold of the answers; gives a complaint, or nothing.
Want = Callable[[list[Answer], Heard], str]


@dataclass(frozen=True)
class Case:
    """A probe: what is sent, in words and in bytes, and what must come of it."""

    name: str
    sent: str
    raw: Sender
    want: Want
    listen: bool = True


def refused(found: list[Answer], heard: Heard) -> str:
    """Every answer says no; a connection that is cut without one says so too."""
    good = [answer for answer in found if answer.status < 400]
    return f"answered with {good[0].status}" if good else ""


def alone(found: list[Answer], heard: Heard) -> str:
    """Nothing hidden in the request was answered."""
    return "the hidden request was answered" if MARK in heard.data else ""


def harmless(found: list[Answer], heard: Heard) -> str:
    """Any answer will do, as long as there is one or a cut."""
    return ""


def served(count: int) -> Want:
    """So many answers, all of them 200."""

    def want(found: list[Answer], heard: Heard) -> str:
        good = sum(answer.status == 200 for answer in found)
        return "" if good == len(found) == count else f"{good} of {count} answered with 200"

    return want


def stalls(found: list[Answer], heard: Heard) -> str:
    """Whoever reads nothing can't go on sending."""
    return "" if heard.ended in ("open", "cut") else heard.ended


def get(path: bytes, *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with a host and these headers."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"GET " + path + b" " + version + b"\r\n" + HOST + lines + b"\r\n"


def post(path: str, *headers: bytes, body: bytes = b"") -> bytes:
    """A POST with a host and these headers, none of which is added here."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n" + body


def smuggling(target: Target, token: bytes) -> Iterator[Case]:
    """Two lengths, odd lengths, odd encodings: nothing in the body may pass for a request."""
    size = b"content-length: %d" % len(BODY)
    chunked = b"transfer-encoding: chunked"

    def case(name: str, *headers: bytes, want: Want = alone, body: bytes = BODY) -> Case:
        shown = "; ".join(header[:50].decode("latin-1") for header in headers)
        return Case(f"smuggle: {name}", ascii(shown)[1:-1], [make(*headers, body=body)], want)

    def make(*headers: bytes, body: bytes) -> bytes:
        return post(target.infer, token, *headers, body=body)

    yield case("CL.TE", size, chunked)
    yield case("TE.CL", chunked, size)
    yield case("CL 0 and TE", b"content-length: 0", chunked)
    yield case("two lengths", size, b"content-length: 5", want=refused)
    for value in (b"5, 6", b"+5", b"-1", b"0x5", b"5 5", b"", b"18446744073709551621", b"1e1"):
        yield case(f"length {value.decode()!r}", b"content-length: " + value, want=refused)
    for value in (b"xchunked", b"chunked, identity", b"chunked, x", b"chunked\x0b", b"\x0bchunked"):
        yield case(f"encoding {value!r}"[:40], size, b"transfer-encoding: " + value)
    yield case("encoding Chunked", b"Transfer-Encoding:\tChUnKeD", size)
    yield case("encoding named twice", chunked, b"transfer-encoding: identity", size)
    yield case("space before the colon", size, b"transfer-encoding : chunked", want=refused)
    yield case("space before the name", size, b" transfer-encoding: chunked", want=refused)
    yield case("folded header", size, b"x: y\r\n transfer-encoding: chunked", want=refused)
    yield case("bare CR in a header", size, b"x: y\rtransfer-encoding: chunked", want=refused)
    yield case("NUL in a header", size, b"x: y\0transfer-encoding: chunked", want=refused)
    yield case("no colon", size, b"transfer-encoding chunked", want=refused)
    yield case("underscore", size, b"transfer_encoding: chunked")
    old = make(chunked, body=BODY).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    yield Case("smuggle: TE in HTTP/1.0", "transfer-encoding: chunked", [old], refused)


def chunks(target: Target, token: bytes) -> Iterator[Case]:
    """Chunks whose sizes and ends are not what they should be."""
    head = post(target.infer, token, b"transfer-encoding: chunked")
    for name, body in {
        "size 0x3": b"0x3\r\nabc\r\n0\r\n\r\n",
        "size -3": b"-3\r\nabc\r\n0\r\n\r\n",
        "size g": b"g\r\nabc\r\n0\r\n\r\n",
        "size of 2^64 + 3": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        "size of 68 bits": b"fffffffffffffffff\r\nabc",
        "size of 63 bits": b"7fffffffffffffff\r\nabc",
        "size of 1,000 digits": b"0" * 1000 + b"3\r\nabc\r\n0\r\n\r\n",
        "no end after the data": b"3\r\nabc0\r\n\r\n" + HIDDEN,
        "bare LF after the size": b"3\nabc\r\n0\r\n\r\n" + HIDDEN,
        "bare LF in an extension": b"3;a\nabc\r\n0\r\n\r\n" + HIDDEN,
        "extension junk": b'3;a="\r\nabc\r\n0\r\n\r\n',
        "extension of 1 MB": b"3;" + b"a" * 1_000_000 + b"\r\nabc\r\n0\r\n\r\n",
        "100,000 chunks of a byte with extensions": b"1;ext=1\r\na\r\n" * 100_000 + b"0\r\n\r\n",
        "10,000 trailers": b"3\r\nabc\r\n0\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
        "trailer of 1 MB": b"3\r\nabc\r\n0\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
        "trailer that names a length": b"3\r\nabc\r\n0\r\ncontent-length: 50\r\n\r\n",
    }.items():
        yield Case(f"chunks: {name}", f"{len(body):,} bytes", [head + body], refused)
    packed = gzip.compress(bytes(512 << 20), 9)
    headers = (token, b"content-encoding: gzip", b"content-length: %d" % len(packed))
    bomb = post(target.infer, *headers, body=packed)
    yield Case("gzip bomb", f"{len(packed):,} bytes that are 512 MiB", [bomb], refused)


def heads() -> Iterator[Case]:
    """Request lines and headers that are wrong, too many or too long."""
    live = b"/v2/health/live"
    for name, raw in {
        "no host": b"GET /v2/health/live HTTP/1.1\r\n\r\n",
        "two hosts": get(live, b"host: other"),
        "host with spaces": b"GET /v2/health/live HTTP/1.1\r\nhost: a b\r\n\r\n",
        "HTTP/9.9": get(live, version=b"HTTP/9.9"),
        "no version": b"GET /v2/health/live\r\n\r\n",
        "method of 100 KB": b"G" * 100_000 + b" / HTTP/1.1\r\n" + HOST + b"\r\n",
        "not HTTP": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100),
        "NUL bytes": bytes(10_000),
        "space in the path": get(b"/v2/health/live x"),
        "tab in the path": get(b"/v2/health/\tlive"),
        "header without a name": get(live, b": x"),
        "header with a space": get(live, b"a b: x"),
        "101 headers": get(live, *[b"x%d: y" % n for n in range(101)]),
        "10,000 headers": get(live, *[b"x%d: y" % n for n in range(10_000)]),
        "header of 1 MB": get(live, b"x: " + b"a" * 1_000_000),
        "path of 70 KB": get(b"/" + b"a" * 70_000),
        "path of 1 MB": get(b"/" + b"a" * 1_000_000),
    }.items():
        yield Case(f"head: {name}", f"{len(raw):,} bytes", [raw], refused)
    lines = b"GET / HTTP/1.1\nhost: x\n\n"
    yield Case("head: bare LF", f"{len(lines)} bytes", [lines], harmless)
    endless = (b"x%d: %s\r\n" % (n, b"a" * 1000) for n in range(20_000))
    first = b"GET / HTTP/1.1\r\n"
    yield Case("head: endless", "20 MB of headers", itertools.chain([first], endless), refused)
    h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield Case("head: HTTP/2's preface after ALPN http/1.1", f"{len(h2)} bytes", [h2], harmless)
    upgrade = get(live, b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings:")
    yield Case("head: upgrade to h2c", "a GET", [upgrade], served(1))


def paths(target: Target, token: bytes, admin: bytes) -> Iterator[Case]:
    """Targets that are no plain paths; nothing protected may be reached by any of them."""
    for path in ROUNDABOUT.split():
        yield Case(f"path: {path.decode()}", "GET without a token", [get(path)], refused)
    for path in (b"/v2/models/" + b"a" * 5000 + b"/ready", *UNREADABLE.split()):
        shown = path[:50].decode("ascii", "backslashreplace")
        for who, header in {"no token": b"x: y", "caller": token, "admin": admin}.items():
            yield Case(f"path: {shown}", f"GET, {who}", [get(path, header)], refused)
    bundle = f"/v1/models/{target.model}/bundle/".encode()
    for file in OUTSIDE.split():
        raw = get(bundle + file, admin)
        yield Case(f"path: bundle/{file.decode()}", "GET as admin", [raw], refused)
    connect = b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN
    yield Case("path: CONNECT", "then a hidden request", [connect], connect_refused)
    options = b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"
    yield Case("path: OPTIONS *", "without a token", [options], harmless)
    whole = get(b"http://elsewhere.example/v2/health/live")
    yield Case("path: absolute form of an open path", "GET", [whole], served(1))


def connect_refused(found: list[Answer], heard: Heard) -> str:
    """No tunnel: the first answer says no."""
    return refused(found[:1], heard)


def pipelines(target: Target, token: bytes) -> Iterator[Case]:
    """Many requests in one go; all are answered, and none is kept for who does not read."""
    live = get(b"/v2/health/live") * PIPELINED
    yield Case("pipeline", f"{PIPELINED:,} GETs at once", [live], served(PIPELINED))
    size = b"content-length: %d" % len(target.question)
    question = post(target.infer, token, size, body=target.question)
    together = [question * PIPELINED]
    yield Case("pipeline", f"{PIPELINED:,} predictions at once", together, served(PIPELINED))
    document = [get(b"/openapi.json", token) * 100] * 200
    name = "pipeline, nothing read"
    yield Case(name, "20,000 GETs of /openapi.json, 600 MB", document, stalls, listen=False)


def run_case(target: Target, case: Case) -> Result:
    """Sends one case and judges what came of it."""
    heard = talk(target, case.raw, listen=case.listen, quiet=0.5 if case.listen else 3)
    found = answers(heard.data)
    complaints = [text for text in map(untyped, found) if text]
    complaints += [text for text in (case.want(found, heard),) if text]
    if heard.ended == "hung":
        complaints.append(f"no answer and no cut in {heard.seconds:.0f} s")
    statuses = sorted({answer.status for answer in found})
    counts = [
        f"{status}×{count}" if count > 1 else str(status)
        for status in statuses
        for count in [sum(answer.status == status for answer in found)]
    ]
    outcome = f"{' '.join(counts) or 'no answer'}, {heard.ended} after {heard.seconds:.1f} s"
    return Result(case.name, case.sent, "; ".join([outcome, *complaints]), not complaints)


def probe(target: Target) -> Iterator[Result]:
    """Every case, several at a time; then whether the node lives and how much memory it took."""
    token = b"authorization: Bearer " + target.tokens["prober"].encode()
    admin = b"authorization: Bearer " + target.node.token.encode()
    groups = {
        "smuggle": list(smuggling(target, token)),
        "chunks": list(chunks(target, token)),
        "head": list(heads()),
        "path": list(paths(target, token, admin)),
        "pipeline": list(pipelines(target, token)),
    }
    for name, cases in groups.items():
        with target.growth() as grown, ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(lambda case: run_case(target, case), cases)
        trouble = target.alive()
        outcome = f"{grown}{'; ' + trouble if trouble else ', alive'}"
        yield Result(f"{name}: all", f"{len(cases)} probes", outcome, grown.ok and not trouble)
