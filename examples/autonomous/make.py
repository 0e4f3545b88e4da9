"""Draws road signs and takes a text detector out of the PyPI package rapidocr-onnxruntime.

Run: python make.py OUT

OUT then holds model.onnx, manifest.yaml, rows.npz (the pictures as the model reads them; the label
is 1 where the sign carries words) and request.json (one small picture as an inference request).
"""

from __future__ import annotations

import argparse
import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
SEED = 5
PICTURES = 40

# The detector halves its input five times, so both sides are multiples of 32.
SIDE = 192
REQUEST_SIDE = 96

WORDS = ["STOP", "EXIT 24", "YIELD", "ONE WAY", "SLOW", "DETOUR", "TAXI", "ROAD WORK"]
GROUNDS = [(196, 22, 28), (0, 84, 166), (0, 110, 60), (230, 140, 20)]


def picture(rng: np.random.Generator, worded: bool) -> Image.Image:
    """A sign before sky and road: with a word on it, or with an arrow."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(int(c) for c in rng.integers(120, 200, 3)))
    draw = ImageDraw.Draw(image)
    horizon = int(rng.integers(110, 150))
    draw.rectangle([0, horizon, SIDE, SIDE], fill=(72, 72, 76))
    left, top = (int(value) for value in rng.integers(10, 28, 2))
    right, bottom = SIDE - left, top + int(rng.integers(70, 100))
    draw.rectangle([SIDE // 2 - 3, bottom, SIDE // 2 + 3, SIDE], fill=(120, 120, 124))
    ground = GROUNDS[int(rng.integers(len(GROUNDS)))]
    draw.rounded_rectangle([left, top, right, bottom], 8, fill=ground, outline="white", width=3)
    middle = ((left + right) // 2, (top + bottom) // 2)
    if worded:
        font = ImageFont.load_default(size=int(rng.integers(24, 31)))
        draw.text(middle, WORDS[int(rng.integers(len(WORDS)))], "white", font, anchor="mm")
    else:
        arrow(draw, middle, int(rng.integers(22, 34)))
    return image


def arrow(draw: ImageDraw.ImageDraw, middle: tuple[int, int], size: int) -> None:
    """A broad white arrow that points right."""
    x, y = middle
    draw.rectangle([x - size, y - size // 4, x, y + size // 4], fill="white")
    draw.polygon([(x, y - size), (x + size, y), (x, y + size)], fill="white")


def row(image: Image.Image) -> np.ndarray:
    """The picture as the detector reads it: [3, height, width], blue first, from -1 to 1."""
    pixels = np.asarray(image, dtype=np.float32)[:, :, ::-1]
    return np.ascontiguousarray((pixels / 127.5 - 1).transpose(2, 0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the example into")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    try:
        rapidocr = metadata.distribution("rapidocr-onnxruntime")
    except metadata.PackageNotFoundError:
        raise SystemExit(
            "the package rapidocr-onnxruntime, which ships the model, is not installed\n"
            "hint: pip install --no-deps -r testkit/python/requirements-no-deps.txt"
        ) from None
    shutil.copyfile(rapidocr.locate_file(MODEL), out / "model.onnx")
    shutil.copyfile(HERE / "manifest.yaml", out / "manifest.yaml")

    rng = np.random.default_rng(SEED)
    labels = (np.arange(PICTURES) % 2 == 0).astype(np.int64)
    pictures = [picture(rng, bool(label)) for label in labels]
    rows = np.stack([row(image) for image in pictures])
    np.savez_compressed(out / "rows.npz", x=rows, label=labels)
    pictures[0].save(out / "sign.png")

    small = row(pictures[0].resize((REQUEST_SIDE, REQUEST_SIDE)))
    request = {
        "inputs": [
            {
                "name": "x",
                "shape": [1, *small.shape],
                "datatype": "FP32",
                # Nine digits are enough to give every float32 back exactly.
                "data": [float(f"{value:.9g}") for value in small.ravel()],
            }
        ]
    }
    (out / "request.json").write_text(json.dumps(request) + "\n")

    print(f"detector of rapidocr-onnxruntime {rapidocr.version}")
    print(f"{PICTURES} signs of {SIDE}x{SIDE} in {out}/rows.npz, every other one with words")


if __name__ == "__main__":
    main()
