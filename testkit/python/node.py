"""A running Mantlet node as the Python tests see it: its address, its token, its command line.

Not a script: the scripts beside it import `read_node` and `Mantlet`.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Node:
    """What `client.json` says: where the node listens, whom to trust, and the token to show."""

    url: str
    ca: str
    token: str
    namespace: str

    @property
    def authority(self) -> str:
        """`host:port`, the form in which the Triton and KServe gRPC clients want an address."""
        return urlsplit(self.url).netloc

    @property
    def authorization(self) -> dict[str, str]:
        """The one header, or gRPC metadata entry, that names the caller."""
        return {"authorization": f"Bearer {self.token}"}

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the node's own CA and nobody else."""
        return ssl.create_default_context(cafile=self.ca)


def read_node(data_dir: Path) -> Node:
    """Reads `DIR/client.json`, which the node writes once it listens."""
    path = data_dir / "client.json"
    if not path.is_file():
        raise SystemExit(
            f"{path} is not there, so no node runs on this directory\n"
            f"hint: start one with: mantlet up --data-dir {data_dir}"
        )
    fields = json.loads(path.read_text())
    return Node(fields["url"], fields["ca"], fields["token"], fields["namespace"])


@dataclass(frozen=True)
class Deployed:
    """What `mantlet deploy --wait` answers."""

    name: str
    version: str
    digest: str


class Mantlet:
    """The command line, pointed at one data directory and read as JSON."""

    def __init__(self, binary: str, data_dir: Path) -> None:
        self._command = [binary, "--data-dir", str(data_dir)]

    def run(self, *arguments: str) -> dict:
        """Runs one verb with `--output json` and gives its answer."""
        command = [*self._command, *arguments, "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(
                f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}\n"
                "hint: run it by hand, and look at the node's log for the refusal"
            )
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def deploy(self, source: Path, name: str | None = None) -> Deployed:
        """Deploys a manifest, or a model file under `name`, and waits until it serves."""
        named = ["--name", name] if name else []
        answer = self.run("deploy", str(source), *named, "--wait")
        return Deployed(answer["name"], str(answer["version"]), answer["digest"])

    def export(self, name: str, out: Path) -> None:
        """Writes the signed bundle of `name` into the folder `out`."""
        self.run("models", "export", name, str(out))
