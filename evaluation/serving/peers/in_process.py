"""ONNX Runtime called in a loop by some threads: what serving could cost at the least.

Run: python in_process.py --model FILE --row FILE.npy --threads N --seconds S

Prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
from session import open_session


def repeat(session, inputs: dict[str, np.ndarray], end: float, took: list[float]) -> None:
    """Calls the model until the time has come."""
    begin = time.perf_counter()
    while begin < end:
        session.run(None, inputs)
        done = time.perf_counter()
        took.append(done - begin)
        begin = done


def measure(session, inputs: dict[str, np.ndarray], threads: int, seconds: float) -> dict:
    """Calls per second and latencies of all threads together."""
    took: list[list[float]] = [[] for _ in range(threads)]
    begin, cpu = time.perf_counter(), time.process_time()
    running = [
        threading.Thread(target=repeat, args=(session, inputs, begin + seconds, mine))
        for mine in took
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    elapsed, cpu = time.perf_counter() - begin, time.process_time() - cpu
    milliseconds = np.concatenate(took) * 1000
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {
        "requests_per_s": len(milliseconds) / elapsed,
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_ms_per_request": cpu * 1000 / len(milliseconds),
        "peak_mb": megabytes(),
    }


def megabytes() -> float:
    """Proportional set size of this process."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--row", required=True, help="the input, as NumPy saves it")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    session = open_session(arguments.model, 1)
    inputs = {session.get_inputs()[0].name: np.load(arguments.row)}
    print(json.dumps(measure(session, inputs, arguments.threads, arguments.seconds)))


if __name__ == "__main__":
    main()
