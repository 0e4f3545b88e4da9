"""The range's attacks, each with its own accounts, against a running node. Not a script.

Each gives what became of it: requests that were answered in full before it was held back, the seconds until then, and what it
gained.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import attacks
from lab import CLOSE, NEAR, faithful, limits, seed_of
from rig import expect
from wire import Hostile, Over, Wire


@dataclass
class Outcome:
    """What became of an attack."""

    case: str
    subjects: list[str]
    requests: int = 0
    rows: int = 0
    contained: list[tuple[int, float]] = field(default_factory=list)
    runs: int = 0
    gain: float | None = None
    gain_unit: str = "share"


class Accounts:
    """Callers that are made when an attack needs them."""

    def __init__(self, node, namespace: str = "default") -> None:
        self.node, self.namespace, self.count = node, namespace, 0

    def new(self, what: str, number: int = 1) -> tuple[list[str], list[str]]:
        names = [f"x-{what}-{self.count + n}" for n in range(number)]
        self.count += number
        return [self.node.caller(name, self.namespace) for name in names], [f"caller:{self.namespace}/{name}" for name in names]


def note(outcome: Outcome, hostile: Hostile) -> None:
    outcome.requests += hostile.requests
    outcome.rows += hostile.rows
    outcome.runs += 1
    if hostile.contained is not None:
        outcome.contained.append(hostile.contained)


def extraction(place, victim, name: str, accounts: int, budget: int, seconds: float) -> Outcome:
    split = "-split" if accounts > 1 else ""
    outcome = Outcome(f"extraction-{name}{split}-{victim.name}", [])
    tokens, outcome.subjects = place.accounts.new(f"{name}{split}", accounts)
    hostile = Hostile(place.url, place.ca, victim.name, tokens, seconds, most=10)
    low, high = limits(victim)
    door = attacks.Door(hostile.predict, low, high, budget, accounts=accounts)
    pool = door.unit(victim.attacker[0])
    try:
        attacks.run(attacks.EXTRACTION[name], door, victim.classes, pool, place.learner(victim.kind), seed_of(victim.name, name))
    except Over:
        pass
    note(outcome, hostile)
    outcome.gain = 0.0
    if door.rows:
        rows, answers, _ = door.record()
        outcome.gain = faithful(victim, rows, answers)[-1][1]
    return outcome


def evasion(place, victim, name: str, adaptive: bool, targets: int, budget: int, seconds: float) -> Outcome:
    outcome = Outcome(f"evasion-{name}{'-adaptive' if adaptive else ''}-{victim.name}", [])
    low, high = limits(victim)
    kind = "image" if victim.image else "table"
    natural = victim.attacker[0]
    said = victim.predict(natural).argmax(axis=1)
    chosen = np.random.default_rng(seed_of(victim.name, "targets")).choice(len(natural), targets, replace=False)
    reached = 0
    for number, at in enumerate(chosen):
        tokens, subjects = place.accounts.new(name, 5 if adaptive else 1)
        outcome.subjects += subjects
        hostile = Hostile(place.url, place.ca, victim.name, tokens, seconds, every=7 if adaptive else 1, most=10)
        seed = seed_of(victim.name, name, adaptive, number)
        row = attacks.Door(victim.predict, low, high, 0).unit(natural[at])
        if adaptive:
            door = attacks.Jittered(hostile.predict, low, high, budget, origin=row, jitter=0.1, seed=seed)
        else:
            door = attacks.Door(hostile.predict, low, high, budget)
        others = np.flatnonzero(said != said[at])
        other = door.unit(natural[others[seed % len(others)]]) if adaptive and len(others) else None
        try:
            attacks.run(attacks.EVASION[name], door, victim.classes, row, other, NEAR[kind], seed)
        except Over:
            pass
        note(outcome, hostile)
        if not door.rows:
            continue
        rows, scores, _ = door.record()
        apart = door.unit(rows) - row
        if name == "square":
            near = np.abs(apart).max(axis=1) <= NEAR[kind] * (1.5 if adaptive else 1.01)
        else:
            near = np.linalg.norm(apart, axis=1) <= CLOSE[kind] * np.sqrt(row.size)
        reached += bool(np.any(near & (scores.argmax(axis=1) != said[at])))
    outcome.gain = reached / targets
    return outcome


def membership(place, victim, seconds: float) -> Outcome:
    """Members found at 1 % false ones."""
    outcome = Outcome(f"membership-{victim.name}", [])
    tokens, outcome.subjects = place.accounts.new("membership")
    hostile = Hostile(place.url, place.ca, victim.name, tokens, seconds, most=50)
    low, high = limits(victim)
    door = attacks.Door(hostile.predict, low, high, 1 << 30)
    members, others = ((door.unit(rows[:1_000]), labels[:1_000]) for rows, labels in (victim.learnt, victim.attacker))
    outcome.gain = 0.0
    try:
        inside, outside = attacks.membership(door, victim.classes, members, others, seed_of(victim.name, "member"))
        outcome.gain = float(np.mean(inside > np.quantile(outside, 0.99)))
    except Over:
        pass
    note(outcome, hostile)
    return outcome


def requests_of(data: Path, kind: str) -> list[tuple[str, str, bytes]]:
    """Hostile requests of the HTTP files: method, target, body."""
    found = []
    for path in sorted((data / "intrusion").glob("*.csv*")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
            table = csv.DictReader(file)
            names = table.fieldnames or []
            for row in table:
                if row.get("label") != "1":
                    continue
                if kind == "requests" and {"method", "url", "body"} <= set(names):
                    found.append((row["method"], row["url"], row["body"].encode()))
                elif kind == "payloads" and "payload" in names:
                    found.append(("GET", row["payload"], b""))
    return found


def target_of(url: str) -> str:
    """Path and query of a recorded address, as a client may send it."""
    from urllib.parse import quote

    path = "/" + url.split("://", 1)[-1].split("/", 1)[-1] if "://" in url else url
    return quote(path, safe="/?&=%+;:,@!*()'$.~-_") or "/"


def injection(place, case: str, asks: list[tuple[str, str, bytes]], known: bool, seconds: float, most: int) -> Outcome:
    """Requests with attacks in them, by a caller or by somebody without a credential."""
    from urllib.parse import quote

    outcome = Outcome(case, [])
    token = None
    if known:
        tokens, outcome.subjects = place.accounts.new("injection")
        token = tokens[0]
    else:
        outcome.subjects = ["source:127.0.0.1"]
    wire, began, contained = Wire(place.url, place.ca), time.monotonic(), None
    chance = np.random.default_rng(4)
    for number in chance.choice(len(asks), min(most, len(asks)), replace=False):
        if time.monotonic() - began > seconds:
            break
        method, url, body = asks[number]
        target = target_of(url) if case.endswith("requests") else f"/v2/models/{place.victims[0].name}?q={quote(url)}"
        try:
            status, said, _ = wire.ask(method if method in ("GET", "POST") else "GET", target, body or None, token)
        except (OSError, ValueError):
            continue
        outcome.requests += 1
        if status == 429 or (status == 403 and b"caller_restricted" in said):
            contained = (outcome.requests - 1, time.monotonic() - began)
            break
        time.sleep(0.02)
    outcome.runs = 1
    outcome.contained = [contained] if contained else []
    # What got through, of all that would have been sent.
    outcome.gain = (contained[0] if contained else outcome.requests) / max(most, 1)
    wire.close()
    return outcome


def scan(place, seconds: float) -> Outcome:
    """Guesses names of models and paths."""
    words = "admin login backup .env .git/config wp-login.php phpinfo.php server-status actuator/env api/v1/users console manager/html".split()
    asks = [("GET", f"/{word}", b"") for word in words] + [("GET", f"/v2/models/{name}", b"") for name in ("prod", "gpt", "fraud", "churn", "test")]
    return injection(place, "scan-requests", asks * 20, True, seconds, 200)


def signed(folder: Path, model: bytes) -> tuple[str, str]:
    """A new publisher's public key, and its signature over a model, as `model_signing` makes it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import hashing, signing

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "model.onnx").write_bytes(model)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    config = signing.Config().use_elliptic_key_signer(private_key=folder / "key.pem")
    config.set_hashing_config(hashing.Config()).sign(folder / "model", folder / "model.sig")
    return public.decode(), (folder / "model.sig").read_text()


