"""Keeps every round's figures, and writes them as JSON and as tables. Not a script."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime

from goals import GOALS
from server import Sample
from subjects import MANTLET

UNITS = {
    "requests_per_s": "1/s",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "cpu_ms_per_request": "ms",
    "peak_mb": "MB",
    "generator_cpu_ms_per_request": "ms",
}


@dataclass
class Report:
    """Samples by case and subject; what was not measured, and why; what sweeps chose."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    missing: list[dict[str, str]] = field(default_factory=list)
    settings: list[dict] = field(default_factory=list)
    # What else the machine did when it began.
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def add(self, case: str, subject: str, sample: Sample) -> None:
        """One round's figures."""
        self.samples.setdefault(case, {}).setdefault(subject, []).append(sample)

    def drop(self, question: str, subject: str, why: str) -> None:
        """A subject that failed once has no figures for this question."""
        self.missing.append({"question": question, "subject": subject, "why": why})
        for case, subjects in self.samples.items():
            if case.startswith(f"{question} c="):
                subjects.pop(subject, None)

    def sound(self) -> bool:
        """Whether Mantlet itself was measured wherever it was asked."""
        return not any(entry["subject"].startswith(MANTLET) for entry in self.missing)

    def figures(self) -> list[dict]:
        """Medians over rounds, with the lowest and the highest."""
        return [
            {"case": case, "subject": subject, "metric": metric, **spread(values), "unit": unit}
            for case, subjects in self.samples.items()
            for subject, samples in subjects.items()
            for metric, unit in UNITS.items()
            for values in [[getattr(sample, metric) for sample in samples]]
        ]

    def ratios(self) -> list[dict]:
        """Mantlet against whom it is held against; without a value where one has no figures."""
        found = []
        for case, subjects in self.samples.items():
            question, _, connections = case.rpartition(" c=")
            for goal in GOALS:
                if not goal.holds_for(question, int(connections)):
                    continue
                judged = {"value": None, "worst": None, "goal": goal.goal, "met": None}
                if MANTLET in subjects and goal.peer in subjects:
                    own, peer = (
                        [getattr(sample, goal.metric) for sample in subjects[name]]
                        for name in (MANTLET, goal.peer)
                    )
                    judged = goal.judge(own, peer)
                found.append({"case": case, "name": goal.name, **judged})
        return found

    def write(self, out: Path) -> None:
        """The file that other programs read."""
        content = {
            "machine": {**machine(), "load_before": self.load},
            "figures": self.figures(),
            "ratios": self.ratios(),
            "not_measured": self.missing,
            "settings": self.settings,
        }
        out.write_text(json.dumps(content, indent=1) + "\n")

    def show(self) -> None:
        """The tables that people read."""
        print()
        print_row("case", "subject", *UNITS)
        print("|---|---|" + "---:|" * len(UNITS))
        for case, subjects in self.samples.items():
            for subject, samples in subjects.items():
                values = ([getattr(sample, metric) for sample in samples] for metric in UNITS)
                print_row(case, subject, *(shown(spread(each)) for each in values))
        print()
        print_row("case", "mantlet's", "median", "worst round", "goal", "met")
        print("|---|---|---:|---:|---|---|")
        for ratio in self.ratios():
            numbers = (number(ratio[key]) for key in ("value", "worst"))
            met = {True: "yes", False: "**no**", None: "not measured"}[ratio["met"]]
            print_row(ratio["case"], ratio["name"], *numbers, ratio["goal"], met)
        for entry in self.missing:
            print(f"{entry['subject']}: not measured: {entry['question']}: {entry['why']}")


def print_row(*cells: str) -> None:
    """Prints a row of a Markdown table."""
    print("| " + " | ".join(cells) + " |")


def spread(values: list[float]) -> dict[str, float]:
    """The median, and how far rounds lie apart."""
    return {"value": statistics.median(values), "low": min(values), "high": max(values)}


def shown(spread: dict[str, float]) -> str:
    return f"{number(spread['value'])} ({number(spread['low'])}–{number(spread['high'])})"


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "—"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict:
    """What the figures hold for."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores_used": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "onnxruntime": onnxruntime.__version__,
    }
