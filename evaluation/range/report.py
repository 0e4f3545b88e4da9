"""The page and the plots of the range. Not a script."""

from __future__ import annotations

from pathlib import Path

import plot

# The order in which a reader looks.
GROUPS = ("extraction", "evasion", "membership", "injection", "scan", "flood", "sponge", "slow", "poison", "bundles")


def write(folder: Path, said: dict) -> None:
    """Writes `range.md` and its plots, out of what the bench found."""
    folder.mkdir(parents=True, exist_ok=True)
    at = {(row["case"], row["metric"], row["subject"]): row["value"] for row in said["figures"]}
    cases = list(dict.fromkeys(row["case"] for row in said["figures"]))
    lines = [
        "# The range",
        "",
        "Made by `cargo xtask bench range -- --docs docs/benchmarks`; [who attacks how](../../evaluation/range/README.md). Each attack with the",
        "sentinel off, by rules alone, and on. Requests and seconds are those until the attacker was first held back (the 95th percentile",
        "where there are several). What an attacker gains is a copy's fidelity over a majority guesser, the share of targets reached, members",
        "found at 1 % false ones, the share of hostile requests that were answered, requests, the share of a bystander's that were lost, or accuracy lost.",
        "",
        f"Measured on {said['machine']}.",
        "",
    ]
    for group in GROUPS:
        of = [case for case in cases if case.startswith(group)]
        if not of:
            continue
        lines += [f"## {group}", "", "| attack | gain, off | rules | on | held back, rules | on | requests before, on | seconds before, on |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
        for case in of:
            value = lambda metric, arm, case=case: said_as(at.get((case, metric, arm)))  # noqa: E731
            gains = " | ".join(value("attacker_gain", arm) for arm in ("off", "rules", "on"))
            held = " | ".join(value("contained", arm) for arm in ("rules", "on"))
            before = " | ".join(value(metric, "on") for metric in ("requests_to_containment", "seconds_to_containment"))
            lines.append(f"| `{case}` | {gains} | {held} | {before} |")
        lines.append("")
    lines += ["## Ordinary callers", "", "| | off | rules | on |", "|---|---:|---:|---:|"]
    for metric in ("benign_requests", "benign_requests_untouched", "benign_callers_untouched", "worst_benign_caller", "failed"):
        lines.append(f"| {metric.replace('_', ' ')} | " + " | ".join(said_as(at.get(("benign", metric, arm))) for arm in ("off", "rules", "on")) + " |")
    lines += ["", "## Goals", "", "| case | goal | value | asked | met |", "|---|---|---:|---|---|"]
    for row in said["ratios"]:
        lines.append(f"| `{row['case']}` | {row['name']} | {row['value']:g} | {row['goal']} | {'yes' if row['met'] else '**no**'} |")
    (folder / "range.md").write_text("\n".join([*lines, ""]))
    for group in ("extraction", "evasion"):
        of = [case for case in cases if case.startswith(group)]
        series = {
            arm: [(float(number + 1), at[case, "attacker_gain", arm]) for number, case in enumerate(of) if (case, "attacker_gain", arm) in at]
            for arm in ("off", "rules", "on")
        }
        if any(series.values()):
            plot.lines(folder / f"range-{group}.svg", f"{group}: what each attack gains, in the order of the table", {arm: points for arm, points in series.items() if points})


def said_as(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
