"""A model learns a thousand labelled examples a second while others are asked: does it keep up, does memory stay, does anybody
wait? `cargo xtask bench retrain -- --steady [--minutes 6]`."""

from __future__ import annotations

import json
import statistics
import threading
import time
from pathlib import Path

import numpy as np

from rig import Node, expect, figure, ratio  # noqa: E402 (bench.py makes its folder known)
import plot  # noqa: E402

# Examples a second, and requests that they come in: more of them come in larger requests, so that it is not the client that is measured.
RATE, REQUESTS = 1_000, 50
# Requests a second to the model that does not learn, for who else is served.
BESIDE = 100
WIDTH = 16
# Seconds between two looks at memory and at how far behind the learner is, and those that are not judged.
LOOK, WARM = 5, 30


def spec(learner: str) -> dict:
    return {
        "source": {"online": {"learner": learner}},
        "inputs": [{"name": "x", "type": "FP32", "shape": [-1, WIDTH]}],
        "task": {"kind": "classification", "classes": ["no", "yes"]},
        "capture": {"input": "features", "bytes": "1MiB"},
    }


class Loop(threading.Thread):
    """Does something so many times a second until it is told to stop."""

    def __init__(self, rate: float, step, over: threading.Event) -> None:
        super().__init__()
        self.rate, self.step, self.over = rate, step, over
        self.seconds: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        began = time.monotonic()
        number = 0
        try:
            while not self.over.is_set():
                due = began + number / self.rate
                time.sleep(max(0.0, due - time.monotonic()))
                self.step(number)
                # From when it was due: a queue is waited in, too.
                self.seconds.append(time.monotonic() - due)
                number += 1
        except BaseException as error:  # noqa: BLE001 (whoever joins it is told)
            self.error = error
            self.over.set()


def measure(node: Node, minutes: float, learner: str, out: Path, rate: float) -> tuple[list, list]:
    batch = max(1, round(rate / REQUESTS))
    for name in ("ring", "beside"):
        manifest = {"apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": {"name": name}, "spec": spec(learner)}
        expect(*node.ask("POST", "/v1/deploys", {"manifest": manifest}))
        node.wait_for(name)
    rng, over = np.random.default_rng(3), threading.Event()
    rows = rng.normal(size=(4_096, WIDTH)).astype(np.float32)
    connections = {name: node.connect() for name in ("ring", "beside")}

    def teach(number: int) -> None:
        at = (number * batch) % (len(rows) - batch)
        part = rows[at : at + batch]
        tensor = {"name": "x", "shape": [batch, WIDTH], "datatype": "FP32", "data": part.ravel().tolist()}
        status, said = node.ask("POST", "/v2/models/ring/infer", {"inputs": [tensor]}, connection=connections["ring"])
        expect(status, said)
        prediction = json.loads(said)["id"]
        labels = [{"prediction": prediction, "row": n, "label": "yes" if row[:3].sum() > 0 else "no"} for n, row in enumerate(part)]
        expect(*node.ask("POST", "/v1/feedback", json.dumps(labels).encode(), connection=connections["ring"]))

    def ask(number: int) -> None:
        tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": rows[number % len(rows)].tolist()}
        expect(*node.ask("POST", "/v2/models/beside/infer", {"inputs": [tensor]}, connection=connections["beside"]))

    loops = [Loop(rate / batch, teach, over), Loop(BESIDE, ask, over)]
    for loop in loops:
        loop.start()
    began, seen = time.monotonic(), []
    while time.monotonic() < began + minutes * 60 and not over.is_set():
        time.sleep(LOOK)
        status, said = node.ask("GET", "/v1/models/ring/evaluation")
        expect(status, said)
        learning = json.loads(said)["learning"]
        if learning:
            one = learning[0]
            seen.append((time.monotonic() - began, one["learnt"], one["behind"], one["staleness_ms"], node.process.megabytes()))
            if len(seen) % (600 // LOOK) == 0:
                at, learnt, behind, stale, memory = seen[-1]
                print(f"  {at / 60:5.0f} min: {learnt} learnt, {behind} behind, {stale / 1e3:.1f} s stale, {memory:.0f} MB", flush=True)
    over.set()
    for loop in loops:
        loop.join()
        if loop.error:
            raise loop.error
    judged = [look for look in seen if look[0] > WARM]
    (start, first, *_), (end, last, *_) = judged[0], judged[-1]
    third = max(1, len(judged) // 3)
    early, late = (statistics.median(look[4] for look in part) for part in (judged[:third], judged[-third:]))
    behind = max(look[2] for look in judged)
    seconds = sorted(loops[1].seconds[BESIDE * WARM :])
    p50, p99 = (seconds[int(len(seconds) * share)] * 1e3 for share in (0.5, 0.99))
    figures = [
        figure("steady", learner, "learnt_per_s", (last - first) / (end - start), "1/s"),
        figure("steady", learner, "events", 2 * last + len(loops[1].seconds), "events"),
        figure("steady", learner, "behind_most", behind, "entries"),
        figure("steady", learner, "staleness_ms_median", statistics.median(look[3] for look in judged), "ms"),
        figure("steady", learner, "pss_first_third", early, "MB"),
        figure("steady", learner, "pss_last_third", late, "MB"),
        figure("steady", "beside", "p50_ms", p50, "ms"),
        figure("steady", "beside", "p99_ms", p99, "ms"),
    ]
    for made in figures:
        print(f"  {made['subject']:24} {made['metric']:22} {made['value']:12.2f} {made['unit']}", flush=True)
    plot.lines(out.parent / "retrain-steady.svg", "memory of the node, MB, by seconds", {"PSS": [(look[0], look[4]) for look in seen]})
    return figures, [
        ratio("steady", "learnt a second / sent", (last - first) / (end - start) / rate, 0.98, least=True),
        ratio("steady", "memory, last third / first", late / early, 1.05, least=False),
    ]
