"""One of five contributors lies about all, half or a fifth of what it labels: is it found, does the model stay right, is
nothing worse promoted? `cargo xtask bench retrain -- --poison`."""

from __future__ import annotations

import json
import threading
import time

import numpy as np

from rig import Node, expect, figure, ratio  # noqa: E402 (bench.py makes its folder known)

CONTRIBUTORS = 5
# By name: the share of its labels that the first contributor gets wrong on purpose.
LIES = {"clean": 0.0, "lies-20": 0.2, "lies-50": 0.5, "lies-100": 1.0}
# Rows of a request.
BATCH = 20
# A challenger that is worse wherever the champion is any good.
WORSE = {"learner": "naive-bayes"}


class Poisoned(threading.Thread):
    """Asks one model about the rows, some at a time, and labels them as its contributors do."""

    def __init__(self, node: Node, name: str, stream, due: list[float]) -> None:
        super().__init__(name=name)
        self.node, self.stream, self.due = node, stream, due
        self.right: list[bool] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 (whoever joins it is told)
            self.error = error

    def work(self) -> None:
        connection, rng = self.node.connect(), np.random.default_rng(11)
        classes = len(self.stream.classes)
        for place, due in enumerate(self.due):
            time.sleep(max(0.0, due - time.monotonic()))
            rows = range(place * BATCH, (place + 1) * BATCH)
            status, said = self.node.ask("POST", f"/v2/models/{self.name}/infer", self.stream.questions(rows), connection=connection)
            expect(status, said)
            answer = json.loads(said)
            labels = []
            for number, (row, found) in enumerate(zip(rows, answer["outputs"][0]["data"], strict=True)):
                truth, contributor = self.stream.labels[row], int(rng.integers(CONTRIBUTORS))
                self.right.append(found == self.stream.classes[truth])
                # Drawn whether or not it lies, so that all models see the same.
                lie, other = rng.random() < LIES[self.name], int(rng.integers(1, classes))
                told = (truth + other) % classes if lie and contributor == 0 else truth
                label = {"prediction": answer["id"], "row": number, "label": self.stream.classes[told], "contributor": f"c{contributor}"}
                labels.append(label)
            expect(*self.node.ask("POST", "/v1/feedback", json.dumps(labels).encode(), connection=connection))


def measure(node: Node, stream, learner: dict, rate: float) -> tuple[list, list]:
    """One model for each kind of liar, all asked the same rows at the same time."""
    batches = len(stream.labels) // BATCH
    for name in LIES:
        for spec in (learner, WORSE):
            manifest = stream.manifest(name, spec)
            manifest["spec"]["learning"] = {"promote": "automatic", "season": "0s"}
            manifest["spec"]["capture"]["bytes"] = "4MiB"
            expect(*node.ask("POST", "/v1/deploys", {"manifest": manifest}))
            node.wait_for(name)
    began = time.monotonic() + 0.5
    due = [began + place * BATCH / rate for place in range(batches)]
    subjects = {name: Poisoned(node, name, stream, due) for name in LIES}
    for subject in subjects.values():
        subject.start()
    for subject in subjects.values():
        subject.join()
        if subject.error:
            raise subject.error
    rows = batches * BATCH
    settle(node, rows)
    status, said = node.ask("GET", "/v1/rollouts")
    expect(status, said)
    rollouts = {rollout["model"]: rollout for rollout in json.loads(said)}
    right = {name: sum(subject.right) / len(subject.right) for name, subject in subjects.items()}
    figures, ratios = [], []
    for name in LIES:
        status, said = node.ask("GET", f"/v1/models/{name}/evaluation")
        expect(status, said)
        shown = json.loads(said)
        held = shown["labels"].get("held_back", {}).get("count", 0)
        suspects = [one["name"] for one in shown["contributors"] if one["held_back"]]
        rollout = rollouts.get(name, {"stand": "none", "evidence": {"champion_loss": 0, "challenger_loss": 0}})
        figures += [
            figure(stream.name, name, "accuracy", right[name], "1"),
            figure(stream.name, name, "labels_held_back", held, "labels"),
            figure(stream.name, name, "honest_held_back", len([one for one in suspects if one != "c0"]), "contributors"),
        ]
        print(f"  {name:9} {right[name]:.4f} right, {held} labels held back of {suspects or 'nobody'}, challenger: {rollout['stand']}", flush=True)
        if name == "clean":
            # What the challenger is worth where nobody lies.
            worse = rollout["stand"] != "promoted"
            continue
        found = first_held(rows, held)
        figures.append(figure(stream.name, name, "labels_until_found", found, "labels"))
        ratios.append(ratio(stream.name, f"{name}: clean - it, points", (right["clean"] - right[name]) * 100, 1, least=False))
        ratios.append(ratio(stream.name, f"{name}: held back", float("c0" in suspects), 1, least=True))
        if worse:
            ratios.append(ratio(stream.name, f"{name}: worse ones promoted", float(rollout["stand"] == "promoted"), 0, least=False))
    for name in LIES:
        expect(*node.ask("DELETE", f"/v1/models/{name}"))
    return figures, ratios


def first_held(rows: int, held: int) -> float:
    """Labels of the liar's before it was found: what it gave, without those that were held back."""
    return rows / CONTRIBUTORS - held


def settle(node: Node, rows: int) -> None:
    """Waits until every label was looked at."""
    until = time.monotonic() + 60
    for name in LIES:
        while True:
            status, said = node.ask("GET", f"/v1/models/{name}/evaluation")
            expect(status, said)
            shown = json.loads(said)
            done = sum(shown["labels"].get(what, {}).get("count", 0) for what in ("joined", "held_back"))
            behind = [one["behind"] for one in shown["learning"]]
            if done >= rows and not any(behind):
                break
            if time.monotonic() > until:
                raise SystemExit(f"{name}: {done} of {rows} labels were looked at, {behind} entries behind")
            time.sleep(0.05)
