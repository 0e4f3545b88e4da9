"""Takes the file-type model out of the PyPI package magika and feeds it files that packages ship.

Run: python make.py OUT

OUT then holds model.onnx, manifest.yaml, rows.npz (the first and last 1,024 bytes of each file, with
labels), labels.json (the name of each class) and request.json (one file as an inference request).
"""

from __future__ import annotations

import argparse
import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MODEL = "magika/models/standard_v3_3/model.onnx"
CONFIG = "magika/models/standard_v3_3/config.min.json"

# What the model was trained on: 1,024 bytes from each end, found within the outer 4,096, with this
# number where a file is too short.
EDGE = 1_024
WINDOW = 4_096
PADDING = 256

# A suffix whose files are of one sort, and the model's name for that sort.
SUFFIXES = {
    ".csv": "csv",
    ".gz": "gzip",
    ".json": "json",
    ".md": "markdown",
    ".npy": "npy",
    ".npz": "npz",
    ".onnx": "onnx",
    ".py": "python",
    ".rst": "rst",
    ".so": "elf",
    ".wav": "wav",
}
PACKAGES = ["numpy", "onnx", "scikit-learn", "scipy"]
FILES_PER_SUFFIX = 8


def chosen_files() -> list[Path]:
    """The first files of each suffix, by path, that the packages' own lists name."""
    found: dict[str, list[Path]] = {suffix: [] for suffix in SUFFIXES}
    for package in PACKAGES:
        for entry in sorted(metadata.files(package) or [], key=str):
            path = Path(metadata.distribution(package).locate_file(entry))
            if path.suffix in found and path.is_file() and path.stat().st_size >= EDGE:
                found[path.suffix].append(path)
    return [path for paths in found.values() for path in paths[:FILES_PER_SUFFIX]]


def row(content: bytes) -> np.ndarray:
    """A file as the model reads it: its first and last bytes, without outer white space."""
    head = content[:WINDOW].lstrip()[:EDGE]
    tail = content[-WINDOW:].rstrip()[-EDGE:]
    numbers = np.full(2 * EDGE, PADDING, dtype=np.int32)
    numbers[: len(head)] = list(head)
    numbers[2 * EDGE - len(tail) :] = list(tail)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the example into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    try:
        magika = metadata.distribution("magika")
    except metadata.PackageNotFoundError:
        raise SystemExit(
            "the package magika, which ships the model, is not installed\n"
            "hint: pip install --no-deps -r testkit/python/requirements-no-deps.txt"
        ) from None
    shutil.copyfile(magika.locate_file(MODEL), out / "model.onnx")
    shutil.copyfile(HERE / "manifest.yaml", out / "manifest.yaml")
    names = json.loads(Path(magika.locate_file(CONFIG)).read_text())["target_labels_space"]
    (out / "labels.json").write_text(json.dumps(names) + "\n")

    files = chosen_files()
    rows = np.stack([row(path.read_bytes()) for path in files])
    labels = np.array([names.index(SUFFIXES[path.suffix]) for path in files], dtype=np.int64)
    np.savez(out / "rows.npz", bytes=rows, label=labels)
    request = {
        "inputs": [
            {"name": "bytes", "shape": [1, 2 * EDGE], "datatype": "INT32", "data": rows[0].tolist()}
        ]
    }
    (out / "request.json").write_text(json.dumps(request) + "\n")

    kinds = sorted(set(SUFFIXES.values()))
    print(f"model of magika {magika.version}, {len(names)} classes")
    print(f"{len(files)} files of {len(kinds)} kinds in {out}/rows.npz: {', '.join(kinds)}")


if __name__ == "__main__":
    main()
