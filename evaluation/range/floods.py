"""The range's floods: one caller asks by many connections as fast as it is answered, small requests or expensive ones. Not a script."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import numpy as np

from hostile import Outcome
from wire import Wire
from wrk import LONGEST_SECONDS, write_script

# Connections, and rows of a request.
KINDS = {"flood": (32, 1), "sponge": (2, 5_000)}
SECONDS = 10.0


def flood(place, victim, case: str) -> Outcome:
    """How many requests one caller is answered until it is held back."""
    outcome = Outcome(case, [])
    (token,), outcome.subjects = place.accounts.new(case)
    connections, rows = KINDS[case]
    generator = subprocess.Popen(
        ["wrk", "-t1", f"-c{connections}", f"-d{LONGEST_SECONDS}s", "-s", str(script(place, victim, rows, token)), f"{place.url}/v2/models/{victim.name}/infer"],
        stdout=subprocess.PIPE,
        text=True,
    )
    began, contained = time.monotonic(), None
    wire = Wire(place.url, place.ca)
    try:
        while contained is None and time.monotonic() - began < SECONDS:
            # Whether it is held back is asked by the same caller, beside its flood.
            if wire.infer(victim.name, victim.attacker[0][:1], token).is_restricted:
                contained = time.monotonic() - began
            time.sleep(0.01)
        generator.send_signal(signal.SIGINT)
        said, _ = generator.communicate(timeout=30)
    finally:
        generator.kill()
        wire.close()
    counted = json.loads(said[said.rindex("{") :])
    answered = counted["requests"] - counted["refused"]
    outcome.requests, outcome.runs = counted["requests"], 1
    outcome.contained = [(answered, contained)] if contained is not None else []
    outcome.gain, outcome.gain_unit = float(answered), "requests"
    return outcome


def script(place, victim, rows: int, token: str):
    body = np.tile(victim.attacker[0][:1], (rows, 1))
    tensor = {"name": "X", "shape": list(body.shape), "datatype": "FP32", "data": body.ravel().tolist()}
    asked = json.dumps({"inputs": [tensor], "outputs": [{"name": "probabilities"}]}).encode()
    place.folder.mkdir(parents=True, exist_ok=True)
    return write_script(place.folder, asked, {"authorization": f"Bearer {token}", "content-type": "application/json"})
