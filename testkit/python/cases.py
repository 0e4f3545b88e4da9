"""What the conformance checks share: a question with its answer, and the count of checks.

Not a script: conformance.py makes the cases, conformance_kserve.py asks some of them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node import Deployed
from reference import TensorInfo, Tensors

# Datatypes without a JSON form or typed contents in the protocol.
BINARY_ONLY = {"FP16", "BF16"}


@dataclass(frozen=True)
class Case:
    """One deployed model, the question it is asked and the answer it must give."""

    deployed: Deployed
    inputs_info: list[TensorInfo]
    outputs_info: list[TensorInfo]
    inputs: Tensors
    expected: Tensors

    @property
    def name(self) -> str:
        return self.deployed.name

    @property
    def datatypes(self) -> set[str]:
        return {info.datatype for info in self.inputs_info + self.outputs_info}

    @property
    def binary_only(self) -> bool:
        return bool(self.datatypes & BINARY_ONLY)

    def input_datatype(self, name: str) -> str:
        return next(info.datatype for info in self.inputs_info if info.name == name)

    def wrong_datatype(self, output: str, datatype: str) -> list[str]:
        """A fault when an output came in another type than the graph gives it."""
        wanted = next((info.datatype for info in self.outputs_info if info.name == output), None)
        return [] if datatype == wanted else [f"{output}: datatype {datatype}, expected {wanted}"]


@dataclass
class Tally:
    """Counts checks and prints one line for each."""

    passed: int = 0
    failed: int = 0

    def check(self, model: str, client: str, form: str, check: Callable[[], list[str]]) -> None:
        """Runs one check, which says in words what differs; an exception is a fault like any other."""
        try:
            faults = check()
        except Exception as error:  # noqa: BLE001 - whatever a client raises, the next check must run
            faults = [f"{type(error).__name__}: {error}"]
        if faults:
            self.failed += 1
        else:
            self.passed += 1
        verdict = "FAILED" if faults else "ok"
        print(f"{verdict:6} {model:18} {client:18} {form}", flush=True)
        for fault in faults:
            print(f"         {fault}", flush=True)
