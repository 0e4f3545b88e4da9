"""What must still hold of a node after everything: it lives, predicts, and its log verifies."""

from __future__ import annotations

from collections.abc import Iterator

from result import Result
from target import Target


def probe(target: Target) -> Iterator[Result]:
    """The checks after all probes."""
    trouble = target.alive()
    yield Result("after: a prediction", "1 prediction", trouble or "200", not trouble)
    yield evidence(target)
    logs = sorted(target.work.rglob("node.log"))
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    panics = [line for line in lines if "panicked" in line]
    outcome = panics[0][:200] if panics else f"no panic in {len(lines)} lines of {len(logs)} nodes"
    yield Result("after: the logs of the nodes", "", outcome, not panics)
    resident = f"{target.memory('VmRSS'):.0f} MB resident"
    descriptors = len(list((target.proc / "fd").iterdir()))
    yield Result("after: what is left", "", f"{resident}, {descriptors} descriptors", True)


def evidence(target: Target) -> Result:
    """Whether the log can be exported, and verifies with the node's key alone."""
    out = target.work / "evidence"
    try:
        target.cli.run("audit", "export", str(out))
        verified = target.cli.run(
            "audit", "verify", str(out), "--key", str(target.data_dir / "log.key")
        )
    except SystemExit as error:
        return Result("after: the log", "audit export, audit verify", str(error)[:300], False)
    shown = ", ".join(
        f"{key} {value}" for key, value in verified.items() if not isinstance(value, list)
    )
    return Result("after: the log", "audit export, audit verify", shown[:200] or "verified", True)
