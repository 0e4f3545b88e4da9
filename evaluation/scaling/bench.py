"""Replays the arrivals of a trace to a node whose model has as many replicas as its load needs: from one to four and back, to none, and
back again. Who fails, how long do they wait, and who decided what?

Run: python bench.py --mantlet BINARY --onnxruntime LIBRARY --out target/bench/scaling.json [--quick]

README.md says what is measured.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import shutil
import signal
import sys
import time
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import plot  # noqa: E402 (the path above is where it lies)
from rig import READY_SECONDS, Beside, Node, figure, print_ratios, ratio, result  # noqa: E402
from environments import ROOT, build, say  # noqa: E402 (rig.py makes its folder known)
from process import Unmeasured  # noqa: E402

TRACE = "nasa_http_second_1995-07-12_13"
# So many hours of it, with its busiest minute after this share of them.
HOURS, BEFORE = 24, 0.4
# A replica runs for one of so many slots in turn: it has that share of a core, and so many of them share one.
MOST, SLOT = 4, 0.005
# What a row takes on a whole core; on its share it takes four times as long.
ROW_MS = 5.0
# The busiest seconds of the trace are made to need so many replicas, as the rule staffs them.
BUSIEST, BUSY = 10, 3.5
TARGET = 0.7
IDLE, DEADLINE_MS = 15, 15_000
# How long its quietest ten seconds go on afterwards: the rule looks back for a minute, the forecast waits for five before it wants fewer.
QUIET = {"rule": 120, "on": 420}


class Share(Beside):
    """Lets every model server of a node run for one slot of four, in turn."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def run(self) -> None:
        known: dict[int, int] = {}
        looked = 0.0
        while not self.over.is_set():
            if time.monotonic() - looked > 0.2:
                looked, now = time.monotonic(), set(self.node.model_servers())
                known = {pid: slot for pid, slot in known.items() if pid in now}
                for pid in now - known.keys():
                    free = [slot for slot in range(MOST) if slot not in known.values()]
                    known[pid] = free[0] if free else 0
            for slot in range(MOST):
                send(signal.SIGCONT, [pid for pid, its in known.items() if its == slot])
                time.sleep(SLOT)
                send(signal.SIGSTOP, [pid for pid, its in known.items() if its == slot])
        send(signal.SIGCONT, list(known))


def send(what: int, pids: list[int]) -> None:
    for pid in pids:
        # It may have gone meanwhile.
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def arrivals(data: Path, seconds: float, quiet: int) -> list[float]:
    """When requests come: a day of the trace around its busiest minute, in so many seconds, thinned to what four replicas can do."""
    with gzip.open(data / f"traces/{TRACE}.csv.gz", "rt", newline="") as file:
        counts = np.array([float(row["value"] or 0) for row in csv.DictReader(file)])
    busiest = int(np.convolve(counts, np.ones(60), "same").argmax())
    length = HOURS * 3_600
    begin = max(0, min(len(counts) - length, busiest - int(BEFORE * length)))
    part = counts[begin : begin + length] * seconds / length
    # What each second of the replay gets, thinned to what the busiest ones may have.
    each = np.add.reduceat(part, np.linspace(0, length, int(seconds), endpoint=False).astype(int)) * length / seconds
    most = np.convolve(each, np.ones(BUSIEST), "valid").max() / BUSIEST
    rates = each * BUSY * TARGET * 1_000 / (ROW_MS * MOST) / most
    rng = np.random.default_rng(7)
    rates = np.concatenate([rates, np.full(quiet, np.convolve(rates, np.ones(BUSIEST), "valid").min() / BUSIEST)])
    return sorted(second + float(place) for second, rate in enumerate(rates) for place in rng.random(rng.poisson(rate)))


def shown(node: Node, connection) -> dict:
    _, said = node.ask("GET", "/v1/models/model", connection=connection)
    return json.loads(said)["model"]


