"""A process that the bench started, with all that descend from it: CPU, memory, pause, end.

Only these are ever signalled, by pid. Not a script.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

READY_SECONDS = 60
STOP_SECONDS = 20
# Given to children to clean up after their parent has ended.
ORPHAN_SECONDS = 3
# `utime` and `stime` of /proc/PID/stat are in these.
TICKS = os.sysconf("SC_CLK_TCK")
# Both, less than this share of one core, count as having nothing to do.
IDLE = 0.05
IDLE_SECONDS = 3


class Unmeasured(Exception):
    """Why a subject has no figures: it can't be had, does not start, or answers wrongly."""


class Process:
    """A running process; its output goes to a log."""

    def __init__(self, command: list[str], log: Path, **more: object) -> None:
        self.log = log
        with log.open("w") as out:
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **more
                )
            except OSError as error:
                raise Unmeasured(f"{command[0]} can't be started: {error.strerror}") from None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Waits until it is ready; ends it when it won't be."""
        end = time.monotonic() + READY_SECONDS
        try:
            while not ready():
                if self._process.poll() is not None:
                    raise Unmeasured(f"it ended with {self._process.returncode}: see {self.log}")
                if time.monotonic() > end:
                    raise Unmeasured(f"it was not ready after {READY_SECONDS} s: see {self.log}")
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def family(self) -> list[int]:
        """The process and all that descend from it."""
        return _family(self._process.pid)

    def cpu(self) -> float:
        """CPU seconds that its family has used, of processes that still live."""
        return sum(_cpu(pid) for pid in self.family())

    def megabytes(self) -> float:
        """Proportional set size of its family."""
        return sum(_megabytes(pid) for pid in self.family())

    def pause(self) -> None:
        """Stops the family where it stands."""
        _signal(self.family(), signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        _signal(self.family(), signal.SIGCONT)

    def stop(self) -> None:
        """Asks it to end, and kills and removes what its family leaves behind."""
        family = {pid: _born(pid) for pid in self.family()}
        shared = {path for pid in family for path in _shared(pid)}
        _signal(list(family), signal.SIGCONT)
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        end = time.monotonic() + ORPHAN_SECONDS
        while (left := _same(family)) and time.monotonic() < end:
            time.sleep(0.05)
        _signal(left, signal.SIGKILL)
        self._process.wait()
        for path in shared:
            path.unlink(missing_ok=True)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def run(command: list[str], what: str, seconds: float = 120, **more: object) -> str:
    """Runs a command to its end and gives its standard output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **more)
    except OSError as error:
        raise Unmeasured(f"{what}: {command[0]} can't be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unmeasured(f"{what}: it took more than {seconds} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Unmeasured(f"{what}: {last}")
    return done.stdout


def settle(processes: list[Process]) -> None:
    """Waits until they have nothing to do, or have had long enough."""
    end = time.monotonic() + IDLE_SECONDS
    before, spent = sum(process.cpu() for process in processes), 1.0
    while spent > IDLE and time.monotonic() < end:
        time.sleep(0.2)
        now = sum(process.cpu() for process in processes)
        before, spent = now, (now - before) / 0.2


def _family(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return [pid]
    children = {int(word) for text in lists for word in text.split()}
    return [pid, *(one for child in sorted(children) for one in _family(child))]


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat says after the name, which may hold anything; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _born(pid: int) -> str:
    """When a process began, in ticks; nothing when it has ended."""
    stat = _stat(pid)
    return stat[19] if stat and stat[0] != "Z" else ""


def _same(born: dict[int, str]) -> list[int]:
    """Those that still live: a pid may have been given to somebody else, born later."""
    return [pid for pid, when in born.items() if when and _born(pid) == when]


def _shared(pid: int) -> set[Path]:
    """The shared memory that it has mapped, which lasts until somebody removes it."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return set()
    return {Path(name) for name in re.findall(r"(/dev/shm/\S+)$", maps, re.MULTILINE)}


def _cpu(pid: int) -> float:
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / TICKS if stat else 0.0


def _megabytes(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
