"""A running node with four replicas of one model, one of them throttled: the same load with the learnt rule off and on.

The simulator is told the same fleet, with the times that the model alone takes here, and held against what was measured. `bench.py --live`
runs it. Not a script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from rig import READY_SECONDS, Beside, Node, figure, ratio, result, session  # noqa: E402
from environments import build, say  # noqa: E402 (rig.py makes its folder known)
from process import Unmeasured  # noqa: E402

CASE = "live one slow 4r"
REPLICAS = 4
# The throttled one runs for so many seconds of every period: a fifth of the time.
RUNS, PERIOD = 0.002, 0.010
# What a row takes by itself, and how many rows requests have: the work is told by the size.
ROW_MS = 0.5
ROWS = (1, 2, 4, 8, 16)
# Requests a second, as a share of what one core could do; replicas share the machine with the gateway and the generator.
LOAD = 0.5
DEADLINE_MS = 5_000
# How often each number of rows is asked of the model alone, and by how many times the simulation may be off.
TIMES, OFF_BY = 200, 1.5
# What the page calls them, and the node's setting.
SUBJECTS = {"p2c": "off", "ours": "on"}


class Throttle(Beside):
    """Stops and continues a process in turn, so that it has a share of its time; whole again afterwards."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.pid = pid

    def run(self) -> None:
        # It may have gone; then there is nothing to do.
        with suppress(ProcessLookupError):
            try:
                while not self.over.is_set():
                    os.kill(self.pid, signal.SIGSTOP)
                    time.sleep(PERIOD - RUNS)
                    os.kill(self.pid, signal.SIGCONT)
                    time.sleep(RUNS)
            finally:
                os.kill(self.pid, signal.SIGCONT)


def deploy(node: Node, model: Path) -> None:
    """The model with its replicas, each with a process of its own."""
    node.deploy(model, spec={"scale": {"min": REPLICAS, "max": REPLICAS}})
    end = time.monotonic() + READY_SECONDS
    while len(node.model_servers()) < REPLICAS or replicas(node) != f"{REPLICAS}/{REPLICAS}":
        if time.monotonic() > end:
            raise Unmeasured(f"not all replicas are ready after {READY_SECONDS} s: see {node.folder / 'node.log'}")
        time.sleep(0.1)


def replicas(node: Node) -> str:
    _, said = node.ask("GET", "/v1/models")
    return next((model["replicas"] for model in json.loads(said) if model["name"] == "model"), "")


def ask(node: Node, model: Path) -> tuple[str, ...]:
    """Notes the questions, who asks and what the right answers are; options of the generator for all but the first."""
    rng, more = np.random.default_rng(7), ()
    (node.folder / "default.token").write_text(node.caller("bench"))
    alone = session(model)
    for place, rows in enumerate(ROWS):
        x = rng.uniform(-1, 1, (rows, 64)).astype(np.float32)
        tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
        name = "default" if place == 0 else f"rows-{rows}"
        (node.folder / f"{name}.json").write_text(json.dumps({"inputs": [tensor]}))
        (node.folder / f"{name}.expected").write_text(json.dumps(alone.run(None, {"x": x})[0].ravel().tolist()))
        if place:
            more += ("--body", str(node.folder / f"{name}.json"), "--expected", str(node.folder / f"{name}.expected"))
    return more


def choice(node: Node) -> dict:
    """Which rule chooses, as the node says."""
    _, said = node.ask("GET", "/v2/models/model/stats")
    return json.loads(said)["model_stats"][0]["mantlet"]["balancer"]


def measure(node: Node, options: argparse.Namespace, rate: float, more: tuple[str, ...]) -> dict[str, list]:
    """Load until the learnt rule acts, or long enough; then rounds that count."""
    load = lambda seconds, seed: result(  # noqa: E731
        node.load(options.generator, rate, seconds, DEADLINE_MS, more=(*more, "--seed", str(seed)))
    )
    for number in range(options.warm):
        load(options.seconds / 2, 100 + number)
        # The pool has nothing to be promoted; it gets the same load beforehand, half of it at the least.
        if 2 * number >= options.warm and choice(node)["rule"] == "learnt":
            break
    print(f"  chosen by: {choice(node)}")
    rounds = [load(options.seconds, 1 + number) for number in range(options.rounds)]
    print(f"  then by: {choice(node)}")
    for said in rounds:
        print(f"  {json.dumps({key: value for key, value in said.items() if key != 'missed_by_second'})}")
    return {metric: [said[f"answered_{metric}"] for said in rounds] for metric in ("p50_ms", "p99_ms")} | {
        "failed": [said["wrong"] + sum(said["failed"].values()) + sum(said["refused"].values()) for said in rounds]
    }


