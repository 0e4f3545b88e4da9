"""Ordinary callers of a model, by their rhythms: who asks which row when. Not a script."""

from __future__ import annotations

import numpy as np

SECONDS = 4 * 3_600
# How many callers have which rhythm.
CALLERS = {"steady": 16, "sensor": 8, "cron": 4, "retries": 6, "nat": 3, "video": 4, "batch": 1, "newcomer": 6, "what-if": 2}
RHYTHMS = list(CALLERS)


def ask(pool: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Times, callers and rows, in order of time, and each caller's rhythm. Rows of `pool` are in order of arrival."""
    chance = np.random.default_rng(seed)
    events, rhythms = [], []
    for rhythm, number in CALLERS.items():
        for _ in range(number):
            times, rows = globals()[rhythm.replace("-", "_")](pool, chance)
            events.append((times, np.full(len(times), len(rhythms)), rows))
            rhythms.append(rhythm)
    times, callers, rows = (np.concatenate(parts) for parts in zip(*events))
    order = np.argsort(times, kind="stable")
    return times[order], callers[order].astype(np.uint32), rows[order].astype(np.float32), rhythms


def arrivals(rate: float, chance, begin: float = 0.0, end: float = SECONDS) -> np.ndarray:
    return np.sort(chance.uniform(begin, end, chance.poisson(rate * (end - begin))))


def piece(pool: np.ndarray, number: int, chance) -> np.ndarray:
    """Rows that follow each other, from somewhere; from the start again after the end."""
    return pool[(chance.integers(len(pool)) + np.arange(number)) % len(pool)]


def steady(pool, chance):
    times = arrivals(chance.uniform(0.01, 0.06), chance)
    return times, chance.permutation(piece(pool, max(len(times), len(pool) // 3), chance))[: len(times)]


def sensor(pool, chance):
    times = chance.uniform(0, 2) + np.arange(0, SECONDS, chance.choice([10.0, 20.0, 30.0]))
    return times, piece(pool, len(times), chance)


def cron(pool, chance):
    rows = piece(pool, int(chance.integers(20, 60)), chance)
    starts = np.arange(chance.uniform(0, 600), SECONDS, 900.0)
    return np.concatenate([start + np.arange(len(rows)) / 20 for start in starts]), np.tile(rows, (len(starts), 1))


def retries(pool, chance):
    times, rows = steady(pool, chance)
    again = np.where(chance.uniform(size=len(times)) < 0.2, chance.integers(1, 4, len(times)), 0)
    late = np.concatenate([time + 0.2 * np.arange(n + 1) ** 2 for time, n in zip(times, again)])
    return late, np.repeat(rows, again + 1, axis=0)


def nat(pool, chance):
    parts = [maker(pool, chance) for maker in (steady, sensor, retries, steady)]
    return np.concatenate([times for times, _ in parts]), np.concatenate([rows for _, rows in parts])


def video(pool, chance):
    """Frames: a row with a little noise in the columns that are not flags, five a second for eight seconds, every few minutes."""
    spread = np.nan_to_num(pool.std(axis=0)) * (np.array([len(np.unique(column[:500])) for column in pool.T]) > 8)
    whole = np.all(pool == np.round(pool), axis=0)
    times, rows = [], []
    for start in arrivals(1 / 400, chance):
        noise = chance.normal(size=(40, pool.shape[1])) * spread * chance.uniform(0.005, 0.05)
        times.append(start + np.arange(40) / 5)
        frames = pool[chance.integers(len(pool))] + noise
        rows.append(np.where(whole, np.round(frames), frames))
    return (np.concatenate(times), np.concatenate(rows)) if times else (np.zeros(0), pool[:0])


def batch(pool, chance):
    start = chance.uniform(SECONDS / 2, 3 * SECONDS / 4)
    return start + np.arange(3_000) / 50, piece(pool, 3_000, chance)


def newcomer(pool, chance):
    times = arrivals(0.1, chance, begin := chance.uniform(SECONDS / 2, SECONDS - 600), begin + 300)
    return times, piece(pool, max(len(times), len(pool) // 3), chance)[: len(times)]


def what_if(pool, chance):
    """A person who changes one column of a row to other natural values, by and by."""
    times, rows = [], []
    for start in arrivals(1 / 900, chance):
        row, column = pool[chance.integers(len(pool))], chance.integers(pool.shape[1])
        made = np.repeat(row[None], 8, axis=0)
        made[1:, column] = pool[chance.integers(len(pool), size=7), column]
        times.append(start + np.arange(8) * 3.0)
        rows.append(made)
    return (np.concatenate(times), np.concatenate(rows)) if times else (np.zeros(0), pool[:0])
