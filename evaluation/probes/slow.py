"""slowhttptest in its four modes, while a bystander predicts: the bystander must not notice."""

from __future__ import annotations

import csv
import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from result import Result
from target import Target, run

CONNECTIONS = 1000
SECONDS = 20
BETWEEN_SECONDS = 0.05
# Every so often the bystander comes on a new connection, which the node has to accept first.
FRESH_EVERY = 10
SLOWEST_SECONDS = 1.0


@dataclass
class Bystander:
    """Predicts every 50 ms until it is told to stop, and keeps how that went."""

    target: Target
    seconds: list[float] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """The bystander's thread."""
        connection, count = self.target.connection(), 0
        while not self.over.wait(BETWEEN_SECONDS):
            count += 1
            if count % FRESH_EVERY == 0:
                connection.close()
            begin = time.perf_counter()
            try:
                status = self.target.predict(connection)
            except (OSError, http.client.HTTPException) as error:
                self.trouble.append(repr(error))
                connection.close()
                continue
            if status == 200:
                self.seconds.append(time.perf_counter() - begin)
            else:
                self.trouble.append(str(status))
        connection.close()

    @property
    def ok(self) -> bool:
        return not self.trouble and len(self.seconds) > 1 and max(self.seconds) < SLOWEST_SECONDS

    def __str__(self) -> str:
        count = len(self.seconds) + len(self.trouble)
        if len(self.seconds) < 2:
            return f"none of {count} predictions: {self.trouble[:1]}"
        cuts = statistics.quantiles(self.seconds, n=100)
        text = (
            f"{len(self.seconds)} of {count} predictions, p50 {cuts[49] * 1000:.0f} ms, p99"
            f" {cuts[98] * 1000:.0f} ms, slowest {max(self.seconds) * 1000:.0f} ms"
        )
        return f"{text}, first failure {self.trouble[0]}" if self.trouble else text


def modes(target: Target) -> dict[str, list[str]]:
    """How slowhttptest is told each mode; it knows no tokens, so its cookie smuggles one in."""
    token = f"probe=1\r\nAuthorization: Bearer {target.tokens['prober']}"
    body = ["-B", "-i", "5", "-s", "100000", "-x", "10"]
    document = ["-w", "256", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"]
    url = target.node.url
    return {
        "slow headers": ["-H", "-i", "5", "-u", url + target.infer],
        "slow bodies, no token": [*body, "-u", url + target.infer],
        "slow bodies, no token, /v1/deploys": [*body, "-u", f"{url}/v1/deploys"],
        "slow bodies, a caller": [*body, "-u", url + target.infer, "-j", token],
        "ranges": ["-R", "-u", f"{url}/v2/health/live"],
        "slow reads, a caller": ["-X", *document, "-u", f"{url}/openapi.json", "-j", token],
    }


def attack(target: Target, name: str, options: list[str]) -> Result:
    """One mode against the node, with the bystander beside it."""
    stem = (
        target.work / f"slowhttptest-{name.replace(', ', '-').replace(' ', '-').replace('/', '-')}"
    )
    command = [
        *("slowhttptest", *options, "-c", str(CONNECTIONS), "-r", "300", "-l", str(SECONDS)),
        *("-p", "5", "-g", "-o", str(stem)),
    ]
    bystander = Bystander(target)
    thread = threading.Thread(target=bystander.run)
    with target.growth() as grown:
        thread.start()
        try:
            run(command, SECONDS + 30, stem.with_suffix(".txt"))
        finally:
            bystander.over.set()
            thread.join()
    with stem.with_suffix(".csv").open() as lines:
        rows = list(csv.DictReader(lines))
    most = max(int(row["Connected"]) for row in rows)
    left = f"{rows[-1]['Connected']} still after {rows[-1]['Seconds']} s"
    available = all(int(row["Service Available"]) for row in rows)
    outcome = (
        f"{bystander}; {most} connected at most, {left}; {grown}"
        f"{'' if available else '; slowhttptest saw the service unavailable'}"
    )
    ok = bystander.ok and available and grown.ok
    return Result(f"slowhttptest: {name}", f"{CONNECTIONS:,} connections", outcome, ok)


def probe(target: Target) -> Iterator[Result]:
    """Every mode, one after the other."""
    for name, options in modes(target).items():
        yield attack(target, name, options)
