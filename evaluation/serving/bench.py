"""Measures Mantlet beside its peers: throughput, latency, CPU and memory, on the same two cores.

Run: python bench.py --mantlet BIN --onnxruntime LIB --out target/bench/serving.json [--quick]
[--only SUBJECT ...] [--cases CASE ...] [--rounds N] [--seconds S]

`python` is one that has testkit/python's requirements; `cargo xtask bench serving` brings all of
it. --cases are those that begin with the words given: `forest`, `image binary`, `image json c=64`.
Prints tables and writes them as JSON; exit 1 when Mantlet itself could not be measured. README.md
says who is measured, and how.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import environments
from environments import say
from process import Unmeasured
from questions import Question, questions
from report import Report
from subject import Settings, Started, Subject, Tools
from subjects import SUBJECTS

CORES = 2
ROUNDS = 3
SECONDS = 2
CONNECTIONS = (1, 16, 64)
QUICK_CONNECTIONS = (16,)
# What a sweep chooses for.
SWEEP_CONNECTIONS = 64
SWEEP_SECONDS = 1.0
# The most load average of a machine that does nothing else.
QUIET = 0.5


@dataclass
class Bench:
    """What to measure, and what has been."""

    tools: Tools
    work: Path
    cases: list[str]
    rounds: int
    seconds: float
    quick: bool
    report: Report

    def ask(self, question: Question, subjects: list[Subject]) -> None:
        """Starts everybody, and measures one after the other while the rest are paused."""
        cases = self.of(question)
        if not cases:
            return
        say(question.name)
        started: dict[str, Started] = {}
        try:
            for subject in subjects:
                if subject.model in (None, question.model.name):
                    self.enter(subject, question, started)
            for round_ in range(self.rounds):
                for connections in cases:
                    say(f"round {round_ + 1} of {self.rounds}: {question.name} c={connections}")
                    self.measure(question, connections, started)
        finally:
            for server in started.values():
                server.stop()

    def of(self, question: Question) -> list[int]:
        """The numbers of connections with which it is to be asked."""
        every = QUICK_CONNECTIONS if self.quick else CONNECTIONS
        return [
            connections
            for connections in every
            if any(begins(f"{question.name} c={connections}", words) for words in self.cases)
        ]

    def enter(self, subject: Subject, question: Question, started: dict[str, Started]) -> None:
        """Starts a subject as is best for it, and pauses it once it has answered rightly."""
        try:
            settings = self.sweep(subject, question)
            server = self.start(subject, question, settings)
        except Unmeasured as why:
            self.report.drop(question.name, subject.name, str(why))
            say(f"{subject.name}: not measured: {why}")
            return
        server.pause()
        started[subject.name] = server
        if settings:
            chosen = {"question": question.name, "subject": subject.name, "settings": settings}
            self.report.settings.append(chosen)

    def start(self, subject: Subject, question: Question, settings: Settings) -> Started:
        folder = self.work / f"{question.name} {subject.name}".replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        server = subject.start(self.tools, question, folder, settings)
        try:
            server.check()
        except BaseException:
            server.stop()
            raise
        return server

    def sweep(self, subject: Subject, question: Question) -> Settings:
        """The settings with the most requests/s: each is tried in turn, the best of it kept."""
        best = {name: values[0] for name, values in subject.choices.items()}
        if self.quick or not best:
            return best
        rate = self.rate(subject, question, best)
        for name, values in subject.choices.items():
            for value in values[1:]:
                tried = {**best, name: value}
                # A model that takes no batches, for one, does not start with them.
                with suppress(Unmeasured):
                    if (reached := self.rate(subject, question, tried)) > rate:
                        best, rate = tried, reached
        chosen = ", ".join(f"{name} {value}" for name, value in best.items())
        say(f"{subject.name}: best with {chosen}: {rate:.0f} requests/s")
        return best

    def rate(self, subject: Subject, question: Question, settings: Settings) -> float:
        """Requests/s with these settings."""
        server = self.start(subject, question, settings)
        try:
            return server.measure(SWEEP_CONNECTIONS, SWEEP_SECONDS).requests_per_s
        finally:
            server.stop()

    def measure(self, question: Question, connections: int, started: dict[str, Started]) -> None:
        """One round of one case; who fails is out."""
        for name, server in list(started.items()):
            server.resume()
            try:
                sample = server.measure(connections, self.seconds)
            except Unmeasured as why:
                self.report.drop(question.name, name, str(why))
                say(f"{name}: failed: {why}")
                started.pop(name).stop()
                continue
            server.pause()
            self.report.add(f"{question.name} c={connections}", name, sample)


def begins(case: str, words: str) -> bool:
    """Whether a case begins with these words, all of them whole."""
    return f"{case} ".startswith(f"{words} ".lstrip())


def pin() -> None:
    """Keeps this process, and all that it starts, on the same cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def main() -> None:
    names = [subject.name for subject in SUBJECTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", required=True, help="the binary, built for release")
    parser.add_argument("--onnxruntime", required=True, help="ONNX Runtime's library")
    parser.add_argument(
        "--out", type=Path, required=True, help="the result; all else lies beside it"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round, no sweep: does it run?"
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SUBJECT")
    parser.add_argument("--cases", nargs="+", default=[""], metavar="CASE", help="how cases begin")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each measurement")
    arguments = parser.parse_args()

    # So that whatever was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin, out = time.monotonic(), arguments.out.resolve()
    report = Report()
    if report.load > QUIET:
        say(f"load is {report.load:.1f}: other work runs here, and the figures are not valid")
    pin()
    work = out.parent / "work"
    work.mkdir(parents=True, exist_ok=True)
    subjects = [subject for subject in SUBJECTS if subject.name in arguments.only]
    needed = [name for subject in subjects for name in subject.needs]
    programs, faults = environments.prepare(needed, out.parent)
    mantlet = str(Path(arguments.mantlet).resolve())
    bench = Bench(
        tools=Tools(mantlet, str(Path(arguments.onnxruntime).resolve()), programs, faults),
        work=work,
        cases=arguments.cases,
        rounds=arguments.rounds or (1 if arguments.quick else ROUNDS),
        seconds=arguments.seconds or (1 if arguments.quick else SECONDS),
        quick=arguments.quick,
        report=report,
    )
    for question in questions(work):
        bench.ask(question, subjects)
    report.write(out)
    report.show()
    print(f"\n{out}, after {(time.monotonic() - begin) / 60:.0f} minutes")
    raise SystemExit(0 if report.sound() else 1)


if __name__ == "__main__":
    main()
