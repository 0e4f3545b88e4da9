"""Attacks on a model that one may only ask: extraction, evasion, membership inference. Not a script.

Each takes a `Door`, through which rows go out and scores come back, so that the same attack runs against a model in this
process (lab.py) or a node over HTTP. The attacks are those of the Adversarial Robustness Toolbox (Nicolae et al. 2018),
unmodified, but for those named «ours».
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from art.attacks.evasion import BoundaryAttack, HopSkipJump, SquareAttack
from art.attacks.extraction import CopycatCNN, KnockoffNets
from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
from art.estimators.classification import BlackBoxClassifier, BlackBoxClassifierNeuralNetwork
from art.estimators.classification.scikitlearn import ScikitlearnClassifier
from sklearn.base import BaseEstimator, clone

Rows = np.ndarray
Predict = Callable[[Rows], np.ndarray]


class Spent(Exception):
    """The attacker has no queries left."""


class Door:
    """What an attacker sees of a model: rows in its own unit (each column from 0 to 1) go out, scores come back.

    `predict` takes rows in the model's unit. `budget` is how many rows may be asked; `accounts` share them, `every` rows at a
    time. After `label_after` rows answers are labels, as those of a gateway that has become suspicious. All that was asked is kept.
    """

    def __init__(self, predict: Predict, low: Rows, high: Rows, budget: int, accounts: int = 1, every: int = 1, label_after: int | None = None) -> None:
        self._predict, self.low, self.span = predict, low, np.where(high > low, high - low, 1.0)
        self.budget, self.accounts, self.every, self.label_after = budget, accounts, every, label_after
        self.rows: list[Rows] = []
        self.answers: list[np.ndarray] = []
        self.asked = 0

    def raw(self, unit: Rows) -> Rows:
        return (self.low + np.asarray(unit, dtype=np.float64) * self.span).astype(np.float32)

    def unit(self, raw: Rows) -> Rows:
        return ((raw - self.low) / self.span).astype(np.float32)

    def predict(self, unit: Rows) -> np.ndarray:
        if self.asked >= self.budget:
            raise Spent
        rows = self.raw(unit.reshape(len(unit), -1)[:, : len(self.low)])[: self.budget - self.asked]
        answers = np.asarray(self._predict(rows), dtype=np.float32)
        if self.label_after is not None and self.asked >= self.label_after:
            answers = np.eye(answers.shape[1], dtype=np.float32)[answers.argmax(axis=1)]
        self.rows.append(rows)
        self.answers.append(answers)
        self.asked += len(rows)
        if len(rows) < len(unit):
            raise Spent
        return answers

    def record(self) -> tuple[Rows, np.ndarray, np.ndarray]:
        """All rows, answers, and which account asked."""
        rows, answers = np.concatenate(self.rows), np.concatenate(self.answers)
        return rows, answers, (np.arange(len(rows)) // self.every) % self.accounts


class Jittered(Door):
    """Ours: an attacker that adapts, after OARS (Feng et al., CCS 2023). Each query is moved by noise of `jitter` times its
    distance to the row under attack, drawn again where the answer looks coarse (one-hot or rounded), with more noise each time,
    so that neighbours are far apart; accounts take turns."""

    def __init__(self, *arguments, origin: Rows, jitter: float, seed: int, **options) -> None:
        super().__init__(*arguments, **options)
        self.origin, self.jitter, self.chance = origin.ravel(), jitter, np.random.default_rng(seed)

    def predict(self, unit: Rows) -> np.ndarray:
        flat = unit.reshape(len(unit), -1)
        jitter = self.jitter
        for _ in range(3):
            apart = np.linalg.norm(flat[:, : self.origin.size] - self.origin, axis=1, keepdims=True)
            noise = self.chance.normal(size=flat.shape) / np.sqrt(flat.shape[1])
            answers = super().predict(np.clip(flat + jitter * apart * noise, 0, 1))
            if not np.all(np.abs(answers * 10 - np.round(answers * 10)) < 1e-6):
                break
            jitter *= 1.5
        return answers


class Student(ScikitlearnClassifier):
    """A copy in the making: ART's wrapper, which here learns all that it was ever given, anew at each eighth more."""

    def __init__(self, model: BaseEstimator, classes: int, clip: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__(model=model, clip_values=clip)
        self._classes, self._x, self._y, self._at = classes, [], [], 0

    @property
    def nb_classes(self) -> int:
        return self._classes

    def fit(self, x: Rows, y: np.ndarray, **_) -> None:
        self._x.append(np.asarray(x).reshape(len(x), -1))
        self._y.append(np.argmax(y, axis=1) if np.ndim(y) == 2 else np.asarray(y))
        total = sum(map(len, self._x))
        if total >= self._at * 1.125 + 1:
            labels = np.concatenate(self._y)
            if len(np.unique(labels)) > 1:
                self._model.fit(np.concatenate(self._x), labels)
                self._at = total

    def predict(self, x: Rows, **_) -> np.ndarray:
        scores = np.full((len(x), self._classes), 1.0 / self._classes, dtype=np.float32)
        if self._at:
            scores[:] = 0.0
            scores[:, self._model.classes_.astype(int)] = self._model.predict_proba(np.asarray(x).reshape(len(x), -1))
        return scores


def black_box(door: Door, classes: int, shape: tuple[int, ...] | None = None):
    if shape is None:
        return BlackBoxClassifier(door.predict, (len(door.low),), classes, clip_values=(0.0, 1.0))
    return BlackBoxClassifierNeuralNetwork(door.predict, shape, classes, channels_first=True, clip_values=(0.0, 1.0))


# --- extraction: `pool` are rows in the attacker's unit


def knockoff_random(door: Door, classes: int, pool: Rows, student: BaseEstimator, seed: int) -> None:
    np.random.seed(seed)
    attack = KnockoffNets(black_box(door, classes), nb_stolen=min(door.budget, len(pool)), sampling_strategy="random", verbose=False)
    attack.extract(pool, thieved_classifier=Student(clone(student), classes))


def knockoff_adaptive(door: Door, classes: int, pool: Rows, student: BaseEstimator, seed: int) -> None:
    np.random.seed(seed)
    attack = KnockoffNets(
        black_box(door, classes), nb_stolen=min(door.budget, len(pool)), sampling_strategy="adaptive", reward="cert", verbose=False
    )
    guessed = np.random.default_rng(seed).integers(0, classes, len(pool))
    attack.extract(pool, np.eye(classes)[guessed], thieved_classifier=Student(clone(student), classes))


def copycat(door: Door, classes: int, pool: Rows, student: BaseEstimator, seed: int) -> None:
    """Rows of another domain: each column natural, the columns shuffled apart."""
    chance = np.random.default_rng(seed)
    np.random.seed(seed)
    foreign = np.stack([chance.permutation(column) for column in pool.T], axis=1)
    attack = CopycatCNN(black_box(door, classes, (len(door.low),)), nb_stolen=min(door.budget, len(pool)), batch_size_query=64)
    attack.extract(foreign, thieved_classifier=Student(clone(student), classes))


def active(door: Door, classes: int, pool: Rows, student: BaseEstimator, seed: int) -> None:
    """Ours: margin sampling from natural rows, 20 at a time, from 20 at random."""
    chance = np.random.default_rng(seed)
    copy, left = Student(clone(student), classes), np.ones(len(pool), dtype=bool)
    chosen = chance.choice(len(pool), 20, replace=False)
    while door.asked < door.budget and left.any():
        left[chosen] = False
        copy.fit(pool[chosen], door.predict(pool[chosen]))
        rest = chance.permutation(np.flatnonzero(left))[:2_000]
        if not len(rest):
            break
        scores = np.sort(copy.predict(pool[rest]), axis=1)
        chosen = rest[np.argsort(scores[:, -1] - scores[:, -2])[:20]]


def uniform(door: Door, classes: int, pool: Rows, student: BaseEstimator, seed: int) -> None:
    """Ours: independent uniform columns."""
    chance = np.random.default_rng(seed)
    while True:
        door.predict(chance.uniform(size=(20, pool.shape[1])))


def jacobian(door: Door, classes: int, pool: Rows, student: BaseEstimator, seed: int) -> None:
    """Ours, after Papernot et al. (AsiaCCS 2017): steps of equal size by the sign of the copy's slope, from 20 natural rows on."""
    chance = np.random.default_rng(seed)
    copy = Student(clone(student), classes)
    seeds = pool[chance.choice(len(pool), 20, replace=False)]
    while True:
        copy.fit(seeds, door.predict(seeds))
        base = seeds[chance.choice(len(seeds), 40)]
        slopes, now = np.zeros_like(base), copy.predict(base)
        best = now.argmax(axis=1)
        for column in range(base.shape[1]):
            moved = base.copy()
            moved[:, column] += 0.05
            slopes[:, column] = copy.predict(moved)[np.arange(len(base)), best] - now[np.arange(len(base)), best]
        signs = np.where(slopes == 0, chance.choice([-1, 1], slopes.shape), np.sign(slopes))
        seeds = np.clip(base - 0.1 * signs, 0, 1).astype(np.float32)


EXTRACTION = {
    "knockoff-random": knockoff_random,
    "knockoff-adaptive": knockoff_adaptive,
    "copycat": copycat,
    "active": active,
    "uniform": uniform,
    "jacobian": jacobian,
}
# What can't be told from use by its rows.
NATURAL = ("knockoff-random", "knockoff-adaptive")


# --- evasion: `row` is one row in the attacker's unit, `other` a natural row of another answer


def hop_skip_jump(door: Door, classes: int, row: Rows, other: Rows | None, eps: float, seed: int) -> None:
    np.random.seed(seed)
    attack = HopSkipJump(black_box(door, classes), norm=2, max_iter=40, max_eval=2_000, init_eval=50, init_size=100, verbose=False)
    attack.generate(row[None], x_adv_init=None if other is None else other[None])


def boundary(door: Door, classes: int, row: Rows, other: Rows | None, eps: float, seed: int) -> None:
    np.random.seed(seed)
    attack = BoundaryAttack(
        black_box(door, classes), targeted=False, max_iter=2_000, delta=0.05, epsilon=0.05, num_trial=20, sample_size=20, verbose=False
    )
    attack.generate(row[None], x_adv_init=None if other is None else other[None])


def square(door: Door, classes: int, row: Rows, other: Rows | None, eps: float, seed: int) -> None:
    """A table's row is laid out as a square, filled up with columns that nobody reads."""
    np.random.seed(seed)
    side = int(np.ceil(np.sqrt(row.size)))
    image = np.zeros((1, 1, side, side), dtype=np.float32)
    image.ravel()[: row.size] = row
    attack = SquareAttack(
        black_box(door, classes, (1, side, side)), norm=np.inf, max_iter=door.budget, eps=eps, p_init=0.3, nb_restarts=1, verbose=False
    )
    attack.generate(image)


EVASION = {"hop-skip-jump": hop_skip_jump, "boundary": boundary, "square": square}


# --- membership inference


def membership(door: Door, classes: int, members: tuple[Rows, Rows], others: tuple[Rows, Rows], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How sure the attacker is of members and of others, after it has learnt on the first half of each."""
    np.random.seed(seed)
    attack = MembershipInferenceBlackBox(black_box(door, classes), attack_model_type="rf")
    half = min(len(members[0]), len(others[0])) // 2
    attack.fit(members[0][:half], members[1][:half], others[0][:half], others[1][:half])
    sure = [
        attack.infer(rows[half : 2 * half], labels[half : 2 * half], probabilities=True).ravel() for rows, labels in (members, others)
    ]
    return sure[0], sure[1]


def run(attack: Callable, *arguments, **options) -> None:
    """An attack until it is done or has spent its queries."""
    try:
        attack(*arguments, **options)
    except Spent:
        pass
