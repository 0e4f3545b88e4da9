"""Counts what the node's process allocates for one prediction, beside its budget."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from rig import Node, figure, print_ratios, ratio  # noqa: E402 (the path above is where it lies)
from environments import ROOT, say  # noqa: E402 (rig.py makes its folder known)
from process import run  # noqa: E402
from questions import Question, questions  # noqa: E402

WARM, REQUESTS = 500, 2_000
# Allocations a prediction may cost, by question: an eighth more than it did when this was written.
BUDGET = {"forest json": 172, "image json": 285, "image binary": 210, "detector binary": 764, "magika binary": 210}


def binary(out: Path) -> str:
    """Mantlet with an allocator that counts, beside the results."""
    target = out / "allocations-build"
    cargo = os.environ.get("CARGO", "cargo")
    say("mantlet: cargo build --release --features allocations")
    command = [cargo, "build", "--release", "--quiet", "-p", "mantlet", "--features", "allocations", "--target-dir", str(target)]
    run(command, "its build", 1_200, cwd=ROOT)
    return str(target / "release" / "mantlet")


def counted(node: Node) -> tuple[float, float]:
    """Allocations and bytes so far."""
    _, said = node.ask("GET", "/metrics")
    found = [re.search(rf"^mantlet_node_{name}_total (\d+)", said.decode(), re.MULTILINE) for name in ("allocations", "allocated_bytes")]
    if None in found:
        raise SystemExit("the binary does not count: build it with --features allocations")
    return float(found[0][1]), float(found[1][1])


def ask(connection: http.client.HTTPSConnection, question: Question, token: str, times: int) -> None:
    """The question, over one connection, so many times."""
    headers = {**question.headers, "authorization": f"Bearer {token}"}
    for _ in range(times):
        connection.request("POST", "/v2/models/model/infer", question.body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the node answered {answer.status}: {said[:200]!r}")


def measure(question: Question, options: argparse.Namespace) -> tuple[float, float]:
    """Allocations and bytes of one prediction."""
    node = Node(options.counting, options.onnxruntime, options.work / question.name.replace(" ", "-"))
    try:
        node.deploy(question.model.path)
        token = node.caller("bench")
        context = ssl.create_default_context(cafile=node.data / "ca.pem")
        connection = http.client.HTTPSConnection(urlsplit(node.url).netloc, context=context)
        slow = question.model.name == "detector"
        ask(connection, question, token, WARM // 10 if slow else WARM)
        requests = REQUESTS // 10 if slow else REQUESTS
        before = counted(node)
        ask(connection, question, token, requests)
        after = counted(node)
        return (after[0] - before[0]) / requests, (after[1] - before[1]) / requests
    finally:
        node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mantlet", help="not used: this bench builds its own")
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="the forest alone")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.work = options.out.parent / "allocations"
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    options.counting = binary(options.out.parent)
    figures, ratios = [], []
    for question in questions(options.out.parent / "work"):
        if options.quick and question.name != "forest json":
            continue
        allocations, size = measure(question, options)
        print(f"  {question.name}: {allocations:.0f} allocations, {size / 1024:.0f} KiB for a body of {len(question.body) / 1024:.0f} KiB")
        figures.append(figure(question.name, "mantlet", "allocations_per_request", allocations, "1"))
        figures.append(figure(question.name, "mantlet", "allocated_per_request", size, "B"))
        ratios.append(ratio(question.name, "allocations per request", allocations, BUDGET[question.name], least=False))
    print_ratios(ratios)
    machine = {"cores": os.cpu_count(), "platform": platform.platform()}
    options.out.write_text(json.dumps({"machine": machine, "figures": figures, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