def turn(model: Path, mode: str, options: argparse.Namespace, rate: float) -> dict[str, list]:
    """A node of its own in this mode, measured."""
    settings = {"MANTLET_GATEWAY__BALANCER": mode, "MANTLET_MODEL_SERVER__SESSIONS": "1"}
    node = Node(options.mantlet, options.onnxruntime, options.work / f"node-{mode}", settings=settings)
    try:
        deploy(node, model)
        more = ask(node, model)
        with Throttle(node.model_servers()[0]):
            return measure(node, options, rate, more)
    finally:
        node.stop()


def times(model: Path, file: Path) -> None:
    """How long the model alone takes for each number of rows, in the columns of measured.csv."""
    alone, rng = session(model), np.random.default_rng(7)
    lines = ["model,bytes,rows,ms"]
    for rows in ROWS * TIMES:
        x = rng.uniform(-1, 1, (rows, 64)).astype(np.float32)
        began = time.perf_counter()
        alone.run(None, {"x": x})
        lines.append(f"model,{x.nbytes},{rows},{1e3 * (time.perf_counter() - began):.4f}")
    file.write_text("\n".join(lines) + "\n")


def simulated(options: argparse.Namespace, measured: Path, rate: float) -> dict[tuple[str, str], float]:
    """What the simulator says of the same fleet, at the same rate."""
    out = options.work / "simulated.json"
    command = [*options.simulator, "--measured", str(measured), "--rate", f"{rate:.3f}", "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {(f["subject"], f["metric"]): f["value"] for f in json.loads(out.read_text())["figures"]}


def run(options: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """Figures, and goals held against them."""
    options.seconds, options.rounds, options.warm = (6, 1, 2) if options.quick else (40, 3, 12)
    options.work = options.out.parent / "balance-live"
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    options.generator = options.generator or build(HERE.parent / "generator", options.out.parent / "generator")
    model, took = sines(options.work)
    # Quick is also for binaries that were not built for speed.
    rate = LOAD * 1_000 / (took * sum(ROWS) / len(ROWS)) * (0.2 if options.quick else 1.0)
    say(f"a row takes {took:.2f} ms, {rate:.0f} requests a second")
    times(model, options.work / "times.csv")
    supposed = simulated(options, options.work / "times.csv", rate)
    figures, medians = [], {}
    for subject, mode in SUBJECTS.items():
        say(f"gateway.balancer = {mode}")
        said = turn(model, mode, options, rate)
        for metric in ("p50_ms", "p99_ms"):
            middle = float(np.median(said[metric]))
            medians[subject, metric] = middle
            figures.append({**figure(CASE, subject, metric, middle, "ms"), "rounds": said[metric]})
        figures.append(figure(CASE, subject, "failed", sum(said["failed"]), "1"))
    better = medians["ours", "p99_ms"] / medians["p2c", "p99_ms"]
    failed = sum(f["value"] for f in figures if f["metric"] == "failed")
    checks = []
    for (subject, metric), seen in medians.items():
        said = supposed[subject, metric]
        figures.append(figure(CASE, f"{subject}, simulated", metric, said, "ms"))
        name = f"{subject}, {metric[:3]}: simulated {said:.1f} ms, {seen:.1f} ms measured, off by times"
        checks.append(ratio(CASE, name, max(said / seen, seen / said), OFF_BY, least=False))
    return figures, [
        ratio(CASE, "p99: on / off", better, 1.0, least=False),
        ratio(CASE, "wrong, refused or failed", failed, 0, least=False),
        *checks,
    ]


def sines(folder: Path) -> tuple[Path, float]:
    """A model whose rows take about so long each, and how long they take."""
    spec = spec_from_file_location("overload", HERE.parent / "overload/bench.py")
    overload = module_from_spec(spec)
    spec.loader.exec_module(overload)
    path, _, took = overload.make(folder, ROW_MS)
    return path, took
