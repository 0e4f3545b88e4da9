"""A fleet of lorries whose engines wear out, simulated from a seed: what learn.py asks about.

Not a script. Each week every lorry's engine wears by its own pace and by its load, and the sensors show it through noise. An
engine that is worn out is replaced. From half-way on all lorries burn another fuel, which no sensor names: engines wear half as
fast again, run cooler, shed fewer particles and shake more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WEEKS = 800
ENGINES = 50
CHANGE = WEEKS // 2
# After so many weeks more, every engine that was asked about is worn out, so all that was right is known.
TAIL = 300

COLUMNS = ("age", "load", "ambient", "exhaust", "coolant", "oil_pressure", "vibration", "particles", "fuel_flow")


@dataclass(frozen=True)
class Fleet:
    """What was measured and what became of it."""

    # Of each column, [week, engine].
    sensors: dict[str, np.ndarray]
    # Weeks that the engine still ran, [week, engine].
    left: np.ndarray


def simulate(seed: int) -> Fleet:
    """The whole stream: the same for the same seed."""
    rng = np.random.default_rng(seed)
    weeks = WEEKS + TAIL
    sensors = {name: np.zeros((weeks, ENGINES), dtype=np.float32) for name in COLUMNS}
    ended = np.zeros((weeks, ENGINES), dtype=bool)
    wear, age, pace = rng.uniform(0, 0.9, ENGINES), rng.integers(0, 50, ENGINES), paces(rng, ENGINES)
    for week in range(weeks):
        load, fuel = rng.uniform(0.3, 1, ENGINES), float(week >= CHANGE)
        ambient = rng.normal(12, 8, ENGINES)
        for name, values in measure(rng, wear, load, ambient, fuel).items():
            sensors[name][week] = values
        sensors["age"][week] = age
        wear, age = wear + pace * (0.5 + load) * (1 + 0.5 * fuel), age + 1
        ended[week] = wear >= 1
        new = int(ended[week].sum())
        wear[ended[week]], age[ended[week]], pace[ended[week]] = rng.uniform(0, 0.1, new), 0, paces(rng, new)
    left = np.zeros((weeks + 1, ENGINES))
    for week in reversed(range(weeks)):
        left[week] = np.where(ended[week], 0, left[week + 1] + 1)
    return Fleet({name: values[:WEEKS] for name, values in sensors.items()}, left[:WEEKS])


def paces(rng: np.random.Generator, count: int) -> np.ndarray:
    """Wear of a week at a load of a half: an engine lives for some 50 weeks, now and then for half or twice as long."""
    return rng.lognormal(np.log(1 / 60), 0.35, count)


def measure(
    rng: np.random.Generator, wear: np.ndarray, load: np.ndarray, ambient: np.ndarray, fuel: float
) -> dict[str, np.ndarray]:
    """What the sensors say of engines so worn: each says a little, none all."""

    def noise(spread: float) -> np.ndarray:
        return rng.normal(0, spread, len(wear))

    return {
        "load": load,
        "ambient": ambient,
        "exhaust": 350 + 180 * load + 0.8 * ambient + 70 * wear - 45 * fuel + noise(12),
        "coolant": 78 + 8 * load + 0.2 * ambient + 9 * wear**2 - 3 * fuel + noise(1.5),
        "oil_pressure": 4.5 + 0.6 * load - 1.2 * wear + noise(0.2),
        "vibration": 1 + 0.8 * load + 2 * wear**3 + 0.5 * fuel + noise(0.25),
        "particles": np.exp(1 + 2 * wear - 0.7 * fuel + noise(0.3)),
        "fuel_flow": 10 + 25 * load * (1 + 0.1 * wear) + noise(1),
    }
