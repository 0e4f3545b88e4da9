"""What Mantlet is held to, round by round. Not a script."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from subjects import BARE, IN_PROCESS, LITSERVE, MLSERVER, NGINX, OPEN, TRITON, UNWATCHED

FOREST, IMAGE, DETECTOR = "forest json", "image json", "detector binary"
SLOW = ("detector binary", "magika binary")
EVERY = ("forest json", "image json", "image binary", "detector binary", "magika binary")


@dataclass(frozen=True)
class Goal:
    """A figure of Mantlet's against the same of another subject."""

    questions: tuple[str, ...]
    peer: str
    metric: str
    bound: float
    least: bool = True
    difference: bool = False
    # For these numbers of connections; all when there are none.
    connections: tuple[int, ...] = ()

    def holds_for(self, question: str, connections: int) -> bool:
        """Whether this case is judged by it."""
        return question in self.questions and connections in (self.connections or (connections,))

    @property
    def name(self) -> str:
        return f"{self.metric} {'-' if self.difference else '/'} {self.peer}"

    @property
    def goal(self) -> str:
        return f"{'>=' if self.least else '<='} {self.bound:g}{' ms' if self.difference else ''}"

    def judge(self, own: list[float], peer: list[float]) -> dict:
        """The median over rounds, and whether the worse round met the goal."""
        compare: Callable[[float, float], float] = (
            (lambda a, b: a - b) if self.difference else (lambda a, b: a / b)
        )
        rounds = [compare(mine, theirs) for mine, theirs in zip(own, peer, strict=True)]
        worst = min(rounds) if self.least else max(rounds)
        met = worst >= self.bound if self.least else worst <= self.bound
        return {"value": statistics.median(rounds), "worst": worst, "goal": self.goal, "met": met}


THROUGHPUT, P50, P99 = "requests_per_s", "p50_ms", "p99_ms"

GOALS = [
    Goal((FOREST,), TRITON, THROUGHPUT, 5),
    Goal((IMAGE,), TRITON, THROUGHPUT, 2),
    Goal((FOREST,), BARE, THROUGHPUT, 0.5),
    Goal((FOREST,), NGINX, THROUGHPUT, 0.5),
    Goal((DETECTOR,), IN_PROCESS, THROUGHPUT, 0.8),
    Goal((FOREST,), OPEN, THROUGHPUT, 0.8),
    Goal(EVERY[1:], OPEN, THROUGHPUT, 0.95),
    # Looking for attackers, where a model takes a millisecond or more.
    Goal(SLOW, UNWATCHED, THROUGHPUT, 0.98),
    Goal(SLOW, UNWATCHED, P50, 0.3, least=False, difference=True, connections=(1,)),
    # More connections than cores make a queue, whose length, not the request, sets the median.
    Goal(EVERY, OPEN, P50, 1, least=False, difference=True, connections=(1,)),
    *(Goal(EVERY, peer, P99, 1, least=False) for peer in (TRITON, MLSERVER, LITSERVE)),
]
