"""A node that a bench starts, on a folder of its own: deploys, callers, and load at a given rate. Not a script."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import onnxruntime

sys.path.append(str(Path(__file__).resolve().parent / "serving"))

from process import Process, Unmeasured, run  # noqa: E402 (the path above is where it lies)

READY_SECONDS = 120
LOAD_SECONDS = 3_600
# A connection may be silent for so long; the node allows ten.
SILENT_SECONDS = 5


class Node:
    """A node; on some cores alone where they are named."""

    def __init__(
        self, mantlet: str, library: str, folder: Path, cores: str | None = None, settings: dict[str, str] | None = None
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.data = folder, folder / "data"
        self.command = [mantlet, "--data-dir", str(self.data)]
        environment = {**os.environ, "MANTLET_MODEL_SERVER__ONNXRUNTIME": library, **(settings or {})}
        pinned = ["taskset", "-c", cores] if cores else []
        began = time.monotonic()
        start = [*pinned, *self.command, "up", "--listen", "127.0.0.1:0"]
        self.process = Process(start, folder / "node.log", env=environment)
        self.process.wait_until((self.data / "client.json").exists)
        self.seconds_to_ready = time.monotonic() - began
        client = json.loads((self.data / "client.json").read_text())
        self.url, self._token = client["url"], client["token"]
        self._connection = self.connect()

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of one's own, for another thread."""
        context = ssl.create_default_context(cafile=self.data / "ca.pem")
        return http.client.HTTPSConnection(urlsplit(self.url).netloc, context=context, timeout=READY_SECONDS)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict | None = None,
        namespace: str = "default",
        connection: http.client.HTTPSConnection | None = None,
    ) -> tuple[int, bytes]:
        """One request as the node's admin."""
        connection = connection or self._connection
        if time.monotonic() - getattr(connection, "used", 0.0) > SILENT_SECONDS:
            # The node has cut it by now, or soon will; it opens itself again.
            connection.close()
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"authorization": f"Bearer {self._token}", "mantlet-namespace": namespace}
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.used = time.monotonic()
        return answer.status, said

    def deploy(self, path: Path, name: str = "model", namespace: str = "default", spec: dict | None = None) -> None:
        """Deploys a model, with what its manifest says beside the source, and waits until it answers."""
        status, said = self.ask("PUT", "/v1/uploads", path.read_bytes(), namespace)
        expect(status, said)
        manifest = {
            "apiVersion": "mantlet.dev/v1",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": {"source": {"onnx": "model.onnx"}, **(spec or {})},
        }
        body = {"upload": json.loads(said)["id"], "manifest": manifest}
        expect(*self.ask("POST", "/v1/deploys", body, namespace))
        self.wait_for(name, namespace)

    def wait_for(self, name: str, namespace: str = "default") -> None:
        """Waits until a model answers."""
        end = time.monotonic() + READY_SECONDS
        while self.ask("GET", f"/v2/models/{name}/ready", namespace=namespace)[0] != 200:
            if time.monotonic() > end:
                raise Unmeasured(f"{name} is not ready after {READY_SECONDS} s: see {self.folder / 'node.log'}")
            time.sleep(0.005)

    def model_servers(self) -> list[int]:
        """Its own model servers, by process number."""
        found = []
        for pid in self.process.family():
            # It may have gone meanwhile.
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found += [pid] if b"model-server" in words else []
        return sorted(found)

    def caller(
        self, name: str, namespace: str = "default", connection: http.client.HTTPSConnection | None = None
    ) -> str:
        """A new caller's token."""
        wanted = {"name": name, "roles": ["caller"]}
        status, said = self.ask("POST", "/v1/callers", wanted, namespace, connection)
        expect(status, said)
        return json.loads(said)["token"]

    def question(self, path: Path, row: np.ndarray, name: str = "model", namespace: str = "default") -> None:
        """Notes what the generator asks, who it is, and what the right answer is."""
        (self.folder / f"{namespace}.token").write_text(self.caller("bench", namespace))
        tensor = {"name": "x", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
        (self.folder / f"{namespace}.json").write_text(json.dumps({"inputs": [tensor]}))
        expected = session(path).run(None, {"x": row})[0].ravel().tolist()
        (self.folder / f"{namespace}.expected").write_text(json.dumps(expected))

    def load(
        self,
        generator: str,
        rate: float,
        seconds: float,
        deadline: int,
        name: str = "model",
        namespace: str = "default",
        cores: str | None = None,
        more: tuple[str, ...] = (),
    ) -> subprocess.Popen:
        """Starts a generator; `result` waits for it."""
        ends = (("token", "token"), ("body", "json"), ("expected", "expected"))
        files = [word for option, end in ends for word in (f"--{option}", str(self.folder / f"{namespace}.{end}"))]
        pinned = ["taskset", "-c", cores] if cores else []
        command = [*pinned, generator, "--url", f"{self.url}/v2/models/{name}/infer", "--ca", str(self.data / "ca.pem")]
        command += ["--rate", str(rate), "--seconds", str(seconds), "--deadline", str(deadline), *files, *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def verb(self, *words: str) -> dict:
        """What a verb of the command line says."""
        return json.loads(run([*self.command, *words, "--output", "json"], words[0]))

    def stop(self) -> None:
        self.process.stop()


class Beside:
    """Does something in a thread of its own for as long as one is inside; `run` ends soon after `over` is set."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()


def session(path: Path) -> onnxruntime.InferenceSession:
    """The model by ONNX Runtime alone, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def result(load: subprocess.Popen) -> dict:
    """What a generator has seen."""
    out, _ = load.communicate(timeout=LOAD_SECONDS)
    if load.returncode != 0:
        raise SystemExit("the generator failed")
    return json.loads(out)


def ratio(case: str, name: str, value: float, goal: float, *, least: bool) -> dict:
    """A row of the table of goals."""
    met = value >= goal if least else value <= goal
    return {"case": case, "name": name, "value": round(value, 4), "goal": f"{'>=' if least else '<='} {goal:g}", "met": met}


def figure(case: str, subject: str, metric: str, value: float, unit: str) -> dict:
    """A row of the table of figures."""
    return {"case": case, "subject": subject, "metric": metric, "value": value, "unit": unit}


def print_ratios(ratios: list[dict]) -> None:
    """The goals as a table."""
    print("\n| case | ratio | worst | goal | met |\n|---|---|---:|---|---|")
    for row in ratios:
        print(f"| {row['case']} | {row['name']} | {row['value']:g} | {row['goal']} | {'yes' if row['met'] else '**no**'} |")


def expect(status: int, said: bytes) -> None:
    if status != 200:
        raise Unmeasured(f"the node answered {status}: {said[:300].decode(errors='replace')}")
