"""The range: ordinary callers of a running node beside attackers, with the sentinel off, by rules alone, and on.

README.md says who attacks how, and what is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
sys.path.append(str(HERE.parent / "serving"))

# By how much the town's time is faster than the clock: its four hours are minutes here, and a window of a minute some seconds.
SPEED = 24.0
# What a window is, of the sentinel's minute.
WINDOW_MS = int(60_000 / SPEED)
ARMS = ("off", "rules", "on")


def in_venv(options: argparse.Namespace) -> None:
    """Goes on in an environment with the attacks, made on the first run."""
    from environments import say, venv_of  # noqa: PLC0415 (it is not there in that environment)

    say("the attacks' Python")
    python = venv_of("range", HERE / "requirements.txt", options.out.parent)
    environment = {**os.environ, "MANTLET_RANGE": "1", "OMP_NUM_THREADS": "1"}
    raise SystemExit(subprocess.run([python, "-W", "ignore", __file__, *sys.argv[1:]], env=environment).returncode)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("MANTLET_DATA"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--only", default="", help="attacks whose name begins so")
    parser.add_argument("--targets", type=int, default=5, help="targets of an evasion")
    parser.add_argument("--budget", type=int, default=3_000, help="rows that an evasion may ask")
    parser.add_argument("--rows", type=int, default=1_500, help="rows that an extraction may ask")
    parser.add_argument("--seconds", type=float, help="how long an attack may take: 40, quick 15")
    options = parser.parse_args()
    if "MANTLET_RANGE" not in os.environ:
        in_venv(options)
    warnings.filterwarnings("ignore")
    Range(options).run()


class Range:
    """All arms, one after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        from victims import victim  # noqa: PLC0415

        self.options = options
        pairs = [("electricity", "tree"), ("insects", "neural"), ("phishing", "linear"), ("digits", "neural")]
        if options.quick:
            pairs = pairs[:1]
        self.victims = [victim(options.data, table, kind) for table, kind in pairs]
        self.folder = options.out.parent / "range"
        self.folder.mkdir(parents=True, exist_ok=True)
        for this in self.victims:
            self.onnx(this)

    def onnx(self, this) -> None:
        from skl2onnx import to_onnx  # noqa: PLC0415
        from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

        width = this.attacker[0].shape[1]
        made = to_onnx(this.model, initial_types=[("X", FloatTensorType([None, width]))], options={"zipmap": False}, target_opset=18)
        this.path = self.folder / f"{this.name}.onnx"
        this.path.write_bytes(made.SerializeToString())

    def run(self) -> None:
        from rig import figure, print_ratios  # noqa: PLC0415

        figures, outcomes, towns = [], {}, {}
        for arm in self.options.arms.split(","):
            say(f"arm {arm}")
            place = Place(self, arm)
            try:
                outcomes[arm], towns[arm] = place.run()
                for outcome in outcomes[arm]:
                    figures += figures_of(outcome, arm, place)
            finally:
                place.stop()
            for metric, value in towns[arm].figures().items():
                figures.append(figure("benign", arm, metric, value, "requests" if "requests" == metric[-8:] else "share"))
            figures += place.more
            say(f"{arm}: hurt {towns[arm].hurt()[:20]}")
        ratios = goals(figures)
        print_table(figures)
        print_ratios(ratios)
        said = {"machine": f"{os.cpu_count()} cores of {platform.machine()}", "figures": figures, "ratios": ratios}
        self.options.out.write_text(json.dumps(said, indent=1))
        if self.options.docs:
            import report  # noqa: PLC0415

            report.write(self.options.docs, said)


