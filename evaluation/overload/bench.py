"""Measures overload and fairness: what is answered in time when five times too much is asked.

The node has one core, the generator the other. Peak is the best goodput of a sweep of rates around
what the core can do; goodput is correct answers inside the deadline, counted from when a request
was due.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from rig import Node, figure, print_ratios, ratio, result, session  # noqa: E402 (the path above is where it lies)
from environments import build  # noqa: E402 (rig.py makes its folder known)

NODE, GENERATOR = "0", "1"
OVERLOAD = 5
# Numbers in a row.
WIDTH = 64
# What a refusal costs the node, in milliseconds of its core.
REFUSAL_MS = 0.03


def write_model(path: Path, repeats: int) -> None:
    """A model of pure arithmetic: one row of `WIDTH` numbers, widened, and so many sines of it."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 256, WIDTH])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["u"]),
        helper.make_node("Expand", ["u", "shape"], ["v0"]),
        *[helper.make_node("Sin", [f"v{n}"], [f"v{n + 1}"]) for n in range(repeats)],
        helper.make_node("ReduceMean", [f"v{repeats}"], ["y"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "sines",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [shape, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)


def millis(path: Path, row: np.ndarray) -> float:
    """How long one inference takes, the median of some."""
    model = session(path)
    took = []
    for _ in range(40):
        began = time.perf_counter()
        model.run(None, {"x": row})
        took.append((time.perf_counter() - began) * 1e3)
    return float(np.median(took[10:]))


def make(folder: Path, wanted_ms: float) -> tuple[Path, np.ndarray, float]:
    """A model that takes about so long on this machine."""
    row = np.random.default_rng(7).uniform(-1, 1, (1, WIDTH)).astype(np.float32)
    path = folder / f"sines-{wanted_ms:g}ms.onnx"
    repeats = 20
    for _ in range(4):
        write_model(path, repeats)
        repeats = max(1, round(repeats * wanted_ms / millis(path, row)))
    write_model(path, repeats)
    return path, row, millis(path, row)


def overload(node: Node, options: argparse.Namespace, took: float, namespace: str) -> tuple[list, list]:
    """Goodput at `OVERLOAD` times the peak, beside the peak."""
    deadline = max(50, round(20 * took))
    ask = lambda rate, seconds: result(  # noqa: E731
        node.load(options.generator, rate, seconds, deadline, namespace=namespace, cores=GENERATOR)
    )
    able = 1000 / took
    ask(able * 0.5, 3)
    sweep = {share: ask(able * share, options.seconds) for share in (0.7, 0.8, 0.85, 0.9, 0.95, 1.0)}
    peak = max(said["good_per_s"] for said in sweep.values())
    rounds = [ask(peak * OVERLOAD, options.seconds) for _ in range(options.rounds)]
    case = f"{took:.1f} ms"
    figures = [
        figure(case, f"{share:g} of one core", "goodput", said["good_per_s"], "1/s") for share, said in sweep.items()
    ]
    for number, said in enumerate(rounds):
        print(f"  {OVERLOAD} x, round {number + 1}: {json.dumps(said)}")
        figures.append(figure(case, f"{OVERLOAD} x peak", "goodput", said["good_per_s"], "1/s"))
        figures.append(figure(case, f"{OVERLOAD} x peak", "answered_p99", said["answered_p99_ms"], "ms"))
    goodput = [said["good_per_s"] / peak for said in rounds]
    latest = max(said["answered_p99_ms"] for said in rounds)
    silent = sum(said["refused_without_retry_after"] for said in rounds)
    wrong = sum(said["wrong"] + sum(said["failed"].values()) for said in rounds)
    ratios = [
        ratio(case, "goodput / peak", min(goodput), options.goal, least=True),
        ratio(case, "p99 of answered / deadline", latest / deadline, 2, least=False),
        ratio(case, "refusals without Retry-After", silent, 0, least=False),
        ratio(case, "wrong or failed", wrong, 0, least=False),
    ]
    print(f"  peak {peak:.0f}/s of at most {able:.0f}/s, deadline {deadline} ms; goodput {[round(g, 3) for g in goodput]}")
    return figures, ratios


def fairness(node: Node, options: argparse.Namespace, took: float) -> tuple[list, list]:
    """What one namespace gets beside another that asks for five times too much."""
    deadline = max(50, round(20 * took))
    rate = 0.4 * 1000 / took
    figures, ratios, worst = [], [], 1.0
    for number in range(options.rounds):
        quiet = {"rate": rate, "seconds": options.seconds, "namespace": "quiet"}
        more = {"deadline": deadline, "cores": GENERATOR}
        alone = result(node.load(options.generator, **quiet, **more))
        flood = node.load(
            options.generator, OVERLOAD * 1000 / took, options.seconds + 2, namespace="flood", **more
        )
        time.sleep(1)
        beside = result(node.load(options.generator, **quiet, **more))
        flooded = result(flood)
        share = beside["good_per_s"] / alone["good_per_s"]
        worst = min(worst, share)
        print(f"  round {number + 1}: alone {alone['good_per_s']:.0f}/s p99 {alone['answered_p99_ms']:.0f} ms, beside the flood "
              f"{beside['good_per_s']:.0f}/s p99 {beside['answered_p99_ms']:.0f} ms; the flood got {flooded['good_per_s']:.0f}/s")
        for subject, said in (("alone", alone), ("beside a flood", beside), ("the flood", flooded)):
            figures.append(figure("fairness", subject, "goodput", said["good_per_s"], "1/s"))
    ratios.append(ratio("fairness", "throughput beside a flood / alone", worst, 0.9, least=True))
    return figures, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--generator", help="its binary; built when left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("overload", "fairness"))
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.seconds = 3 if options.quick else 15
    options.rounds = 1 if options.quick else options.rounds
    work = options.out.parent / "overload"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options.generator = options.generator or build(HERE.parent / "generator", options.out.parent / "generator")
    os.sched_setaffinity(0, {int(NODE)})
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"load is {load:.1f}: other work runs here, and the figures are not valid")
    figures, ratios = [], []
    models = ((5.0, 0.95), (2.0, None)) if options.only != "fairness" else ()
    for wanted, goal in models:
        path, row, took = make(work, wanted)
        # With k times the load and a refusal of r servings, goodput is at most (1 - k r) / (1 - r).
        refusal = REFUSAL_MS / took
        options.goal = goal or 0.9 * (1 - OVERLOAD * refusal) / (1 - refusal)
        node = Node(options.mantlet, options.onnxruntime, work / f"node-{wanted:g}", cores=NODE)
        try:
            node.deploy(path)
            node.question(path, row)
            print(f"a model of {took:.2f} ms")
            for kept, made in zip((figures, ratios), overload(node, options, took, "default"), strict=True):
                kept.extend(made)
        finally:
            node.stop()
    if options.only != "overload":
        path, row, took = make(work, 5.0)
        node = Node(options.mantlet, options.onnxruntime, work / "node-fair", cores=NODE)
        try:
            for namespace in ("quiet", "flood"):
                node.deploy(path, namespace=namespace)
                node.question(path, row, namespace=namespace)
            print("fairness")
            for kept, made in zip((figures, ratios), fairness(node, options, took), strict=True):
                kept.extend(made)
        finally:
            node.stop()
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
