"""schemathesis on /openapi.json: what clients might get wrong, by a caller and by an admin."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
# An admin must not end its own token; a run after that would see nothing but 401.
KEEP_TOKEN = ("--exclude-path-regex", "^/v1/callers/")
# Every status a refusal has (base/types/src/refusal.rs), but for the server's own failures.
STATUSES = {200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503}


@dataclass(frozen=True)
class Run:
    """One run: by whom, on what names, and what else the tool is told."""

    name: str
    token: str
    parameters: str = ""
    options: tuple[str, ...] = ()


def fuzz(target: Target, one: Run) -> Iterator[Result]:
    """One run; the tool's report, with a curl command for each failure, stays in its folder."""
    stem = target.work / f"schemathesis-{one.name.replace(', ', '-').replace(' ', '-')}"
    config, report, events = (stem.with_suffix(end) for end in (".toml", ".json", ".ndjson"))
    # The token is in the environment, where no list of processes shows it.
    lines = ['headers = { Authorization = "Bearer ${PROBE_TOKEN}" }']
    lines += [f"parameters = {one.parameters}"] if one.parameters else []
    config.write_text("\n".join(lines) + "\n")
    command = [
        *(str(Path(sys.executable).with_name("st")), "--config-file", str(config)),
        *("run", f"{target.node.url}/openapi.json", "--tls-verify", target.node.ca),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure"),
        *("--request-timeout", "30", "--warnings", "off", "--no-color"),
        *("--report", "json,ndjson", "--report-json-path", str(report)),
        *("--report-ndjson-path", str(events), *one.options),
    ]
    environment = {**os.environ, "PROBE_TOKEN": one.token}
    out = stem.with_suffix(".txt")
    code = run(command, SECONDS, out, env=environment, cwd=target.work)
    found = json.loads(report.read_text())
    statuses = Counter(map(int, re.findall(r'"status_code": ?(\d{3})', events.read_text())))
    name = f"schemathesis: {one.name}"
    for failure in found["failures"]:
        where = ", ".join(failure["operations"])
        outcome = f"{failure['title']}, {failure['count']} times: {where}; see {out.name}"
        yield Result(name, "", outcome, False)
    unknown = sorted(set(statuses) - STATUSES)
    outcome = ", ".join(f"{status}×{count}" for status, count in sorted(statuses.items()))
    outcome += f"; statuses that no refusal has: {unknown}" if unknown else ""
    requests, tested = found["test_cases"]["generated"] or 0, found["operations"]["tested"] or 0
    sent = f"{requests:,} requests to {tested} operations"
    yield Result(name, sent, outcome, code == 0 and not unknown and tested > 0)


def probe(target: Target) -> Iterator[Result]:
    """Every run, and whether the node lives afterwards."""
    model = f'{{ model = "{target.model}", "path.version" = "1" }}'
    caller = target.tokens["prober"]
    runs = [Run("a caller, any names", caller), Run("a caller, the deployed model", caller, model)]
    with target.growth() as grown:
        for one in runs:
            yield from fuzz(target, one)
    trouble = target.alive()
    outcome = f"{grown}, {trouble or 'alive'}"
    yield Result("schemathesis: all", f"{len(runs)} runs", outcome, grown.ok and not trouble)
    # An admin's requests may delete what the other probes need.
    with target.another("admin") as fresh:
        yield from fuzz(fresh, Run("an admin, any names", fresh.node.token, "", KEEP_TOKEN))
