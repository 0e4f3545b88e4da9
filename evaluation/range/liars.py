"""The range's liars: one contributor of a streaming model labels everything wrong, and holds 5, 20 or 40 % of all labels. Not a script."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np

from hostile import Outcome
from rig import expect

RETRAIN = Path(__file__).resolve().parents[1] / "retrain"
# Rows of a stream, rows of a request, requests a second, and honest contributors. A model that learns is renewed once a second or so.
ROWS, BATCH, RATE, HONEST = 6_000, 20, 10.0, 7
STREAM = "electricity.csv.gz"
SETTLE_SECONDS = 60


def stream_of(data: Path):
    """A labelled stream, as the bench of retraining reads it."""
    sys.path.append(str(RETRAIN))
    spec = importlib.util.spec_from_file_location("retrain", RETRAIN / "bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Stream(data / "streams" / STREAM, ROWS)


def learns(place, stream, name: str, share: float) -> tuple[float, int, bool, int]:
    """How right a model is that learns while somebody lies: accuracy, labels until the liar was found, whether it was, honest ones held back."""
    node, rng, right = place.node, np.random.default_rng(11), 0
    manifest = stream.manifest(name, {"learner": "auto"})
    manifest["spec"]["capture"]["bytes"] = "4MiB"
    expect(*node.ask("POST", "/v1/deploys", {"manifest": manifest}))
    node.wait_for(name)
    connection, lies, classes = node.connect(), 0, len(stream.classes)
    began = time.monotonic()
    for begin in range(0, len(stream.labels) - BATCH + 1, BATCH):
        time.sleep(max(0.0, began + begin / BATCH / RATE - time.monotonic()))
        rows = range(begin, begin + BATCH)
        status, said = node.ask("POST", f"/v2/models/{name}/infer", stream.questions(rows), connection=connection)
        expect(status, said)
        answer, labels = json.loads(said), []
        for number, (row, found) in enumerate(zip(rows, answer["outputs"][0]["data"], strict=True)):
            truth, liar = stream.labels[row], rng.random() < share
            honest, other = int(rng.integers(1, HONEST + 1)), int(rng.integers(1, classes))
            right += found == stream.classes[truth]
            lies += liar
            told = (truth + other) % classes if liar else truth
            labels.append({"prediction": answer["id"], "row": number, "label": stream.classes[told], "contributor": f"c{0 if liar else honest}"})
        expect(*node.ask("POST", "/v1/feedback", json.dumps(labels).encode(), connection=connection))
    rows = (len(stream.labels) // BATCH) * BATCH
    shown = settled(node, name, rows)
    held = shown["labels"].get("held_back", {}).get("count", 0)
    suspects = [one["name"] for one in shown["contributors"] if one["held_back"]]
    expect(*node.ask("DELETE", f"/v1/models/{name}"))
    return right / rows, lies - held, "c0" in suspects, len([one for one in suspects if one != "c0"])


def settled(node, name: str, rows: int) -> dict:
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        status, said = node.ask("GET", f"/v1/models/{name}/evaluation")
        expect(status, said)
        shown = json.loads(said)
        done = sum(shown["labels"].get(what, {}).get("count", 0) for what in ("joined", "held_back"))
        if (done >= rows and not any(one["behind"] for one in shown["learning"])) or time.monotonic() > until:
            return shown
        time.sleep(0.05)


def poison(place, data: Path, share: float) -> Outcome:
    """Accuracy lost to somebody who holds this share of the labels, beside the same stream without lies."""
    outcome, began = Outcome(f"poison-{100 * share:.0f}", []), time.monotonic()
    stream = stream_of(data)
    if not hasattr(place, "honest"):
        place.honest = learns(place, stream, "honest", 0.0)[0]
    right, until, found, honest = learns(place, stream, f"lied-{100 * share:.0f}", share)
    outcome.runs, outcome.requests = 1, until
    outcome.subjects = [f"contributor:default/lied-{100 * share:.0f}/c0"]
    if found:
        outcome.contained = [(until, round(time.monotonic() - began, 2))]
    outcome.gain, outcome.gain_unit = max(0.0, place.honest - right), "accuracy"
    place.say(f"honest {place.honest:.4f}, with lies {right:.4f}, {until} lies until it was found: {found}, honest ones held back: {honest}")
    return outcome
