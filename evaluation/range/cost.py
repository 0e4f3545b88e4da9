"""What looking for attackers costs: a node with the sentinel on beside one with it off, the same requests, turn by turn.

Run: python cost.py --mantlet BIN --onnxruntime LIB --out FOLDER [--seconds 6] [--rounds 4]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from rig import Node  # noqa: E402

WIDTH = 64


def network(hidden: int) -> bytes:
    """A network of two hidden layers; its width says how long it takes."""
    chance = np.random.default_rng(1)
    sizes = [WIDTH, hidden, hidden, 2]
    nodes, weights, name = [], [], "x"
    for layer, (one, other) in enumerate(zip(sizes, sizes[1:])):
        weights.append(numpy_helper.from_array((chance.normal(size=(one, other)) / np.sqrt(one)).astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Softmax" if layer == 2 else "Relu", [f"m{layer}"], ["y" if layer == 2 else f"r{layer}"]))
        name = f"r{layer}"
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=8).SerializeToString()


SCRIPT = """
wrk.method = "POST"
wrk.headers["authorization"] = "Bearer TOKEN"
wrk.headers["content-type"] = "application/json"
local n = 0
function request()
  n = n + 1
  local row = {}
  for i = 1, WIDTH do row[i] = string.format("%.4f", math.sin(n * 0.37 * i)) end
  return wrk.format(nil, nil, nil, '{"inputs":[{"name":"x","shape":[1,WIDTH],"datatype":"FP32","data":[' .. table.concat(row, ",") .. ']}]}')
end
"""


def drive(node: Node, token: str, folder: Path, model: str, connections: int, seconds: int) -> tuple[float, float, float]:
    script = folder / "post.lua"
    script.write_text(SCRIPT.replace("TOKEN", token).replace("WIDTH", str(WIDTH)))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), f"{node.url}/v2/models/{model}/infer"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    p50, p99 = (float(found[1]) * scale[found[2]] for found in (re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", said) for share in (50, 99)))
    if "Non-2xx" in said:
        raise SystemExit(said)
    return rate, p50, p99


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mantlet", required=True)
    parser.add_argument("--onnxruntime", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    arms = {}
    for mode in ("off", "on"):
        settings = {"MANTLET_SENTINEL__MODE": mode, "MANTLET_SENTINEL__AUTONOMY": "observe"}
        node = Node(options.mantlet, options.onnxruntime, options.out / mode, settings=settings)
        for name, hidden in (("small", 16), ("large", 1_800)):
            path = options.out / mode / f"{name}.onnx"
            path.write_bytes(network(hidden))
            node.deploy(path, name)
        arms[mode] = node, node.caller("bench")
    found = {}
    for model in ("large", "small"):
        for connections in (1, 16):
            for _ in range(options.rounds):
                for mode, (node, token) in arms.items():
                    found.setdefault((model, connections, mode), []).append(drive(node, token, options.out, model, connections, options.seconds))
    print("| model | connections | requests/s off | on | on / off, median of rounds | worst | p50 ms off | on | p99 ms off | on |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for model in ("large", "small"):
        for connections in (1, 16):
            off, on = (found[model, connections, mode] for mode in ("off", "on"))
            ratios = [b[0] / a[0] for a, b in zip(off, on)]
            of = lambda runs, at: statistics.median(run[at] for run in runs)  # noqa: E731
            print(
                f"| {model} | {connections} | {of(off, 0):.0f} | {of(on, 0):.0f} | {statistics.median(ratios):.3f} | {min(ratios):.3f} |"
                f" {of(off, 1):.2f} | {of(on, 1):.2f} | {of(off, 2):.2f} | {of(on, 2):.2f} |"
            )
    (options.out / "cost.json").write_text(json.dumps({f"{k[0]}-{k[1]}-{k[2]}": v for k, v in found.items()}))
    for node, _ in arms.values():
        node.stop()


if __name__ == "__main__":
    main()
