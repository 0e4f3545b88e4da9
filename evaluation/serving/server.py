"""A started subject: asked once to see that it is right, measured, paused while others are.

Not a script.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import wrk
from process import Process, Unmeasured, settle
from questions import HEAD_LENGTH, Question

WARM_SECONDS = 0.5
ANSWER_SECONDS = 30
SAMPLE_SECONDS = 0.5
# How many times as long a subject is measured that is slow.
PATIENCE = 5


@dataclass(frozen=True)
class Sample:
    """One round's figures of one case."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float
    peak_mb: float
    generator_cpu_ms_per_request: float = 0.0

    def figures(self) -> dict[str, float]:
        return asdict(self)


@dataclass
class Server:
    """Something that answers a question over HTTP."""

    question: Question
    folder: Path
    processes: list[Process]
    url: str
    body: bytes
    headers: dict[str, str] = field(repr=False)

    def check(self) -> None:
        """Asks once, and compares the answer with ONNX Runtime's."""
        status, content, head_length = self._ask()
        if status != 200:
            raise Unmeasured(f"it answered {status}: {content[:200].decode(errors='replace')}")
        if fault := self.question.fault(content, head_length):
            raise Unmeasured(fault)

    def answers(self) -> bool:
        """Whether it answers at all yet, whatever it says."""
        try:
            return self._ask()[0] == 200
        except Unmeasured:
            return False

    def measure(self, connections: int, seconds: float) -> Sample:
        """Warms up, then repeats the question over so many connections for so long.

        Who answers not even one request of each connection gets more time.
        """
        script = wrk.write_script(self.folder, self.body, self.headers)
        wrk.run(script, self.url, connections, WARM_SECONDS)
        settle(self.processes)
        seen, sample = self._run(script, connections, seconds)
        if seen.requests < connections:
            seen, sample = self._run(script, connections, seconds * PATIENCE)
        if sample is None:
            raise Unmeasured(f"no request was answered in {seen.seconds:.1f} s")
        return sample

    def pause(self) -> None:
        for process in self.processes:
            process.pause()

    def resume(self) -> None:
        for process in self.processes:
            process.resume()

    def stop(self) -> None:
        for process in self.processes:
            process.stop()

    def _ask(self) -> tuple[int, bytes, str | None]:
        address = urlsplit(self.url)
        if address.scheme == "https":
            # As wrk does: the bench started this server itself.
            context = ssl._create_unverified_context()  # noqa: S323
            connection = http.client.HTTPSConnection(
                address.netloc, timeout=ANSWER_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(address.netloc, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", address.path, self.body, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader(HEAD_LENGTH)
        except (OSError, http.client.HTTPException) as error:
            raise Unmeasured(f"it does not answer: {error!r}") from None
        finally:
            connection.close()

    def _run(self, script: Path, connections: int, seconds: float) -> tuple[wrk.Run, Sample | None]:
        """What the generator saw, and figures if it saw anything."""
        with self._peak() as peak:
            before = self._cpu()
            seen = wrk.run(script, self.url, connections, seconds)
            cpu = self._cpu() - before
        settle(self.processes)
        if not seen.requests:
            return seen, None
        return seen, Sample(
            requests_per_s=seen.requests / seen.seconds,
            p50_ms=seen.p50_ms,
            p99_ms=seen.p99_ms,
            cpu_ms_per_request=cpu * 1000 / seen.requests,
            peak_mb=max(peak),
            generator_cpu_ms_per_request=seen.own_cpu * 1000 / seen.requests,
        )

    def _cpu(self) -> float:
        return sum(process.cpu() for process in self.processes)

    def _megabytes(self) -> float:
        return sum(process.megabytes() for process in self.processes)

    @contextmanager
    def _peak(self) -> Iterator[list[float]]:
        """Collects the memory of all its processes, now and then, and at the end."""
        seen, over = [], threading.Event()

        def sample() -> None:
            while not over.wait(SAMPLE_SECONDS):
                seen.append(self._megabytes())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()
            seen.append(self._megabytes())
