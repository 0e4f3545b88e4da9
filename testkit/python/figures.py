"""Measures a fresh node: start, deploy, memory, throughput, and how fast a model server comes back.

Run: python figures.py --mantlet target/release/mantlet --work DIR [--rounds 3] [--kills 8]

Needs `wrk` (Debian: apt-get install wrk) on the same cores, so throughput is a baseline for this
machine and nothing else. The model is a forest of 100 trees that takes 64 FP32. Prints one line per
figure; DIR must not exist yet.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

from demo import RestClient
from node import Mantlet, Node, read_node

FEATURES = 64
IDLE_SECONDS = 60
READY_SECONDS = 30


def write_forest(path: Path) -> np.ndarray:
    """Trains the forest, writes it as ONNX and returns one row for it."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(4000, FEATURES)).astype(np.float32)
    labels = (rows[:, :8].sum(axis=1) > 0).astype(np.int64)
    forest = RandomForestClassifier(100, random_state=7).fit(rows, labels)
    model = to_onnx(
        forest,
        initial_types=[("x", FloatTensorType([None, FEATURES]))],
        options={"zipmap": False},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    path.write_bytes(model.SerializeToString())
    return rows[:1]


def start(binary: str, data_dir: Path, log: Path) -> tuple[subprocess.Popen, float]:
    """Starts a node and gives the seconds until it listens."""
    begin = time.perf_counter()
    command = [binary, "up", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    while not (data_dir / "client.json").exists():
        if process.poll() is not None or time.perf_counter() - begin > READY_SECONDS:
            raise SystemExit(f"the node did not start: see {log}")
        time.sleep(0.002)
    return process, time.perf_counter() - begin


def children(pid: int) -> list[int]:
    """The direct children of a process, whichever of its threads started them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in lists for word in path.read_text().split()]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def resident(pid: int) -> float:
    """Proportional set size of a process tree in MB."""
    kilobytes = 0
    for member in family(pid):
        rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        kilobytes += int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1])
    return kilobytes / 1024


def load(node: Node, script: Path, connections: int, seconds: int) -> tuple[float, str, str]:
    """Requests/s, p50 and p99 of one run of wrk; a refused request ends everything."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    done = subprocess.run([*command, node.url], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])
    p50, p99 = (re.search(rf"{level}%\s+(\S+)", done.stdout)[1] for level in (50, 99))
    return rate, p50, p99


def write_load(path: Path, node: Node, model: str, row: np.ndarray) -> None:
    """The request wrk repeats, as a Lua script that only the owner may read."""
    tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]})
    text = (
        f'wrk.method = "POST"\nwrk.path = "/v2/models/{model}/infer"\nwrk.body = [[{body}]]\n'
        'wrk.headers["content-type"] = "application/json"\n'
        f'wrk.headers["authorization"] = "Bearer {node.token}"\n'
    )
    path.touch(0o600)
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", required=True, help="the binary, built for release")
    parser.add_argument("--work", type=Path, required=True, help="folder to make and work in")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=8)
    arguments = parser.parse_args()
    work, data_dir = arguments.work, arguments.work / "data"
    work.mkdir(parents=True)
    row = write_forest(work / "forest.onnx")

    process, ready = start(arguments.mantlet, data_dir, work / "node.log")
    try:
        node = read_node(data_dir)
        print(f"start to ready: {ready:.2f} s")
        begin = time.perf_counter()
        Mantlet(arguments.mantlet, data_dir).deploy(work / "forest.onnx", "forest")
        RestClient(node, "forest").infer({"x": row})
        print(f"deploy to first prediction: {time.perf_counter() - begin:.2f} s")
        time.sleep(IDLE_SECONDS)
        print(f"idle memory (PSS of {len(family(process.pid))} processes): {resident(process.pid):.0f} MB")

        script = work / "load.lua"
        write_load(script, node, "forest", row)
        rates = {connections: [] for connections in (1, 16, 64)}
        for _ in range(arguments.rounds):
            for connections, seen in rates.items():
                seen.append(load(node, script, connections, 5))
        for connections, seen in rates.items():
            middle = statistics.median(rate for rate, _, _ in seen)
            runs = "; ".join(f"{rate:.0f}/s p50 {p50} p99 {p99}" for rate, p50, p99 in seen)
            print(f"{connections:2} connections: {middle:.0f} requests/s ({runs})")

        back = []
        for _ in range(arguments.kills):
            (model_server,) = children(process.pid)
            os.kill(model_server, signal.SIGKILL)
            begin = time.perf_counter()
            RestClient(node, "forest").infer({"x": row})
            back.append(f"{time.perf_counter() - begin:.2f}")
        print(f"kill -9 of the model server, next answer after (s): {' '.join(back)}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


if __name__ == "__main__":
    main()
