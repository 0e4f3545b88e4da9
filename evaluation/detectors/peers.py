"""The peers' figures, one JSON object a line: character n-grams with logistic regression, Isolation Forest, libinjection.

Run: python peers.py --train DIR --test DIR [--quick]

They get what ours get: the same rows, the threshold at 1 % of training's ordinary rows that were not learnt from.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import parse_qsl, unquote_plus

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

try:
    import libinjection
except ImportError:
    libinjection = None

csv.field_size_limit(1 << 24)
ALARMS = 0.01
FEW = {"payloads": 10, "requests": 10, "rows": 40}
FAMILIES = ["attack_type", "family", "attack", "attack_cat", "category", "type"]
NO_FEATURES = {"label", "difficulty", "timestamp", "date", "date_time", "ts", "batch", "id", "uid", *FAMILIES}
ORDINARY = {"", "0", "0.0", "normal", "norm", "benign", "false"}


class Table:
    """A CSV file."""

    def __init__(self, path: Path) -> None:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8", errors="replace") as file:
            self.rows = list(csv.DictReader(file))
        self.name = path.name.split(".")[0]
        self.header = [name for name in (self.rows[0] if self.rows else {}) if name]
        self.bad = np.array([(row.get("label") or "").strip().lower() not in ORDINARY for row in self.rows])

    def family(self, row: dict) -> str:
        named = next((row[name] for name in FAMILIES if row.get(name)), None)
        return named or "attack"


def tables(folder: Path) -> Iterable[tuple[str, Table]]:
    for part in ("intrusion", "health", "anomaly"):
        for path in sorted((folder / part).glob("*.csv*")):
            table = Table(path)
            if "label" not in table.header:
                continue
            if part == "anomaly":
                if path.name.startswith("adbench_"):
                    yield "anomalies", table
            elif "payload" in table.header:
                yield "payloads", table
            elif {"method", "url"} <= set(table.header):
                yield "requests", table
            else:
                yield "rows", table


def report(case: str, subject: str, unit: str, table: Table, alarms: np.ndarray, scores: np.ndarray | None, chosen: np.ndarray) -> None:
    """Prints false alarms and recall of the chosen rows."""
    rows = [table.rows[place] for place in chosen]
    bad = table.bad[chosen]
    say = lambda metric, value, of: print(  # noqa: E731
        json.dumps({"case": case, "subject": subject, "metric": metric, "value": float(value), "unit": of}), flush=True
    )
    if (~bad).any():
        say("realised_fa", alarms[~bad].mean(), unit)
    if not bad.any():
        return
    say("recall", alarms[bad].mean(), unit)
    families = np.array([table.family(row) for row in rows])
    recalls = []
    for family in sorted(set(families[bad])):
        of = bad & (families == family)
        if of.sum() >= FEW.get(unit, 40):
            recalls.append(alarms[of].mean())
            say(f"recall:{family}", recalls[-1], unit)
    if recalls:
        say("macro_recall", np.mean(recalls), unit)
    if scores is not None and (~bad).any():
        say("roc_auc", roc_auc_score(bad, scores), unit)


def texts(kind: str, table: Table) -> list[str]:
    """A row as one text."""
    if kind == "payloads":
        return [row["payload"] or "" for row in table.rows]
    skipped = {"label", "timestamp", "client", "status", "bytes", *FAMILIES}
    return [" ".join(cell for name, cell in row.items() if name not in skipped and isinstance(cell, str)) for row in table.rows]


def parts(kind: str, row: dict) -> list[str]:
    """The texts of a row that libinjection is meant for: a payload, or each parameter, decoded."""
    if kind == "payloads":
        return [row["payload"] or "", unquote_plus(row["payload"] or "")]
    query = (row["url"] or "").partition("?")[2]
    pairs = [*parse_qsl(query, keep_blank_values=True), *parse_qsl(row.get("body") or "", keep_blank_values=True)]
    return [unquote_plus(row["url"] or ""), *(value for _, value in pairs)]


def ngrams(kind: str, known: list[Table], asked: list[tuple[str, Table]]) -> None:
    """TF-IDF of character 2- to 4-grams, and logistic regression."""
    written = [text for table in known for text in texts(kind, table)]
    bad = np.concatenate([table.bad for table in known]) if known else np.array([], bool)
    if len(set(bad)) < 2:
        return
    learnt, kept, learnt_bad, kept_bad = train_test_split(written, bad, test_size=0.2, random_state=0, stratify=bad)
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), lowercase=True, min_df=3, max_features=1 << 18)
    model = LogisticRegression(max_iter=300, C=10.0).fit(vectors.fit_transform(learnt), learnt_bad)
    score: Callable[[list[str]], np.ndarray] = lambda some: model.decision_function(vectors.transform(some))  # noqa: E731
    threshold = np.quantile(score([t for t, is_bad in zip(kept, kept_bad, strict=True) if not is_bad]), 1 - ALARMS)
    for case, table in asked:
        scores = score(texts(kind, table))
        report(case, "ngram-lr", kind, table, scores > threshold, scores, np.arange(len(scores)))


def injected(text: str) -> bool:
    """Whether libinjection calls a text SQL injection or XSS."""
    plain = text.replace("\0", " ").encode("utf-8", "replace").decode()
    found, script = libinjection.is_sql_injection(plain) or {}, libinjection.is_xss(plain) or {}
    return bool(found.get("is_sqli")) or bool(script.get("is_xss"))


def encoded(table: Table, like: Table) -> np.ndarray:
    """Numbers as they are, words by their places among those of `like`."""
    columns = []
    for name in (name for name in like.header if name.lower() not in NO_FEATURES):
        cells = [(row.get(name) or "").split("/")[0] for row in table.rows]
        known = [(row.get(name) or "").split("/")[0] for row in like.rows]
        try:
            [float(cell or "nan") for cell in known]
            columns.append([number(cell) for cell in cells])
        except ValueError:
            places = {word: place for place, word in enumerate(sorted(set(known)))}
            columns.append([places.get(cell, len(places)) for cell in cells])
    values = np.array(columns, float).T
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def number(cell: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")


def forest(table: Table, like: Table | None) -> None:
    """Isolation Forest on ordinary rows; where nothing else is like the table, on its first half."""
    if not like:
        order = np.random.default_rng(11).permutation(len(table.rows))
        table.rows, table.bad = [table.rows[place] for place in order], table.bad[order]
    values = encoded(table, like or table)
    half = len(values) // 2
    known = encoded(like, like)[~like.bad] if like else values[:half][~table.bad[:half]]
    chosen = np.arange(len(values)) if like else np.arange(half, len(values))
    if len(known) < 20:
        return
    learnt, kept = train_test_split(known, test_size=0.4, random_state=0)
    model = IsolationForest(n_estimators=200, random_state=0, n_jobs=1).fit(learnt)
    threshold = np.quantile(-model.score_samples(kept), 1 - ALARMS)
    scores = -model.score_samples(values[chosen])
    report(table.name, "iforest", "rows", table, scores > threshold, scores, chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    same = options.train.resolve() == options.test.resolve()
    known = list(tables(options.train))
    asked = known if same else list(tables(options.test))
    if options.quick:
        for _, table in {id(table): (kind, table) for kind, table in known + asked}.values():
            table.rows, table.bad = table.rows[::10], table.bad[::10]
    for kind in ("payloads", "requests"):
        of = lambda some, kind=kind: [table for other, table in some if other == kind]  # noqa: E731
        if same:
            for left in of(asked):
                case = f"{left.name}, source left out"
                ngrams(kind, [table for table in of(known) if table is not left], [(case, left)])
        else:
            ngrams(kind, of(known), [(table.name, table) for table in of(asked)])
        for table in of(asked) if libinjection else []:
            case = f"{table.name}, source left out" if same else table.name
            alarms = np.array([any(injected(part) for part in parts(kind, row)) for row in table.rows])
            report(case, "libinjection", kind, table, alarms, None, np.arange(len(alarms)))
    for kind, table in asked:
        if kind == "rows":
            like = None if same else next((other for k, other in known if k == kind and other.header == table.header), None)
            forest(table, like)
        elif kind == "anomalies":
            forest(table, None)


if __name__ == "__main__":
    main()
