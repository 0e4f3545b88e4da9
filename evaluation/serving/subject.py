"""What a subject is, and what subjects are started from. Not a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from process import Unmeasured
from questions import Question
from server import Sample

Settings = dict[str, int]


@dataclass(frozen=True)
class Tools:
    """Programs; those that can't be had stand in `faults`, with the reason."""

    mantlet: str
    onnxruntime: str
    programs: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def program(self, name: str) -> str:
        """The path of a program that the bench made or found."""
        if fault := self.faults.get(name):
            raise Unmeasured(fault)
        return self.programs[name]


class Started(Protocol):
    """A subject that runs."""

    def check(self) -> None:
        """Raises `Unmeasured` unless it answers as ONNX Runtime does."""

    def measure(self, connections: int, seconds: float) -> Sample: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Subject:
    """A way to get questions answered."""

    name: str
    start: Callable[[Tools, Question, Path, Settings], Started]
    # What the sweep tries, one setting after the other; it begins with the first of each.
    choices: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # Asked nothing else, where it stands in for a part and not for a model server.
    model: str | None = None
    needs: tuple[str, ...] = ()