class Watch(Beside):
    """Notes how many replicas there are, and whose word it is, each quarter of a second."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node, self.seen, self.began = node, [], time.monotonic()

    def run(self) -> None:
        connection = self.node.connect()
        while not self.over.wait(0.25):
            model = shown(self.node, connection)
            ready = int(model["replicas"].split("/")[0])
            scaling = model.get("scaling") or {}
            self.seen.append((time.monotonic() - self.began, ready, scaling.get("by"), scaling.get("why")))

    def told(self) -> None:
        """Each decision once."""
        last = None
        for at, ready, by, why in self.seen:
            if ready != last:
                print(f"  {at:6.1f} s: {ready} ready; {by}: {why}")
            last = ready


def until(node: Node, wanted, what: str) -> None:
    end, connection = time.monotonic() + READY_SECONDS, node.connect()
    while not wanted(shown(node, connection)):
        if time.monotonic() > end:
            raise Unmeasured(f"{what}: not after {READY_SECONDS} s: see {node.folder / 'node.log'}")
        time.sleep(0.25)


def replay(options: argparse.Namespace, model: Path, row, mode: str) -> tuple[list[dict], list[dict], list]:
    """The trace, silence until it sleeps, and the trace's beginning once more."""
    case = f"{TRACE}, {mode}"
    settings = {"MANTLET_MODEL_SERVER__SESSIONS": "1"}
    node = Node(options.mantlet, options.onnxruntime, options.work / f"node-{mode}", settings=settings)
    try:
        scale = {"min": 0, "max": MOST, "mode": mode, "idle": f"{IDLE}s"}
        node.deploy(model, spec={"slo": {"p99": "1s"}, "scale": scale})
        node.question(model, row)
        with Share(node), Watch(node) as watch:
            said = {}
            quiet = 60 if options.quick else QUIET[mode]
            due = arrivals(options.data, options.seconds, quiet)
            for part, seconds in (("trace", options.seconds + quiet), ("woken", options.seconds / 10)):
                file = node.folder / f"{part}.arrivals"
                file.write_text("\n".join(f"{at:.4f}" for at in due))
                more = ("--arrivals", str(file), "--warm", "0")
                said[part] = result(node.load(options.generator, 1.0, seconds, DEADLINE_MS, more=more))
                print(f"  {part}: {json.dumps({key: value for key, value in said[part].items() if key != 'missed_by_second'})}")
                if part == "trace":
                    until(node, lambda model: model["state"] == "asleep", "sleep")
    finally:
        node.stop()
    watch.told()
    ready = [count for _, count, *_ in watch.seen]
    bad = lambda part: part["wrong"] + sum(part["failed"].values()) + sum(part["refused"].values())  # noqa: E731
    figures = [
        figure(case, part, metric, value, unit)
        for part, of in said.items()
        for metric, value, unit in (
            ("requests", of["sent"], "1"),
            ("failed", bad(of), "1"),
            ("p50_ms", of["answered_p50_ms"], "ms"),
            ("p99_ms", of["answered_p99_ms"], "ms"),
        )
    ]
    figures += [
        figure(case, "trace", "replicas, most", max(ready), "1"),
        figure(case, "trace", "replica_s", sum(ready) * 0.25, "s"),
        figure(case, "trace", "forecast's share of the time", sum(by == "forecast" for *_, by, _ in watch.seen) / len(watch.seen), "share"),
    ]
    # From one to the most, down to one again, to none, and back.
    wanted, at = [1, MOST, 1, 0, 1], 0
    for count in ready:
        at += at < len(wanted) and count == wanted[at]
    ratios = [
        ratio(case, "failed, refused or wrong", sum(map(bad, said.values())), 0, least=False),
        ratio(case, f"turns of {wanted} seen", at, len(wanted), least=True),
    ]
    return figures, ratios, [(moment, count) for moment, count, *_ in watch.seen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--generator", help="its binary; built when left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--quick", action="store_true", help="a minute of load, by the rule alone")
    parser.add_argument("--modes", default=",".join(QUIET))
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.seconds = 60.0 if options.quick else 420.0
    options.work = options.out.parent / "scaling"
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    options.generator = options.generator or build(HERE.parent / "generator", options.out.parent / "generator")
    load = os.getloadavg()[0]
    spec = spec_from_file_location("overload", HERE.parent / "overload/bench.py")
    overload = module_from_spec(spec)
    spec.loader.exec_module(overload)
    model, row, took = overload.make(options.work, ROW_MS)
    say(f"a row takes {took:.2f} ms")
    figures, ratios, curves = [], [], {}
    for mode in ["rule"] if options.quick else options.modes.split(","):
        say(f"spec.scale.mode = {mode}")
        made, held, curve = replay(options, model, row, mode)
        figures, ratios, curves[mode] = figures + made, ratios + held, curve
    plot.lines(options.out.parent / "scaling-replicas.svg", "replicas that are ready, by seconds", curves)
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load_at_start": load}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
