"""Plots as SVG: lines over numbers, and named points. Not a script."""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 400, 70, 40, 40, 50
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bc4c00", "#0969da")

Points = list[tuple[float, float]]


def lines(path: Path, title: str, series: dict[str, Points], *, log_x: bool = False) -> None:
    """Writes a plot with one line for each series, the vertical axis from zero."""
    every = [point for points in series.values() for point in points]
    scale = math.log10 if log_x else float
    low, high = min(scale(x) for x, _ in every), max(scale(x) for x, _ in every)
    most = nice(max(y for _, y in every))
    across = lambda x: LEFT + (scale(x) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    up = lambda y: HEIGHT - BOTTOM - y / (most or 1) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    parts = head(title)
    for step in range(5):
        y = most * step / 4
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in marks(sorted({x for x, _ in every}), log_x):
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,g}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        where = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 32:
            parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{LEFT + 8 + 110 * number}" y="{HEIGHT - 10}" fill="{colour}">{escape(name)}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def points(path: Path, title: str, named: dict[str, tuple[float, float]], *, low: float, high: float) -> None:
    """Writes a plot with one named point each; across by its logarithm, upwards from `low` to `high`."""
    left, right = (bound(math.log10(x) for x, _ in named.values()) for bound in (min, max))
    left, right = math.floor(left), math.ceil(right + 0.3)
    across = lambda x: LEFT + (math.log10(x) - left) / (right - left) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    up = lambda y: HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    parts = head(title)
    for step in range(5):
        y = low + (high - low) * step / 4
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    for power in range(left, right + 1):
        parts.append(f'<text x="{across(10**power):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**power:,}</text>')
    for number, (name, (x, y)) in enumerate(named.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{across(x) + 7:.1f}" y="{up(y) + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def bars(path: Path, title: str, named: dict[str, float]) -> None:
    """Writes a plot with a bar each, from a line at one, by its logarithm: to the right where it is more."""
    row, left = 22, 330
    height = TOP + row * len(named) + 30
    most = max(0.3, *(abs(math.log2(max(value, 1e-3))) for value in named.values()))
    across = lambda value: left + 150 + math.log2(max(value, 1e-3)) / most * 150  # noqa: E731
    parts = [line.replace(str(HEIGHT), str(height)) for line in head(title)]
    parts.append(f'<line x1="{across(1)}" x2="{across(1)}" y1="{TOP - 6}" y2="{height - 24}" stroke="#57606a"/>')
    for number, (name, value) in enumerate(named.items()):
        y, x = TOP + row * number, across(value)
        colour = COLOURS[2] if value >= 1 else COLOURS[1]
        parts.append(f'<text x="{left}" y="{y + 12}" text-anchor="end" font-size="10">{escape(name)}</text>')
        parts.append(f'<rect x="{min(x, across(1)):.1f}" y="{y + 2}" width="{abs(x - across(1)):.1f}" height="{row - 8}" fill="{colour}"/>')
        parts.append(f'<text x="{max(x, across(1)) + 4:.1f}" y="{y + 12}" font-size="10">{value:.2f} ×</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def head(title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]


def nice(value: float) -> float:
    """A round number that is not below this one."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= value * 0.999999)


def marks(values: list[float], log_x: bool) -> list[float]:
    """Where the horizontal axis is marked: at every value where they are few."""
    if len(values) <= 8 or log_x:
        return values[:: max(1, len(values) // 8)]
    low, high = values[0], values[-1]
    return [low + (high - low) * step / 5 for step in range(6)]
