"""wrk as the generator: one thread, some connections, each with one request in flight.

Not a script. It repeats one request for some seconds. It sends nothing twice, and corrects its
latencies for requests that it could not send while it waited. A refused or lost request ends the
measurement.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from process import Unmeasured

# Longer than any answer may take; wrk counts what comes later as failed.
TIMEOUT_SECONDS = 20
LONGEST_SECONDS = 600

SCRIPT = """\
local file = assert(io.open({body}, "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency)
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('{{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"refused":%d,"lost":%d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, errors.status, lost))
end
"""


@dataclass(frozen=True)
class Run:
    """What one run of wrk saw, and the CPU it took itself."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    own_cpu: float


def write_script(folder: Path, body: bytes, headers: dict[str, str]) -> Path:
    """The request as a Lua script that only its owner may read, for it may hold a token."""
    content, script = folder / "question", folder / "load.lua"
    content.write_bytes(body)
    lines = "\n".join(
        f"wrk.headers[{quoted(name)}] = {quoted(value)}" for name, value in headers.items()
    )
    script.touch(0o600)
    script.write_text(SCRIPT.format(body=quoted(str(content)), headers=lines))
    return script


def quoted(text: str) -> str:
    """A string as Lua writes it; JSON writes what we send the same way."""
    return json.dumps(text)


def run(script: Path, url: str, connections: int, seconds: float) -> Run:
    """Sends the request over so many connections for so long."""
    # wrk counts whole seconds; an interrupt ends it at any time, and it reports what it has.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{LONGEST_SECONDS}s", "-s", str(script)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        process = subprocess.Popen(
            [*command, f"--timeout={TIMEOUT_SECONDS}s", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise SystemExit(
            f"wrk can't be started: {error.strerror}\nhint: apt-get install wrk"
        ) from None
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unmeasured("the generator did not come to an end") from None
    finally:
        process.kill()
        process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0:
        raise Unmeasured(f"wrk: {said.strip()}")
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return checked(json.loads(said[said.rindex("{") :]), own)


def checked(said: dict, own_cpu: float) -> Run:
    """What wrk counted, if every request that was answered was answered with success."""
    refused, lost = said.pop("refused"), said.pop("lost")
    if refused or lost:
        raise Unmeasured(f"of {said['requests']} requests {refused} were refused, {lost} lost")
    return Run(**said, own_cpu=own_cpu)
