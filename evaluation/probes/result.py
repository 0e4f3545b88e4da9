"""What a probe found, and the table of all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One row: which probe, what was sent, what came of it, and whether that is how it should be."""

    probe: str
    sent: str
    outcome: str
    ok: bool


def print_rows(results: list[Result]) -> None:
    """Prints results as rows of a Markdown table, as soon as they are there."""
    for result in results:
        cells = (result.probe, result.sent, result.outcome, "ok" if result.ok else "**FAILED**")
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", flush=True)


def print_head() -> None:
    """Prints the table's head."""
    print("| probe | sent | outcome | ok |\n|---|---|---|---|", flush=True)
