"""TLS as testssl.sh and sslscan see it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from result import Result
from target import Target, run

TESTSSL_SECONDS, SSLSCAN_SECONDS = 240, 60
TOO_MUCH = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
# What testssl.sh has against every node, and why that stays.
EXPECTED = {
    "cert_revocation": "the node is its own CA: no third party could revoke, and the certificate is"
    " made anew from ca.key",
    "security_headers": "they instruct browsers, and the port serves programs: JSON, never HTML",
}
# What has to be there: a finding that is missing says nothing good.
REQUIRED = ("TLS1_3", "cert_chain_of_trust", "cert_trust", "heartbleed", "ROBOT", "secure_renego")


def testssl(target: Target) -> Iterator[Result]:
    """Every finding above LOW is a failure, unless it is expected."""
    report = target.work / "testssl.json"
    command = [
        *("testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"),
        *("--add-ca", target.node.ca, "--jsonfile", str(report), target.node.url),
    ]
    run(command, TESTSSL_SECONDS, target.work / "testssl.txt")
    findings = json.loads(report.read_text())
    worst = [finding for finding in findings if finding["severity"] in TOO_MUCH]
    for finding in worst:
        reason = EXPECTED.get(finding["id"])
        outcome = f"{finding['severity']}: {finding['finding']}"
        if reason:
            outcome += f"; expected: {reason}"
        yield Result(f"testssl.sh: {finding['id']}", "", outcome, reason is not None)
    seen = {finding["id"]: finding for finding in findings}
    for name in REQUIRED:
        if name not in seen:
            yield Result(f"testssl.sh: {name}", "", "not in the report", False)
    trust = seen.get("cert_chain_of_trust", {"finding": "unknown", "severity": ""})
    low = [finding["id"] for finding in findings if finding["severity"] == "LOW"]
    unsure = [finding["id"] for finding in findings if finding["severity"] == "WARN"]
    outcome = (
        f"{len(worst)} above LOW; LOW: {', '.join(low) or 'none'}; could not be tested:"
        f" {', '.join(unsure) or 'none'}; chain of trust: {trust['finding']}"
    )
    sent = f"{len(findings)} findings with --add-ca ca.pem"
    yield Result("testssl.sh", sent, outcome, trust["severity"] == "OK")


def sslscan(target: Target) -> Result:
    """TLS 1.3 and nothing else, strong suites, no renegotiation, no Heartbleed."""
    report = target.work / "sslscan.xml"
    command = ["sslscan", f"--xml={report}", target.node.authority]
    run(command, SSLSCAN_SECONDS, target.work / "sslscan.txt")
    found = ElementTree.parse(report)
    protocols = [
        f"{protocol.get('type')}{protocol.get('version')}"
        for protocol in found.iter("protocol")
        if protocol.get("enabled") == "1"
    ]
    suites = {suite.get("cipher"): int(suite.get("bits", "0")) for suite in found.iter("cipher")}
    complaints = [
        *([] if protocols == ["tls1.3"] else [f"protocols {protocols}"]),
        *(f"{name} has {bits} bits" for name, bits in suites.items() if bits < 128),
        *("renegotiation" for node in found.iter("renegotiation") if node.get("supported") != "0"),
        *("Heartbleed" for node in found.iter("heartbleed") if node.get("vulnerable") != "0"),
        *("an expired certificate" for node in found.iter("expired") if node.text != "false"),
        *([] if suites else ["no suite"]),
    ]
    outcome = "; ".join([f"{', '.join(protocols)} with {', '.join(suites)}", *complaints])
    return Result("sslscan", f"{len(suites)} suites", outcome, not complaints)


def probe(target: Target) -> Iterator[Result]:
    """Both scanners."""
    yield sslscan(target)
    yield from testssl(target)
