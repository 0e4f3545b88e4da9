"""Attacks models in this process, and records every row that was asked, by attackers and by ordinary callers.

Run: python lab.py --data DIR --out target/bench/range [--only NAME] [--targets 50] [--budget 10000] [--rows 2000]

README.md says what is recorded, and how `queries_bench` reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

import attacks  # noqa: E402
import benign  # noqa: E402
from victims import PAIRS, Victim, learner, victim  # noqa: E402

# Rows a second of an attacker.
RATE = 10.0
# Evasion has come to its end when the answer is another and no column has moved further, as a share of the column's range (square),
# or the row no further in all (the others), as a share of the longest way.
NEAR = {"table": 0.03, "image": 0.15}
CLOSE = {"table": 0.02, "image": 0.08}
STEPS = (50, 100, 200, 400, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000)
ADAPTIVE = {"jitter": 0.1, "accounts": 5, "every": 7}


def write(path: Path, about: dict, times, callers, rows, scores) -> None:
    """One line of JSON, then times (f64), callers (u32), rows (f32) and scores (f32), little endian."""
    about = {**about, "rows": len(rows), "width": rows.shape[1], "classes": scores.shape[1]}
    with path.open("wb") as file:
        file.write(json.dumps(about).encode() + b"\n")
        for values, kind in ((times, "<f8"), (callers, "<u4"), (rows, "<f4"), (scores, "<f4")):
            file.write(np.ascontiguousarray(values, dtype=kind).tobytes())


def limits(this: Victim) -> tuple[np.ndarray, np.ndarray]:
    return np.nanmin(this.attacker[0], axis=0), np.nanmax(this.attacker[0], axis=0)


def seed_of(*words: object) -> int:
    return zlib.crc32(" ".join(map(str, words)).encode())


def ordinary(this: Victim, out: Path) -> None:
    times, callers, rows, rhythms = benign.ask(this.benign, seed_of(this.name))
    scores = this.predict(rows)
    write(out / f"{this.name}.benign", {"model": this.name, "kind": "benign", "rhythms": rhythms}, times, callers, rows, scores)


def faithful(this: Victim, rows: np.ndarray, answers: np.ndarray) -> list[tuple[int, float]]:
    """How far a copy that learns from so many answers agrees with the model: 0 as the majority, 1 always."""
    truth = this.predict(this.test).argmax(axis=1)
    plain = np.bincount(truth).max() / len(truth)
    curve = []
    for number in sorted({*(n for n in STEPS if n < len(rows)), len(rows)}):
        labels = answers[:number].argmax(axis=1)
        if len(np.unique(labels)) < 2:
            curve.append((number, 0.0))
            continue
        guessed = learner(this.kind).fit(rows[:number], labels).predict(this.test)
        curve.append((number, float(max(0.0, (np.mean(guessed == truth) - plain) / (1 - plain)))))
    return curve


def extract(this: Victim, name: str, budget: int, accounts: int, out: Path) -> None:
    low, high = limits(this)
    door = attacks.Door(this.predict, low, high, budget, accounts=accounts)
    pool = door.unit(this.attacker[0])
    attacks.run(attacks.EXTRACTION[name], door, this.classes, pool, learner(this.kind), seed_of(this.name, name))
    rows, answers, callers = door.record()
    said = name if accounts == 1 else f"{name}-split"
    about = {"model": this.name, "kind": "extraction", "attack": said, "fidelity": faithful(this, rows, answers)}
    write(out / f"{this.name}.{said}", about, np.arange(len(rows)) / RATE, callers, rows, answers)


def evade(this: Victim, name: str, targets: int, budget: int, adaptive: bool, out: Path, label_after: int | None = None) -> None:
    low, high = limits(this)
    kind = "image" if this.image else "table"
    natural = this.attacker[0]
    answers = this.predict(natural).argmax(axis=1)
    chosen = np.random.default_rng(seed_of(this.name, "targets")).choice(len(natural), targets, replace=False)
    said = name + ("-adaptive" if adaptive else "") + ("" if label_after is None else "-label")
    told, recorded, start = [], [], 0
    for number, at in enumerate(chosen):
        seed = seed_of(this.name, said, number)
        row = attacks.Door(this.predict, low, high, 0).unit(natural[at])
        if adaptive:
            door = attacks.Jittered(
                this.predict, low, high, budget, origin=row, jitter=ADAPTIVE["jitter"], seed=seed, accounts=ADAPTIVE["accounts"], every=ADAPTIVE["every"], label_after=label_after
            )
        else:
            door = attacks.Door(this.predict, low, high, budget, label_after=label_after)
        # Who adapts begins with a natural row of another answer; who doesn't, with noise, as the attacks do by themselves.
        others = np.flatnonzero(answers != answers[at])
        other = door.unit(natural[others[seed % len(others)]]) if adaptive and len(others) else None
        attacks.run(attacks.EVASION[name], door, this.classes, row, other, NEAR[kind], seed)
        rows, scores, callers = door.record()
        apart = door.unit(rows) - row
        near = np.abs(apart).max(axis=1) <= NEAR[kind] * (1.5 if adaptive else 1.01) if name == "square" else np.linalg.norm(apart, axis=1) <= CLOSE[kind] * np.sqrt(row.size)
        done = np.flatnonzero(near & (scores.argmax(axis=1) != answers[at]))
        told.append({"begin": start, "end": start + len(rows), "done": int(start + done[0]) if len(done) else None})
        recorded.append((rows, scores, callers + number * 100))
        start += len(rows)
    rows, scores, callers = (np.concatenate(parts) for parts in zip(*recorded))
    about = {"model": this.name, "kind": "evasion", "attack": said, "targets": told}
    write(out / f"{this.name}.{said}", about, np.arange(len(rows)) / RATE, callers, rows, scores)


def infer(this: Victim, out: Path) -> None:
    """How many members are found at few false ones, by what the answers hold."""
    low, high = limits(this)
    forms = {"scores": lambda s: s, "rounded": lambda s: np.round(s, 1), "label": lambda s: np.eye(s.shape[1])[s.argmax(axis=1)]}
    found = {}
    for form, limit in forms.items():
        door = attacks.Door(lambda rows, limit=limit: limit(this.predict(rows)), low, high, 1 << 30)
        members, others = ((door.unit(rows[:2_000]), labels[:2_000]) for rows, labels in (this.learnt, this.attacker))
        inside, outside = attacks.membership(door, this.classes, members, others, seed_of(this.name, "member"))
        found[form] = {f"{share:g}": float(np.mean(inside > np.quantile(outside, 1 - share))) for share in (0.001, 0.01, 0.1)}
    (out / f"{this.name}.membership.json").write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("MANTLET_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="victims whose name begins so")
    parser.add_argument("--kinds", default="benign,extraction,evasion,membership")
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--budget", type=int, default=10_000, help="rows that an evasion may ask")
    parser.add_argument("--label-after", type=int, help="rows of an evasion after which answers are labels alone")
    parser.add_argument("--rows", type=int, default=2_000, help="rows that an extraction may ask")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    for table, kind in PAIRS:
        if not f"{table}-{kind}".startswith(options.only):
            continue
        this, began = victim(options.data, table, kind), time.monotonic()
        work = {"benign": [lambda: ordinary(this, options.out)], "membership": [lambda: infer(this, options.out)]}
        work["extraction"] = [
            lambda name=name, accounts=accounts: extract(this, name, options.rows, accounts, options.out)
            for name, accounts in [*((name, 1) for name in attacks.EXTRACTION), ("uniform", 10), ("active", 10)]
        ]
        work["evasion"] = [
            lambda name=name, adaptive=adaptive: evade(this, name, options.targets, options.budget, adaptive, options.out, options.label_after)
            for name in attacks.EVASION
            for adaptive in (False, True)
        ]
        for wanted in options.kinds.split(","):
            for step in work[wanted]:
                try:
                    step()
                except Exception as fault:  # noqa: BLE001 (one attack that can't run is told, and the others go on)
                    print(f"{this.name}: {wanted}: {fault!r}", file=sys.stderr, flush=True)
        print(f"{this.name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
