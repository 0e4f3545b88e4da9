"""Measures whether a request costs the same however much the node holds: models, callers, replicas.

Cost is the node's CPU per request, at 16 connections in a closed loop, the median of some rounds; it should be flat.
Then 500 models that do not fit into memory together: does the latency of warm ones stay, while cold ones are loaded?
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from rig import Node, figure, print_ratios, ratio, result  # noqa: E402 (the path above is where it lies)
from environments import ROOT, build, say  # noqa: E402 (rig.py makes its folder known)
import plot  # noqa: E402
import wrk  # noqa: E402

WIDTH = 64
MODELS = (1, 10, 100, 500, 1_000)
CALLERS = (1, 100, 10_000, 100_000)
CONNECTIONS = 16
# What the models of the last part take of memory each, and what they may take together.
LARGE = 1 << 20
MEMORY_MIB = 64
MANY = 500
WARM_RATE = 500.0
COLD_PER_SECOND = 10.0
DEADLINE_MS = 2_000
# Cost at the most against cost at the least: beyond noise, it grows.
FLAT = 1.25


def write_model(path: Path, seed: int, outputs: int) -> None:
    """A linear model of one row, each seed another one."""
    weights = np.random.default_rng(seed).normal(size=(WIDTH, outputs)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["y"], axes=[1], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)


def body(row: np.ndarray) -> bytes:
    tensor = {"name": "x", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def cost(node: Node, options: argparse.Namespace, name: str, token: str, row: np.ndarray) -> dict[str, float]:
    """What a request of this model costs now."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    script = wrk.write_script(node.folder, body(row), headers)
    url = f"{node.url}/v2/models/{name}/infer"
    wrk.run(script, url, CONNECTIONS, 1)
    rounds = []
    for _ in range(options.rounds):
        before = node.process.cpu()
        seen = wrk.run(script, url, CONNECTIONS, options.seconds)
        cpu = (node.process.cpu() - before) * 1000 / max(1, seen.requests)
        rounds.append((cpu, seen.requests / seen.seconds, seen.p50_ms, seen.p99_ms))
    names = ("cpu_ms_per_request", "requests_per_s", "p50_ms", "p99_ms")
    return {name: statistics.median(column) for name, column in zip(names, zip(*rounds, strict=True), strict=True)}


def models(options: argparse.Namespace, row: np.ndarray) -> tuple[list, list]:
    """Cost against models registered: the first one is asked, the others are there."""
    node = Node(options.mantlet, options.onnxruntime, options.work / "models")
    try:
        token, seen, deployed = node.caller("bench"), {}, 0
        path = node.folder / "model.onnx"
        for count in options.models:
            began = time.monotonic()
            for number in range(deployed, count):
                write_model(path, number, 8)
                node.deploy(path, f"m{number}")
            if count > deployed:
                print(f"  {count - deployed} deploys: {(time.monotonic() - began) / (count - deployed):.3f} s each")
            deployed = count
            seen[count] = {**cost(node, options, "m0", token, row), "pss_mb": node.process.megabytes()}
            print(f"  {count} models: {told(seen[count])}")
        return table("models", seen)
    finally:
        node.stop()


def callers(options: argparse.Namespace, row: np.ndarray) -> tuple[list, list]:
    """Cost against callers, each with a token that works."""
    node = Node(options.mantlet, options.onnxruntime, options.work / "callers")
    try:
        path = node.folder / "model.onnx"
        write_model(path, 0, 8)
        node.deploy(path, "m0")
        token, seen, known = node.caller("bench"), {}, 1
        for count in options.callers:
            began = time.monotonic()
            add(node, known, count)
            if count > known:
                print(f"  {count - known} callers: {(time.monotonic() - began) * 1000 / (count - known):.2f} ms each")
            known = count
            seen[count] = {**cost(node, options, "m0", token, row), "pss_mb": node.process.megabytes()}
            print(f"  {count} callers: {told(seen[count])}")
        return table("callers", seen)
    finally:
        node.stop()


def add(node: Node, known: int, wanted: int) -> None:
    """Adds callers, some at a time, so that they share durable writes."""
    threads = 32
    local = threading.local()

    def one(number: int) -> None:
        if not hasattr(local, "connection"):
            local.connection = node.connect()
        node.caller(f"c{number}", connection=local.connection)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, range(known, wanted)):
            pass


