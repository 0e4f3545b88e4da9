"""Keeps a node at 80 % of what it can do for twenty minutes: does memory stay flat, and the latency steady?

The load is open: requests come when they are due, whatever becomes of those before. Each slice of the run is a figure of
its own; the last slices are compared with the first ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import threading
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from rig import Node, figure, print_ratios, ratio, result  # noqa: E402 (the path above is where it lies)
from environments import build, say  # noqa: E402 (rig.py makes its folder known)
from questions import write_forest  # noqa: E402
import plot  # noqa: E402

SHARE = 0.8
SAMPLE_SECONDS = 20
DEADLINE_MS = 1_000
# A run with a storm of new connections in it.
STORM_SECONDS = 60
CALM_SECONDS = 5
# Of the run that the node may still grow in: caches fill, the allocator settles, events reach their batches.
SETTLING = 0.2


def make_forest(path: Path) -> np.ndarray:
    """The forest of the other benches, its probabilities first: the generator compares the first output. A row for it."""
    row = write_forest(path)
    model = onnx.load(path)
    label, probabilities = model.graph.output
    del model.graph.output[:]
    model.graph.output.extend([probabilities, label])
    onnx.save(model, path)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--generator", help="its binary; built when left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, help="requests/s; 80 %% of what is found to be possible when left out")
    parser.add_argument("--storm", action="store_true", help="only what a storm of new connections does")
    options = parser.parse_args()
    options.out = options.out.resolve()
    minutes = 0.5 if options.quick else options.minutes
    slices = 10 if options.quick else 40
    work = options.out.parent / "soak"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    generator = options.generator or build(HERE.parent / "generator", options.out.parent / "generator")
    load = os.getloadavg()[0]
    row = make_forest(work / "forest.onnx")
    node = Node(options.mantlet, options.onnxruntime, work / "node", cores="0")
    try:
        node.deploy(work / "forest.onnx")
        node.question(work / "forest.onnx", row)
        ask = lambda rate, seconds: result(node.load(generator, rate, seconds, DEADLINE_MS, cores="1"))  # noqa: E731
        rate = options.rate or SHARE * capacity(ask)
        if options.storm:
            finish(options.out, storm(node, generator, rate), load)
            return
        say(f"{rate:.0f} requests/s for {minutes:g} minutes")
        seconds = minutes * 60 / slices
        figures, memory, p99 = [], [], []
        asked = answered = 0
        over = threading.Event()
        samples: list[float] = []
        sampling = threading.Thread(target=sample, args=(node, over, samples))
        sampling.start()
        try:
            for number in range(slices):
                begin = len(samples)
                said = ask(rate, seconds)
                memory.append(statistics.median(samples[begin:] or [node.process.megabytes()]))
                p99.append(said["answered_p99_ms"])
                asked, answered = asked + said["sent"], answered + said["good"]
                failed = sum(said["failed"].values()) + said["wrong"]
                figures += [
                    figure("soak", str(number), "p99_ms", p99[-1], "ms"),
                    figure("soak", str(number), "p50_ms", said["answered_p50_ms"], "ms"),
                    figure("soak", str(number), "pss_mb", memory[-1], "MB"),
                    figure("soak", str(number), "failed", failed, "1"),
                    figure("soak", str(number), "good_per_s", said["good_per_s"], "1/s"),
                ]
                print(f"  {(number + 1) * seconds / 60:5.1f} min: {said['good_per_s']:.0f}/s p50 {said['answered_p50_ms']:.2f} "
                      f"p99 {p99[-1]:.2f} ms, {memory[-1]:.0f} MB, {failed} failed", flush=True)
        finally:
            over.set()
            sampling.join()
        settled = max(1, round(slices * SETTLING))
        third = max(1, (slices - settled) // 3)
        middle = lambda values: statistics.median(values)  # noqa: E731
        failed = sum(row["value"] for row in figures if row["metric"] == "failed")
        ratios = [
            ratio("soak", "memory, last third / first", middle(memory[-third:]) / middle(memory[settled:settled + third]), 1.05, least=False),
            ratio("soak", "p99, last third / first", middle(p99[-third:]) / middle(p99[settled:settled + third]), 1.25, least=False),
            ratio("soak", "wrong or failed", failed, 0, least=False),
            ratio("soak", "answered in time / asked", answered / asked, 0.99, least=True),
        ]
        ends = [(number + 1) * seconds / 60 for number in range(slices)]
        plot.lines(options.out.parent / "soak-memory.svg", "memory of the node, MB, by minutes", {"PSS": list(zip(ends, memory, strict=True))})
        plot.lines(options.out.parent / "soak-p99.svg", "p99, ms, by minutes", {"p99": list(zip(ends, p99, strict=True))})
    finally:
        node.stop()
    finish(options.out, (figures, ratios), load)


def finish(out: Path, said: tuple[list, list], load: float) -> None:
    figures, ratios = said
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


def storm(node: Node, generator: str, rate: float) -> tuple[list, list]:
    """A client without a pool stands still for a moment, and opens a connection for every request that fell due meanwhile:
    when are requests answered in time again?"""
    figures, worst = [], 0.0
    for silence in (250, 500, 1_000):
        more = ("--connections", "100000", "--silence", str(silence))
        said = result(node.load(generator, rate, STORM_SECONDS, DEADLINE_MS, cores="1", more=more))
        # The second in which the silence ends is the first that counts; a quiet spell ends the storm.
        missed = [int(said["missed_by_second"].get(str(second), 0)) for second in range(STORM_SECONDS)]
        began = int(STORM_SECONDS / 4)
        calm = next(second for second in range(began, STORM_SECONDS) if not any(missed[second : second + CALM_SECONDS]))
        until = calm - began
        print(f"  {silence} ms of silence at {rate:.0f}/s: in time again within {until} s, of all {said['good'] / said['sent']:.2%}; "
              f"{said['refused']} refused, {said['failed']} failed; missed by second "
              f"{ {second: count for second, count in enumerate(missed) if count} }", flush=True)
        case = f"storm {silence} ms"
        figures += [
            figure("soak", case, "in_time_again_s", until, "s"),
            figure("soak", case, "in_time", said["good"] / said["sent"], "1"),
            figure("soak", case, "failed", sum(said["failed"].values()) + said["wrong"], "1"),
        ]
        worst = max(worst, until)
    return figures, [ratio("soak", "seconds until in time again, after a storm", worst, 5, least=False)]


def capacity(ask) -> float:
    """The most requests/s, of a sweep upwards, of which nearly all are answered in time; one step may have bad luck."""
    ask(500, 3)
    best, rate, short = 0.0, 1_000.0, 0
    while short < 2:
        said = ask(rate, 8)
        if said["good"] < 0.99 * said["sent"]:
            short += 1
        else:
            best, short = rate, 0
        rate *= 1.15
    return best


def sample(node: Node, over: threading.Event, samples: list[float]) -> None:
    """Memory of the node and its children. Looking at it takes a core for some 50 ms, and holds the node's memory meanwhile:
    rarely, and not on the node's core."""
    os.sched_setaffinity(0, {1})
    while not over.wait(SAMPLE_SECONDS):
        samples.append(node.process.megabytes())


if __name__ == "__main__":
    main()
