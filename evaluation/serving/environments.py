"""Finds or makes what subjects are started from, and notes what can't be had. Not a script.

Everything that is made lies in the folder of the result: a virtual environment for each Python
peer, and the bare Rust program. A digest remembers from what, so that a second run makes nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from process import Unmeasured, run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Triton's Python backend is linked against Debian's libpython3.11; the others run on it as well.
PYTHON = "/usr/bin/python3.11"
INSTALL_SECONDS = 1200
BUILD_SECONDS = 1200
# Where Debian keeps servers, which is not on everybody's search path.
SERVERS = "/usr/sbin"

Programs = dict[str, str]


def prepare(names: Iterable[str], folder: Path) -> tuple[Programs, Programs]:
    """The programs of these names, and why others can't be had."""
    programs, faults = {}, {}
    for name in sorted(set(names)):
        try:
            programs[name] = maker(name)(name, folder)
        except Unmeasured as fault:
            faults[name] = str(fault)
    return programs, faults


def maker(name: str) -> Callable[[str, Path], str]:
    """How a program comes to be."""
    if name.startswith("venv-"):
        return venv
    return bare if name == "bare" else found


def found(name: str, _: Path) -> str:
    """A program of the system."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SERVERS}")
    if path is None:
        raise Unmeasured(f"{name} is not installed")
    return path


def venv(name: str, folder: Path) -> str:
    """The Python of a peer's virtual environment."""
    peer = name.removeprefix("venv-")
    return venv_of(peer, HERE / f"requirements-{peer}.txt", folder)


def venv_of(name: str, requirements: Path, folder: Path) -> str:
    """The Python of a virtual environment with pinned packages."""
    home = folder / f"venv-{name}"
    python, mark = home / "bin" / "python", home / "made-from"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == digest:
        return str(python)
    say(f"{home.name}: virtual environment by {PYTHON}, packages of {requirements.name}")
    if home.exists():
        shutil.rmtree(home)
    run([PYTHON, "-m", "venv", str(home)], "its virtual environment")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    run([*pip, "-r", str(requirements)], "its packages", INSTALL_SECONDS)
    mark.write_text(digest)
    return str(python)


def bare(name: str, folder: Path) -> str:
    """The bare program."""
    return build(HERE / name, folder / name)


def build(source: Path, target: Path) -> str:
    """The program in this folder, which is called like it, of the versions that the product is built of."""
    name = source.name
    say(f"{name}: cargo build --release, into {target.name}/")
    shutil.copy(ROOT / "Cargo.lock", source / "Cargo.lock")
    cargo = os.environ.get("CARGO", "cargo")
    # Its code is the same everywhere; flags and folders of other builds are not meant for it.
    environment = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    command = [cargo, "build", "--release", "--quiet", "--target-dir", str(target)]
    run(command, "its build", BUILD_SECONDS, cwd=source, env=environment)
    return str(target / "release" / name)


def say(what: str) -> None:
    """Progress, for whoever waits."""
    print(f"==> {what}", file=sys.stderr, flush=True)