def bundles(place, model: bytes, number: int) -> Outcome:
    """Signed files with a few bytes changed, cut short, grown, or turned round: none may be served. The signed one is."""
    outcome = Outcome("bundles", [])
    public, signature = signed(place.folder / "publisher", model)
    expect(*place.node.ask("POST", "/v1/publishers", {"key": public}, "labs"))
    manifest = lambda name: {"apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": {"name": name}, "spec": {"source": {"onnx": "m.onnx"}}}  # noqa: E731
    status, said = place.node.ask("PUT", "/v1/uploads", model, "labs")
    whole = {"upload": json.loads(said)["id"], "manifest": manifest("whole"), "signature": signature}
    expect(*place.node.ask("POST", "/v1/deploys", whole, "labs"))
    chance, refused, codes = np.random.default_rng(8), 0, {}
    for n in range(number):
        changed = bytearray(model)
        kind = n % 4
        if kind == 0:
            for at in chance.integers(0, len(changed), 1 + n % 7):
                changed[at] ^= 1 << int(chance.integers(8))
        elif kind == 1:
            del changed[int(chance.integers(1, len(changed))) :]
        elif kind == 2:
            at = int(chance.integers(len(changed)))
            changed[at:at] = chance.bytes(int(chance.integers(1, 2_000)))
        else:
            one, other = sorted(chance.integers(0, len(changed), 2))
            changed[one:other] = changed[one:other][::-1]
        if bytes(changed) == model:
            changed[0] ^= 1
        status, said = place.node.ask("PUT", "/v1/uploads", bytes(changed), "labs")
        if status != 200:
            refused, codes[status] = refused + 1, codes.get(status, 0) + 1
            continue
        body = {"upload": json.loads(said)["id"], "manifest": manifest(f"m{n}"), "signature": signature}
        status, said = place.node.ask("POST", "/v1/deploys", body, "labs")
        if status != 200:
            code = json.loads(said).get("code", "?")
            refused, codes[code] = refused + 1, codes.get(code, 0) + 1
            continue
        codes["taken"] = codes.get("taken", 0) + 1
        place.node.ask("DELETE", f"/v1/models/m{n}", None, "labs")
    outcome.requests = outcome.runs = number
    outcome.gain = 1 - refused / number
    outcome.subjects = ["bundle:labs/"]
    place.say(f"bundles: {codes}")
    return outcome
