"""Ordinary callers of a node over HTTP: four hours of each model's, in minutes. Not a script."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from queue import SimpleQueue

import numpy as np

import benign
from wire import Wire

WORKERS = 10


class Town:
    """Everybody ordinary, again and again until it is stopped. `speed` is by how much time is faster than the clock."""

    def __init__(self, url: str, ca: str, victims: list, token, speed: float, seed: int) -> None:
        self.url, self.ca, self.speed = url, ca, speed
        self.names: list[str] = []
        self.rhythms: list[str] = []
        events = []
        for number, victim in enumerate(victims):
            times, callers, rows, rhythms = benign.ask(victim.benign, seed + number)
            base = len(self.names)
            for at, rhythm in enumerate(rhythms):
                self.names.append(f"{victim.name}-{rhythm}-{at}")
                self.rhythms.append(rhythm)
            expected = victim.predict(rows)
            events.append((times, callers + base, np.full(len(times), number), np.arange(len(times))))
            victim.asked, victim.expected = rows, expected
        self.victims = victims
        self.tokens = [token(name) for name in self.names]
        times, callers, models, places = (np.concatenate(parts) for parts in zip(*events))
        order = np.argsort(times, kind="stable")
        self.schedule = list(zip(times[order] / speed, callers[order], models[order], places[order]))
        self.sent, self.untouched, self.failed = Counter(), Counter(), Counter()
        self.touches: list[tuple[float, int, int, str]] = []
        self.stopping = threading.Event()
        self.done = 0

    @property
    def seconds(self) -> float:
        return float(self.schedule[-1][0])

    def start(self) -> None:
        self.began = time.monotonic()
        self._work: SimpleQueue = SimpleQueue()
        self._workers = [threading.Thread(target=self._run, daemon=True) for _ in range(WORKERS)]
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        for thread in (*self._workers, self._feeder):
            thread.start()

    def _feed(self) -> None:
        days = ((day, event) for day in itertools.count() for event in self.schedule)
        for day, event in days:
            wait = self.began + day * self.seconds + event[0] - time.monotonic()
            if self.stopping.wait(max(wait, 0)):
                break
            self._work.put(event)
        for _ in self._workers:
            self._work.put(None)

    def _run(self) -> None:
        wire = Wire(self.url, self.ca)
        while (event := self._work.get()) is not None:
            due, caller, model, place = event
            victim = self.victims[model]
            try:
                answer = wire.infer(victim.name, victim.asked[place : place + 1], self.tokens[caller])
            except OSError:
                self.failed[caller] += 1
                continue
            self.sent[caller] += 1
            whole = answer.status == 200 and np.allclose(answer.scores[0], victim.expected[place], atol=2e-3)
            if whole:
                self.untouched[caller] += 1
            elif answer.status == 200 or answer.is_restricted:
                self.touches.append((time.monotonic() - self.began, int(caller), answer.status, answer.code))
            else:
                self.failed[caller] += 1
            self.done += 1

    def stop(self) -> None:
        self.stopping.set()
        for thread in (self._feeder, *self._workers):
            thread.join(timeout=30)

    def figures(self) -> dict[str, float]:
        """Shares of requests and of callers that got all of what they asked for, and of the worst caller."""
        touched = Counter(caller for _, caller, _, _ in self.touches)
        sent = sum(self.sent.values())
        worst = min((1 - touched[caller] / self.sent[caller] for caller in self.sent), default=1.0)
        return {
            "benign_requests": sent,
            "benign_requests_untouched": 1 - sum(touched.values()) / max(sent, 1),
            "benign_callers_untouched": 1 - len(touched) / max(len(self.sent), 1),
            "worst_benign_caller": worst,
            "failed": sum(self.failed.values()),
        }

    def hurt(self) -> list[str]:
        """Who was touched, by its rhythm."""
        return sorted({self.names[caller] for _, caller, _, _ in self.touches})
