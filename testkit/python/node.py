"""A running Mantlet node as the Python tests see it: its address, its token, its command line.

Not a script: the scripts beside it import `read_node`, `Mantlet` and the client makers.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.http import InferenceServerClientPlugin


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


class BearerToken(InferenceServerClientPlugin):
    """Adds the token to every request of a Triton client, calls without `headers` included."""

    def __init__(self, node: Node) -> None:
        self._header = node.authorization

    def __call__(self, request) -> None:
        # A new dict, because `infer` writes Content-Encoding and the JSON length into the
        # caller's own, which would then travel with the next request.
        request.headers = {**request.headers, **self._header}


def triton_http_client(node: Node, concurrency: int = 1) -> triton_http.InferenceServerClient:
    """Triton's HTTP client over TLS, as its `ssl_options` allow, with the token on every call."""
    client = triton_http.InferenceServerClient(
        url=node.authority,
        concurrency=concurrency,
        ssl=True,
        ssl_options={"ca_certs": node.ca},
    )
    client.register_plugin(BearerToken(node))
    return client


def triton_grpc_client(node: Node, **options) -> triton_grpc.InferenceServerClient:
    """Triton's gRPC client over TLS on the same port, with the token on every call."""
    client = triton_grpc.InferenceServerClient(
        url=node.authority, ssl=True, root_certificates=node.ca, **options
    )
    client.register_plugin(BearerToken(node))
    return client


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
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
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
