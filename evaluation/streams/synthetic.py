"""Streams made by formulas, with drifts at known places: SEA, Agrawal, LED, RBF, hyperplane. Not a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROWS = 40_000
# The concept changes after each quarter, or all the time.
QUARTER = ROWS // 4


def write(folder: Path) -> list[Path]:
    """Writes each stream as CSV, once, and gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, make in MAKERS.items():
        path = folder / f"{name}.csv"
        if not path.exists():
            features, labels = make(np.random.default_rng(11))
            header = ",".join([*(f"x{n}" for n in range(features.shape[1])), "label"])
            rows = np.column_stack([features, labels])
            np.savetxt(path, rows, fmt=["%.6g"] * features.shape[1] + ["%d"], delimiter=",", header=header, comments="")
        made.append(path)
    return made


def quarters() -> Iterator[tuple[int, slice]]:
    for number in range(4):
        yield number, slice(number * QUARTER, (number + 1) * QUARTER)


def noisy(labels: np.ndarray, classes: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Labels of which a share is drawn anew."""
    changed = rng.random(len(labels)) < share
    return np.where(changed, rng.integers(0, classes, len(labels)), labels)


def sea(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Street and Kim (KDD 2001): x0 + x1 against a threshold that changes; x2 says nothing."""
    features = rng.random((ROWS, 3)) * 10
    labels = np.zeros(ROWS, dtype=int)
    for number, part in quarters():
        labels[part] = features[part, :2].sum(axis=1) <= (8.0, 9.0, 7.0, 9.5)[number]
    return features, noisy(labels, 2, 0.1, rng)


def agrawal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Agrawal, Imielinski and Swami (TKDE 1993): loans, by their functions 1, 3, 4 and 7 in turn."""
    salary = rng.uniform(20_000, 150_000, ROWS)
    commission = np.where(salary >= 75_000, 0, rng.uniform(10_000, 75_000, ROWS))
    age = rng.integers(20, 81, ROWS)
    education = rng.integers(0, 5, ROWS)
    car, zipcode = rng.integers(1, 21, ROWS), rng.integers(0, 9, ROWS)
    house = (9 - zipcode) * 100_000 * rng.uniform(0.5, 1.5, ROWS)
    years, loan = rng.integers(1, 31, ROWS), rng.uniform(0, 500_000, ROWS)
    features = np.column_stack([salary, commission, age, education, car, zipcode, house, years, loan])
    young, old = age < 40, age >= 60
    by = [
        young | old,
        (young & (education <= 1)) | (~young & ~old & (education >= 1) & (education <= 3)) | (old & (education >= 2)),
        np.where(
            young,
            np.where(education <= 1, (salary >= 25_000) & (salary <= 75_000), (salary >= 50_000) & (salary <= 100_000)),
            np.where(
                ~old,
                np.where(
                    (education >= 1) & (education <= 3),
                    (salary >= 50_000) & (salary <= 100_000),
                    (salary >= 75_000) & (salary <= 125_000),
                ),
                np.where(education >= 2, (salary >= 50_000) & (salary <= 100_000), (salary >= 25_000) & (salary <= 75_000)),
            ),
        ),
        2 * (salary + commission) / 3 - loan / 5 - 20_000 > 0,
    ]
    labels = np.zeros(ROWS, dtype=int)
    for number, part in quarters():
        labels[part] = by[number][part]
    return features, noisy(labels, 2, 0.1, rng)


SEGMENTS = np.array([
    [1, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1, 1], [0, 1, 1, 1, 0, 1, 0],
    [1, 1, 0, 1, 0, 1, 1], [1, 1, 0, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 1, 1],
])


def led(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Breiman and others (1984): the digit on a display of seven segments, one in ten wrong, among 24 columns that change
    places."""
    labels = rng.integers(0, 10, ROWS)
    segments = SEGMENTS[labels] ^ (rng.random((ROWS, 7)) < 0.1)
    columns = np.column_stack([segments, rng.integers(0, 2, (ROWS, 17))])
    features = np.empty_like(columns)
    order = np.arange(24)
    for _, part in quarters():
        features[part] = columns[part][:, order]
        order = rng.permutation(24)
    return features.astype(float), labels


def rbf(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bifet and others (KDD 2009): 50 moving centres in ten dimensions, five classes."""
    centres, classes = rng.random((50, 10)), rng.integers(0, 5, 50)
    spread, weights = rng.random(50) * 0.3, rng.random(50)
    direction = rng.normal(size=(50, 10))
    direction *= 1e-4 / np.linalg.norm(direction, axis=1, keepdims=True)
    chosen = rng.choice(50, ROWS, p=weights / weights.sum())
    features = np.empty((ROWS, 10))
    for row in range(ROWS):
        centres += direction
        outside = (centres < 0) | (centres > 1)
        direction[outside] *= -1
        offset = rng.normal(size=10)
        features[row] = centres[chosen[row]] + spread[chosen[row]] * rng.normal() * offset / np.linalg.norm(offset)
    return features, classes[chosen]


def hyperplane(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hulten, Spencer and Domingos (KDD 2001): a plane in ten dimensions that turns."""
    features, weights = rng.random((ROWS, 10)), rng.random(10)
    direction = rng.choice([-1.0, 1.0], 10)
    labels = np.empty(ROWS, dtype=int)
    for row in range(ROWS):
        labels[row] = features[row] @ weights >= weights.sum() / 2
        weights += direction * 1e-3
        direction = np.where(rng.random(10) < 0.1, -direction, direction)
    return features, noisy(labels, 2, 0.05, rng)


MAKERS = {
    "synthetic_sea": sea,
    "synthetic_agrawal": agrawal,
    "synthetic_led": led,
    "synthetic_rbf": rbf,
    "synthetic_hyperplane": hyperplane,
}
