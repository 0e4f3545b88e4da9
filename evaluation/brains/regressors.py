"""Runs River's adaptive random forest regressor over every regression stream, and prints a JSON line for each figure.

Test, then train, on the features of our own bench: numbers, and the hour and weekday of the column that says when.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import pandas as pd
from river import forest

TIMES = ("timestamp", "date", "date_time", "ts", "batch")
# River is slow: its first rows tell enough of its speed, and all of how far off it is.
QUICK_ROWS = 2_000


def rows(path: Path, target: str) -> tuple[list[dict[str, float]], list[float]]:
    table = pd.read_csv(path)
    targets = table.pop(target).astype(float)
    times = [name for name in table if name in TIMES]
    said = max(times, key=lambda name: len(str(table[name].iloc[0])), default=None)
    features = table.drop(columns=times).astype(float)
    if said:
        when = pd.to_datetime(table[said])
        features["hour"], features["weekday"] = when.dt.hour, when.dt.weekday
    known = targets.notna()
    dictionaries = [{n: v for n, v in row.items() if v == v} for row in features[known].to_dict("records")]
    return dictionaries, targets[known].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MANTLET_DATA", "../shared/data")))
    parser.add_argument("--quick", action="store_true", help="the first rows alone")
    options = parser.parse_args()
    folder = options.data / "streams"
    for file, target in json.loads((folder / "targets.json").read_text()).items():
        features, targets = rows(folder / file, target)
        count = QUICK_ROWS if options.quick else len(targets)
        learner, off = forest.ARFRegressor(n_models=10, seed=1), 0.0
        began = time.perf_counter()
        for row, value in zip(features[:count], targets[:count], strict=True):
            off += abs(value - learner.predict_one(row))
            learner.learn_one(row, value)
        seconds = time.perf_counter() - began
        for metric, value, unit in (("mae", off / count, ""), ("rows_per_s", count / seconds, "rows/s")):
            figure = {"case": file.split(".")[0], "subject": "river forest-10", "metric": metric, "value": value, "unit": unit}
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
