"""Attacks a node of its own from outside, as a stranger and as a caller, and says what held.

Run: python probe.py --mantlet BIN --model DIR --work DIR [--onnxruntime LIB] [--only GROUP ...]

`python` is one that has requirements.txt; --model is a folder made by examples/healthcare/make.py;
--work must not exist yet and keeps the nodes' data and logs and the tools' reports. Prints one row
per probe; exit 1 when one failed. README.md says what is sent, and what is expected.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import aftermath
import fuzz
import held
import http1
import http2
import scanners
import slow
from result import Result, print_head, print_row
from target import Launch, Target, start

# In this order: what could wear the node out comes last.
GROUPS: dict[str, Callable[[Target], Iterable[Result]]] = {
    "tls": scanners.probe,
    "api": fuzz.probe,
    "http1": http1.probe,
    "http2": http2.probe,
    "held": held.probe,
    "slow": slow.probe,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mantlet", required=True, help="the binary")
    parser.add_argument("--model", type=Path, required=True, help="folder with manifest.yaml")
    parser.add_argument("--work", type=Path, required=True, help="folder to make and work in")
    parser.add_argument("--onnxruntime", type=Path, help="ONNX Runtime's library")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    arguments = parser.parse_args()

    begin, results = time.monotonic(), []
    launch = Launch(arguments.mantlet, arguments.model, arguments.onnxruntime)
    target = start(launch, arguments.work)
    try:
        print_head()
        for group in (*(GROUPS[name] for name in arguments.only), aftermath.probe):
            for result in group(target):
                print_row(result)
                results.append(result)
    finally:
        target.stop()
    failed = sum(not result.ok for result in results)
    seconds = time.monotonic() - begin
    print(f"\n{len(results) - failed} passed, {failed} failed, in {seconds:.0f} s")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
