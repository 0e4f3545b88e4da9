"""Starts the Python peers, each in a virtual environment of its own, and the loop in one process.

Not a script. The peers' own code is in peers/.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mantlet import INFER
from process import Process, Unmeasured, free_port, listens, run
from questions import BINARY, Question
from server import Sample, Server
from subject import Settings, Tools

CODE = Path(__file__).resolve().parent / "peers"
TELEMETRY_OFF = {"ORT_DISABLE_TELEMETRY": "1"}


def start_triton(tools: Tools, question: Question, folder: Path, settings: Settings) -> Server:
    """Triton, configured by flags of the script beside it."""
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return _script(tools, "triton", question, folder, flags, INFER, question.body)


def start_litserve(tools: Tools, question: Question, folder: Path, settings: Settings) -> Server:
    """LitServe, which has a path of its own and takes raw bytes instead of the binary protocol."""
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    flags += ["--form", question.form, "--shape", *map(str, question.model.row.shape)]
    raw = question.form == BINARY
    body = question.model.row.tobytes() if raw else question.body
    return _script(tools, "litserve", question, folder, flags, "/predict", body)


def _script(
    tools: Tools,
    peer: str,
    question: Question,
    folder: Path,
    flags: list[str],
    path: str,
    body: bytes,
) -> Server:
    port = free_port()
    script = CODE / f"{peer}_server.py"
    command = [tools.program(f"venv-{peer}"), str(script), "--model", str(question.model.path)]
    process = Process(
        [*command, "--port", str(port), *flags],
        folder / f"{peer}.log",
        cwd=folder,
        env={**os.environ, **TELEMETRY_OFF, "PYTRITON_HOME": str(folder)},
    )
    return _ready(process, question, folder, port, path, body)


def start_mlserver(tools: Tools, question: Question, folder: Path, settings: Settings) -> Server:
    """MLServer with our small runtime; its REST interface takes no binary tensors."""
    if question.form == BINARY:
        raise Unmeasured("its REST interface takes no binary tensors")
    port = free_port()
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": settings["workers"],
        "debug": False,
    }
    parameters = {"uri": str(question.model.path), "extra": {"threads": settings["threads"]}}
    model = {
        "name": "model",
        "implementation": "mlserver_runtime.OnnxRuntime",
        "parameters": parameters,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    program = str(Path(tools.program("venv-mlserver")).parent / "mlserver")
    process = Process(
        [program, "start", str(folder)],
        folder / "mlserver.log",
        cwd=folder,
        env={**os.environ, **TELEMETRY_OFF, "PYTHONPATH": str(CODE)},
    )
    return _ready(process, question, folder, port, INFER, question.body)


def _ready(
    process: Process, question: Question, folder: Path, port: int, path: str, body: bytes
) -> Server:
    """The server once it listens and its model answers."""
    url = f"http://127.0.0.1:{port}{path}"
    server = Server(question, folder, [process], url, body, question.headers)
    process.wait_until(lambda: listens(port) and server.answers())
    return server


def start_in_process(_: Tools, question: Question, folder: Path, __: Settings) -> InProcess:
    """ONNX Runtime in this Python."""
    row = folder / "row.npy"
    np.save(row, question.model.row)
    return InProcess(question, row)


@dataclass
class InProcess:
    """A loop that is started for each measurement, so that there is nothing to pause."""

    question: Question
    row: Path

    def check(self) -> None:
        """It is what the others are compared with."""

    def measure(self, connections: int, seconds: float) -> Sample:
        command = [
            sys.executable,
            str(CODE / "in_process.py"),
            "--model",
            str(self.question.model.path),
        ]
        flags = ["--row", str(self.row), "--threads", str(connections), "--seconds", str(seconds)]
        said = run([*command, *flags], "the loop", env={**os.environ, **TELEMETRY_OFF})
        return Sample(**json.loads(said))

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> None: ...
