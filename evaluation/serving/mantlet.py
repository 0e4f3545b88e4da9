"""Starts Mantlet: as it comes, with nobody looking for attackers, or with `--security off`. Not a script."""

from __future__ import annotations

import json
import os
from pathlib import Path

from process import Process, run
from questions import Question
from server import Server
from subject import Settings, Tools

INFER = "/v2/models/model/infer"


def start(tools: Tools, question: Question, folder: Path, _: Settings) -> Server:
    """A node with one model, and a caller with a token."""
    return _start(tools, question, folder, [])


def start_unwatched(tools: Tools, question: Question, folder: Path, _: Settings) -> Server:
    """The same with the sentinel off."""
    return _start(tools, question, folder, [], {"MANTLET_SENTINEL__MODE": "off"})


def start_open(tools: Tools, question: Question, folder: Path, _: Settings) -> Server:
    """The same over plain HTTP, for everybody."""
    return _start(tools, question, folder, ["--security", "off"])


def _start(
    tools: Tools, question: Question, folder: Path, security: list[str], settings: dict[str, str] | None = None
) -> Server:
    data_dir = folder / "data"
    command = [tools.mantlet, "--data-dir", str(data_dir)]
    environment = {**os.environ, **(settings or {}), "MANTLET_MODEL_SERVER__ONNXRUNTIME": tools.onnxruntime}
    process = Process(
        [*command, "up", "--listen", "127.0.0.1:0", *security], folder / "node.log", env=environment
    )
    try:
        process.wait_until((data_dir / "client.json").exists)
        run([*command, "deploy", str(question.model.path), "--name", "model", "--wait"], "deploy")
        headers = question.headers
        if not security:
            added = run(
                [*command, "callers", "add", "bench", "--role", "caller", "--output", "json"],
                "caller",
            )
            headers["authorization"] = f"Bearer {json.loads(added)['token']}"
        url = json.loads((data_dir / "client.json").read_text())["url"] + INFER
        return Server(question, folder, [process], url, question.body, headers)
    except BaseException:
        process.stop()
        raise
