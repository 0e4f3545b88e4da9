"""What a probe found, and the table of all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One row: which probe, what was sent, what came of it, and whether that is right."""

    probe: str
    sent: str
    outcome: str
    ok: bool


def print_head() -> None:
    """Prints the head of a Markdown table."""
    print("| probe | sent | outcome | ok |\n|---|---|---|---|", flush=True)


def print_row(result: Result) -> None:
    """Prints a row of it."""
    cells = (result.probe, result.sent, result.outcome, "ok" if result.ok else "**FAILED**")
    print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", flush=True)
