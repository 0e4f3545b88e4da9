"""schemathesis on /openapi.json, with the token of a caller: as anybody's client might go wrong."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from result import Result
from target import Target, run

SECONDS = 240
SEED = "7"
EXAMPLES = "200"
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "unsupported_method", "ignored_auth"),
)
# What is fixed in each run; in the first nothing is, so that names are fuzzed too.
RUNS = {"any names": "", "the deployed model": '{ model = "%s", "path.version" = "1" }'}
# Every status a refusal has (base/types/src/refusal.rs), but for those of the server's own failures.
STATUSES = {200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503}


def fuzz(target: Target, name: str, parameters: str) -> Iterator[Result]:
    """One run; the tool's own report, with a curl command for each failure, stays in the work folder."""
    stem = target.work / f"schemathesis-{name.replace(' ', '-')}"
    config, report, events = (stem.with_suffix(end) for end in (".toml", ".json", ".ndjson"))
    lines = ['headers = { Authorization = "Bearer ${PROBE_TOKEN}" }']
    lines += [f"parameters = {parameters}"] if parameters else []
    config.write_text("\n".join(lines) + "\n")
    command = [
        *(str(Path(sys.executable).with_name("st")), "--config-file", str(config)),
        *("run", f"{target.node.url}/openapi.json", "--tls-verify", target.node.ca),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure"),
        *("--request-timeout", "30", "--warnings", "off", "--no-color"),
        *("--report", "json,ndjson", "--report-json-path", str(report)),
        *("--report-ndjson-path", str(events)),
    ]
    environment = {**os.environ, "PROBE_TOKEN": target.tokens["prober"]}
    out = stem.with_suffix(".txt")
    code = run(command, SECONDS, out, env=environment, cwd=target.work)
    found = json.loads(report.read_text())
    statuses = Counter(map(int, re.findall(r'"status_code": ?(\d{3})', events.read_text())))
    for failure in found["failures"]:
        where = ", ".join(failure["operations"])
        outcome = f"{failure['title']}, {failure['count']} times: {where}; see {out}"
        yield Result(f"schemathesis, {name}", "", outcome, False)
    unknown = sorted(set(statuses) - STATUSES)
    counts = ", ".join(f"{status}×{count}" for status, count in sorted(statuses.items()))
    outcome = f"{counts}; {len(found['failures'])} kinds of failure"
    outcome += f"; statuses no refusal has: {unknown}" if unknown else ""
    sent = f"{found['test_cases']['generated']:,} requests to {found['operations']['tested']} operations"
    ok = code == 0 and not unknown and found["operations"]["tested"] > 0
    yield Result(f"schemathesis, {name}", sent, outcome, ok)


def probe(target: Target) -> Iterator[Result]:
    """Every run, and whether the node lives afterwards."""
    with target.growth() as grown:
        for name, parameters in RUNS.items():
            fixed = parameters % target.model if parameters else ""
            yield from fuzz(target, name, fixed)
    trouble = target.alive()
    outcome = f"{grown}, {trouble or 'alive'}"
    yield Result("schemathesis: all", f"{len(RUNS)} runs", outcome, grown.ok and not trouble)
