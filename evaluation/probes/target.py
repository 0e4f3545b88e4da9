"""The node under probe: started from a binary, given a model and two callers, ended by its pid."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "testkit" / "python"))

from node import Mantlet, Node, read_node  # noqa: E402 (the path above is where it lies)

READY_SECONDS = 30
STOP_SECONDS = 20
# The most that any probe may add to the node's memory, at its peak.
GROWTH_MB = 100


def run(command: list[str], seconds: float, out: Path, **more: object) -> int:
    """Runs a tool into a file; it and its children are killed when they take too long."""
    with out.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, **more
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise SystemExit(f"{command[0]} took more than {seconds} s: see {out}") from None


@dataclass
class Growth:
    """How much a node's memory grew between two moments, at its peak."""

    megabytes: float = 0.0

    @property
    def ok(self) -> bool:
        return self.megabytes < GROWTH_MB

    def __str__(self) -> str:
        return f"memory +{self.megabytes:.0f} MB"


@dataclass(frozen=True)
class Launch:
    """What a node is started from."""

    binary: str
    model: Path
    onnxruntime: Path | None


@dataclass
class Target:
    """A running node with one model, and the tokens of two callers of role `caller`."""

    launch: Launch
    work: Path
    process: subprocess.Popen
    node: Node
    model: str
    question: bytes
    tokens: dict[str, str] = field(repr=False)

    @property
    def data_dir(self) -> Path:
        return self.work / "data"

    @property
    def log(self) -> Path:
        return self.work / "node.log"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.node.authority.rsplit(":", 1)
        return host, int(port)

    @property
    def infer(self) -> str:
        """The path of a prediction."""
        return f"/v2/models/{self.model}/infer"

    @property
    def proc(self) -> Path:
        """What the kernel says of the node."""
        return Path(f"/proc/{self.process.pid}")

    @property
    def cli(self) -> Mantlet:
        return Mantlet(self.launch.binary, self.data_dir)

    def connection(self, seconds: float = 10) -> http.client.HTTPSConnection:
        """A connection that trusts the node and waits only so long for each answer."""
        context = self.node.ssl_context()
        return http.client.HTTPSConnection(self.node.authority, context=context, timeout=seconds)

    def predict(self, connection: http.client.HTTPSConnection, caller: str = "bystander") -> int:
        """Sends a prediction and gives the status of its answer."""
        headers = {
            "authorization": f"Bearer {self.tokens[caller]}",
            "content-type": "application/json",
        }
        connection.request("POST", self.infer, self.question, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def takers(self) -> list[tuple[str, str]]:
        """Method and path of everything that takes a body, as `/openapi.json` has it."""
        connection = self.connection()
        connection.request("GET", "/openapi.json", headers=self.node.authorization)
        paths = json.loads(connection.getresponse().read())["paths"]
        connection.close()
        found = [
            (method.upper(), re.sub(r"{\w+}", "1", path.replace("{model}", self.model)))
            for path, operations in paths.items()
            for method, operation in operations.items()
            # The body of an upload is no JSON, so that the document says nothing of it.
            if "requestBody" in operation or method == "put"
        ]
        if not found:
            raise SystemExit("no path of /openapi.json takes a body, which can't be")
        return sorted(found)

    def alive(self) -> str:
        """Nothing when the node predicts for a new connection, or what kept it from doing so."""
        if self.process.poll() is not None:
            return f"the node ended with {self.process.returncode}"
        connection = self.connection()
        try:
            status = self.predict(connection)
        except OSError as error:
            return f"no prediction afterwards: {error}"
        finally:
            connection.close()
        return "" if status == 200 else f"a prediction afterwards is answered with {status}"

    def holds(self, port: int) -> bool:
        """Whether the node still has its end of the connection from this port of ours."""
        own, peer = f":{self.address[1]:04X}", f":{port:04X}"
        for line in (self.proc / "net" / "tcp").read_text().splitlines()[1:]:
            words = line.split()
            # An end that a process has closed stays for a while, without an inode.
            if words[1].endswith(own) and words[2].endswith(peer):
                return words[9] != "0"
        return False

    def memory(self, field: str) -> float:
        """`VmRSS` or `VmHWM` of the node itself, in MB."""
        status = (self.proc / "status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)[1]) / 1024

    @contextmanager
    def growth(self) -> Iterator[Growth]:
        """Measures by how much the node's memory peaks above where it stood."""
        before, grown = self.memory("VmRSS"), Growth()
        # 5 sets the peak back to what is resident now (proc_pid_clear_refs(5)).
        (self.proc / "clear_refs").write_text("5")
        yield grown
        grown.megabytes = max(self.memory("VmHWM") - before, 0)

    def stop(self) -> int:
        """Asks the node to end, and gives its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @contextmanager
    def another(self, name: str) -> Iterator[Target]:
        """A fresh node like this one, beside it, for as long as it is needed."""
        fresh = start(self.launch, self.work / name)
        try:
            yield fresh
        finally:
            fresh.stop()


def start(launch: Launch, work: Path) -> Target:
    """Starts a node below `work`, deploys the model, and adds the callers."""
    work.mkdir(parents=True)
    data_dir, log = work / "data", work / "node.log"
    environment = dict(os.environ)
    if launch.onnxruntime:
        environment["MANTLET_MODEL_SERVER__ONNXRUNTIME"] = str(launch.onnxruntime)
    command = [launch.binary, "up", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        end = time.monotonic() + READY_SECONDS
        while not (data_dir / "client.json").exists():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the node did not start: see {log}")
            time.sleep(0.02)
        cli = Mantlet(launch.binary, data_dir)
        name = cli.deploy(launch.model / "manifest.yaml").name
        tokens = {
            caller: cli.run("callers", "add", caller, "--role", "caller")["token"]
            for caller in ("prober", "bystander")
        }
        question = (launch.model / "request.json").read_bytes()
        return Target(launch, work, process, read_node(data_dir), name, question, tokens)
    except BaseException:
        process.terminate()
        raise