def replicas(options: argparse.Namespace) -> tuple[list, list]:
    """What a claim costs, against replicas: the balancer alone, as it is compiled for release."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "run", "--quiet", "--release", "-p", "mantlet-balance", "--example", "claims"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seen = {int(count): {"claim_ns": nanos} for count, nanos in json.loads(done.stdout).items()}
    for count, values in seen.items():
        print(f"  {count} replicas: {values['claim_ns']:.0f} ns a claim")
    plot.lines(options.out.parent / "growth-replicas.svg", "claim, ns, by replicas",
               {"claim": [(count, values["claim_ns"]) for count, values in seen.items()]}, log_x=True)
    figures = [figure("replicas", str(count), "claim_ns", values["claim_ns"], "ns") for count, values in seen.items()]
    # Against a request of 100 µs and more, a microsecond is nothing.
    return figures, [ratio("replicas", "claim at the most, ns", max(v["claim_ns"] for v in seen.values()), 1_000, least=False)]


def warm(options: argparse.Namespace, row: np.ndarray) -> tuple[list, list]:
    """Latency of warm models while others are loaded, more than fit into memory."""
    settings = {"MANTLET_ORCHESTRATOR__SHARED_MEMORY": f"{MEMORY_MIB}MiB"}
    node = Node(options.mantlet, options.onnxruntime, options.work / "warm", settings=settings)
    try:
        path = node.folder / "model.onnx"
        count = 40 if options.quick else MANY
        for number in range(count):
            write_model(path, number, LARGE // (4 * WIDTH))
            node.deploy(path, f"m{number}")
        # The last one deployed shares its server with many others.
        write_model(path, count - 1, LARGE // (4 * WIDTH))
        name = f"m{count - 1}"
        node.question(path, row, name)
        ask = lambda: result(  # noqa: E731
            node.load(options.generator, WARM_RATE, options.seconds * 3, DEADLINE_MS, name)
        )
        rounds, loaded = [], 0
        ask()
        for _ in range(options.rounds):
            alone = ask()
            over, asked = threading.Event(), []
            others = threading.Thread(target=cold, args=(node, row, count - 1, over, asked))
            others.start()
            try:
                beside = ask()
            finally:
                over.set()
                others.join()
            loaded += len(asked)
            rounds.append((alone, beside))
            print(f"  warm alone p50 {alone['answered_p50_ms']:.2f} p99 {alone['answered_p99_ms']:.2f} ms; beside {len(asked)} "
                  f"cold requests (median {statistics.median(asked) * 1000:.0f} ms) p50 {beside['answered_p50_ms']:.2f} "
                  f"p99 {beside['answered_p99_ms']:.2f} ms, good {beside['good_per_s']:.0f}/s")
        print(f"  memory of the node: {node.process.megabytes():.0f} MB for {count} models of 1 MiB")
        p99 = [(alone["answered_p99_ms"], beside["answered_p99_ms"]) for alone, beside in rounds]
        figures = [figure("warm", "alone", "p99_ms", statistics.median(a for a, _ in p99), "ms")]
        figures += [figure("warm", "beside cold ones", "p99_ms", statistics.median(b for _, b in p99), "ms")]
        figures += [figure("warm", "cold requests", "count", loaded, "1")]
        lost = sum(sum(said["failed"].values()) + said["wrong"] for pair in rounds for said in pair)
        worst = max(beside - alone for alone, beside in p99)
        return figures, [
            ratio("warm", "p99 beside cold ones, ms more", worst, 5, least=False),
            ratio("warm", "wrong or failed", lost, 0, least=False),
        ]
    finally:
        node.stop()


def cold(node: Node, row: np.ndarray, count: int, over: threading.Event, asked: list[float]) -> None:
    """Asks the other models, each in its turn, so that each has to be loaded again."""
    connection, number = node.connect(), 0
    while not over.wait(1 / COLD_PER_SECOND):
        began = time.monotonic()
        status, said = node.ask("POST", f"/v2/models/m{number % count}/infer", body(row), connection=connection)
        if status != 200:
            raise SystemExit(f"a cold model answered {status}: {said[:200]!r}")
        asked.append(time.monotonic() - began)
        number += 1


def told(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def table(case: str, seen: dict[int, dict[str, float]]) -> tuple[list, list]:
    """Figures of each count, and whether the cost is flat."""
    units = {"cpu_ms_per_request": "ms", "requests_per_s": "1/s", "p50_ms": "ms", "p99_ms": "ms", "pss_mb": "MB"}
    figures = [
        figure(case, str(count), metric, value, units[metric]) for count, values in seen.items() for metric, value in values.items()
    ]
    costs = [values["cpu_ms_per_request"] for values in seen.values()]
    return figures, [ratio(case, "CPU per request, most / fewest", costs[-1] / costs[0], FLAT, least=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--generator", help="its binary; built when left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.seconds = 1 if options.quick else 4
    options.rounds = 1 if options.quick else options.rounds
    options.models = MODELS[:2] if options.quick else MODELS
    options.callers = CALLERS[:2] if options.quick else CALLERS
    options.work = options.out.parent / "growth"
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    options.generator = options.generator or build(HERE.parent / "generator", options.out.parent / "generator")
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"load is {load:.1f}: other work runs here, and the figures are not valid")
    row = np.random.default_rng(7).uniform(-1, 1, (1, WIDTH)).astype(np.float32)
    figures, ratios = [], []
    for part in options.only:
        say(part)
        made = PARTS[part](options, row)
        figures += made[0]
        ratios += made[1]
    for case in ("models", "callers"):
        points = [(int(f["subject"]), f["value"]) for f in figures if (f["case"], f["metric"]) == (case, "cpu_ms_per_request")]
        if points:
            plot.lines(options.out.parent / f"growth-{case}.svg", f"CPU per request, ms, by {case}", {case: points}, log_x=True)
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


PARTS = {
    "models": models,
    "callers": callers,
    "replicas": lambda options, _: replicas(options),
    "warm": warm,
}

if __name__ == "__main__":
    main()