class Place:
    """A node of one arm, with its models, its ordinary callers and its attackers."""

    def __init__(self, of: Range, arm: str) -> None:
        from hostile import Accounts  # noqa: PLC0415
        from rig import Node  # noqa: PLC0415
        from town import Town  # noqa: PLC0415
        from victims import learner  # noqa: PLC0415

        self.arm, self.victims, self.learner, self.options = arm, of.victims, learner, of.options
        settings = {
            "MANTLET_SENTINEL__MODE": arm,
            "MANTLET_SENTINEL__WINDOW": f"{WINDOW_MS}ms",
            "MANTLET_SENTINEL__AUTONOMY": "act",
            # A range packs the attackers of a month into minutes.
            "MANTLET_SENTINEL__BLAST": "100%",
        }
        self.folder = of.folder / arm
        self.node = Node(of.options.mantlet, of.options.onnxruntime, of.folder / f"node-{arm}", settings=settings)
        self.url, self.ca = self.node.url, str(self.node.data / "ca.pem")
        for victim in self.victims:
            self.node.deploy(victim.path, victim.name)
        self.accounts = Accounts(self.node)
        self.town = Town(self.url, self.ca, self.victims, lambda name: self.node.caller(name), SPEED, 1)
        self.more: list[dict] = []
        self.say = say

    def stop(self) -> None:
        self.node.stop()

    def run(self):
        """Ordinary callers alone for a third of their time, then attackers beside them, to their end."""
        import hostile  # noqa: PLC0415

        self.town.start()
        quick = self.options.quick
        time.sleep(60 if quick else self.town.seconds / 3)
        outcomes = []
        for case, attack in self.cases(hostile):
            if not case.startswith(self.options.only):
                continue
            began = time.monotonic()
            try:
                outcomes.append(attack())
            except Exception as fault:  # noqa: BLE001 (one that can't run is told, and the others go on)
                say(f"{case}: {fault!r}")
                continue
            last = outcomes[-1]
            say(f"{self.arm}: {last.case}: {len(last.contained)} of {last.runs} held back {last.contained[:3]}, gain {last.gain}, {time.monotonic() - began:.0f} s")
        self.undo()
        if not quick:
            time.sleep(max(0.0, self.town.began + self.town.seconds - time.monotonic()))
        self.town.stop()
        return outcomes, self.town

    def cases(self, hostile):
        import floods  # noqa: PLC0415
        import liars  # noqa: PLC0415
        import slow  # noqa: PLC0415

        options, victims = self.options, self.victims
        quick = options.quick
        seconds = options.seconds or (15.0 if quick else 40.0)
        for victim in victims:
            for name in ("knockoff-random", "knockoff-adaptive", "copycat", "active", "uniform", "jacobian"):
                yield f"extraction-{name}", lambda name=name, victim=victim: hostile.extraction(self, victim, name, 1, options.rows, seconds)
        for name in ("active", "uniform"):
            yield f"extraction-{name}-split", lambda name=name: hostile.extraction(self, victims[0], name, 10, options.rows, seconds)
        for victim in [victims[0], victims[-1]][: 1 if quick else 2]:
            for name in ("hop-skip-jump", "boundary", "square"):
                for adaptive in (False, True):
                    yield f"evasion-{name}", lambda name=name, victim=victim, adaptive=adaptive: hostile.evasion(
                        self, victim, name, adaptive, 2 if quick else options.targets, options.budget, seconds
                    )
        for victim in victims[:2]:
            yield "membership", lambda victim=victim: hostile.membership(self, victim, seconds)
        data = Path(options.data)
        for kind in ("payloads", "requests"):
            asks = hostile.requests_of(data, kind)
            if asks:
                yield f"injection-{kind}", lambda asks=asks, kind=kind: hostile.injection(self, f"injection-{kind}", asks, True, seconds, 400)
                yield f"injection-nameless-{kind}", lambda asks=asks, kind=kind: hostile.injection(self, f"injection-nameless-{kind}", asks, False, seconds, 400)
        yield "scan", lambda: hostile.scan(self, seconds)
        for kind in floods.KINDS:
            yield kind, lambda kind=kind: floods.flood(self, victims[0], kind)
        for mode in slow.MODES:
            yield mode, lambda mode=mode: slow.slow(self, victims[0], mode)
        for share in (0.05, 0.2, 0.4):
            yield f"poison-{100 * share:.0f}", lambda share=share: liars.poison(self, data, share)
        yield "bundles", lambda: hostile.bundles(self, victims[0].path.read_bytes(), 40 if quick else 500)

    def incidents(self) -> list[dict]:
        from rig import expect  # noqa: PLC0415

        status, said = self.node.ask("GET", "/v1/incidents?limit=1000", connection=self.node.connect())
        expect(status, said)
        return json.loads(said) if status == 200 else []

    def digest(self) -> str:
        """What holds for everybody, and what one caller is answered."""
        if not hasattr(self, "golden"):
            self.golden = self.node.caller("golden")
        from wire import Wire  # noqa: PLC0415

        wire, said = Wire(self.url, self.ca), hashlib.sha256()
        for victim in self.victims:
            for row in victim.test[: 100 // len(self.victims)]:
                answer = wire.infer(victim.name, row[None], self.golden)
                said.update(f"{answer.status} {answer.code}".encode() + (answer.scores.tobytes() if answer.scores is not None else b""))
        acting = sorted(
            f"{incident['subject']} {taken['restriction']['rung']}"
            for incident in self.incidents()
            for taken in incident["actions"]
            if taken["state"] == "acting" and incident["subject"].endswith("/golden")
        )
        said.update(json.dumps(acting).encode())
        wire.close()
        return said.hexdigest()

    def undo(self) -> None:
        """Every rung, set and taken back: what holds is another meanwhile, and the same after."""
        from rig import figure  # noqa: PLC0415

        if self.arm == "off":
            return
        whole, before = [], self.digest()
        for rung in ("throttle", "degrade", "quarantine", "block", "revoke"):
            body = {"subject": "golden", "rung": rung, "reason": "the range tries it"}
            status, said = self.node.ask("POST", "/v1/restrictions", body)
            taken = json.loads(said)["actions"][-1]["restriction"]["id"]
            time.sleep(1.2)
            during = self.digest()
            self.node.ask("POST", f"/v1/incidents/{taken}/undo", {"reason": "the range takes it back"})
            time.sleep(1.2)
            whole.append(during != before and self.digest() == before)
        self.more.append(figure("undo", self.arm, "undone", sum(whole) / len(whole), "share"))


def figures_of(outcome, arm: str, place: Place) -> list[dict]:
    from rig import figure  # noqa: PLC0415

    rows = [figure(outcome.case, arm, "requests", outcome.requests, "requests")]
    subjects = {incident["subject"] for incident in place.incidents()}
    seen = [subject for subject in outcome.subjects if any(found.startswith(subject) for found in subjects)]
    rows.append(figure(outcome.case, arm, "detected", float(bool(seen)) if outcome.runs == 1 else len(seen) / max(len(outcome.subjects), 1), "share"))
    if outcome.runs:
        rows.append(figure(outcome.case, arm, "contained", len(outcome.contained) / outcome.runs, "share"))
    if outcome.contained:
        worst = sorted(outcome.contained)[min(len(outcome.contained) - 1, int(0.95 * len(outcome.contained)))]
        rows.append(figure(outcome.case, arm, "requests_to_containment", worst[0], "requests"))
        slowest = sorted(seconds for _, seconds in outcome.contained)
        rows.append(figure(outcome.case, arm, "seconds_to_containment", round(slowest[min(len(slowest) - 1, int(0.95 * len(slowest)))], 2), "s"))
    if outcome.gain is not None:
        rows.append(figure(outcome.case, arm, "attacker_gain", round(outcome.gain, 4), outcome.gain_unit))
    return rows


def goals(figures: list[dict]) -> list[dict]:
    from rig import ratio  # noqa: PLC0415

    at = {(row["case"], row["subject"], row["metric"]): row["value"] for row in figures}
    cases = sorted({row["case"] for row in figures})
    rows = []
    for case in cases:
        gain = lambda arm, case=case: at.get((case, arm, "attacker_gain"))  # noqa: E731
        requests, seconds = (at.get((case, "on", f"{unit}_to_containment")) for unit in ("requests", "seconds"))
        if case.startswith(("injection", "scan", "flood", "sponge")):
            met = (requests is not None and requests <= 20) or (seconds is not None and seconds <= 1.0)
            rows.append({"case": case, "name": "requests or seconds to containment", "value": requests if requests is not None else -1, "goal": "<= 20 or <= 1 s", "met": met})
        elif case.startswith("extraction") and gain("off") is not None and gain("on") is not None and not case.startswith("extraction-knockoff"):
            rows.append(ratio(case, "gain on / off", gain("on") / max(gain("off"), 1e-9), 0.5, least=False))
        elif case.startswith("evasion") and gain("on") is not None:
            rows.append(ratio(case, "success", gain("on"), 0.3 if "adaptive" in case else 0.1, least=False))
        elif case.startswith("poison") and gain("on") is not None:
            rows.append(ratio(case, "accuracy lost, points", 100 * gain("on"), 1.0, least=False))
        elif case.startswith("slow") and gain("on") is not None:
            rows.append(ratio(case, "a bystander's requests that fail or take a second", gain("on"), 0.0, least=False))
        elif case == "bundles" and gain("on") is not None:
            rows.append(ratio(case, "mutated files that were taken", gain("on"), 0.0, least=False))
    for metric in ("benign_requests_untouched", "benign_callers_untouched"):
        if ("benign", "on", metric) in at:
            rows.append(ratio("benign", metric, at["benign", "on", metric], 0.999, least=True))
    if ("undo", "on", "undone") in at:
        rows.append(ratio("undo", "actions undone", at["undo", "on", "undone"], 1.0, least=True))
    return rows


def print_table(figures: list[dict]) -> None:
    arms = [arm for arm in ARMS if any(row["subject"] == arm for row in figures)]
    at = {(row["case"], row["metric"], row["subject"]): row["value"] for row in figures}
    print(f"\n| case | metric | {' | '.join(arms)} |\n|---|---|{'---:|' * len(arms)}")
    for case, metric in dict.fromkeys((row["case"], row["metric"]) for row in figures):
        said = [at.get((case, metric, arm)) for arm in arms]
        print(f"| {case} | {metric} | {' | '.join('-' if value is None else f'{value:g}' for value in said)} |")


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
