"""Starts what stands for Mantlet's gateway alone: nginx, HAProxy, and a bare Rust gateway.

Not a script. The proxies do TLS 1.3 and compare the bearer token, and write no log. Behind them is
the fastest answer there is, a constant one over a Unix socket, or a Mantlet with `--security off`.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import mantlet
from mantlet import INFER
from process import Process, free_port, listens, run
from questions import DATATYPES, Question
from server import Server
from subject import Settings, Tools

WORKERS = 2
# Longer paths do not fit into a socket's address.
LONGEST_SOCKET = 107

NGINX = """\
user {user};
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_max_body_size 16m;
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; "Bearer {token}" 1; }}
  upstream model {{
    server {upstream};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_time 24h;
  }}
  server {{
    listen 127.0.0.1:{port} ssl reuseport;
    ssl_certificate {folder}/both.pem;
    ssl_certificate_key {folder}/both.pem;
    ssl_protocols TLSv1.3;
    keepalive_requests 1000000000;
    keepalive_time 24h;
    location / {{
      if ($known = 0) {{ return 401; }}
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "";
    }}
  }}
}}
"""

HAPROXY = """\
global
  nbthread {workers}
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port} ssl crt {folder}/both.pem ssl-min-ver TLSv1.3
  http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer {token}" }}
  http-request del-header authorization
  default_backend model
backend model
  server model {upstream}
"""


def start_nginx(tools: Tools, question: Question, folder: Path, _: Settings) -> Server:
    """nginx in front of the constant answer."""
    constant, socket = _constant(tools, question, folder)
    return _guarded(
        [constant], lambda: _nginx(tools, question, folder, f"unix:{socket}", [constant])
    )


def start_nginx_before_mantlet(
    tools: Tools, question: Question, folder: Path, _: Settings
) -> Server:
    """nginx in front of a Mantlet that leaves security to it."""
    node = mantlet.start_open(tools, question, folder, {})
    upstream = urlsplit(node.url).netloc
    return _guarded(
        node.processes, lambda: _nginx(tools, question, folder, upstream, node.processes)
    )


def start_haproxy(tools: Tools, question: Question, folder: Path, _: Settings) -> Server:
    """HAProxy in front of the constant answer."""
    constant, socket = _constant(tools, question, folder)

    def proxy() -> Server:
        path, port, token = _configure(HAPROXY, folder, f"unix@{socket}")
        process = Process([tools.program("haproxy"), "-f", str(path)], folder / "haproxy.log")
        return _proxied(process, question, folder, port, token, [constant])

    return _guarded([constant], proxy)


def start_bare(tools: Tools, question: Question, folder: Path, _: Settings) -> Server:
    """axum, then tonic over a Unix socket, then a process that has the answer ready."""
    program, socket, port = tools.program("bare"), _socket(folder), free_port()
    echo = Process(
        [program, "echo", str(socket), str(_answer(question, folder))], folder / "echo.log"
    )

    def gateway() -> Server:
        echo.wait_until(socket.exists)
        process = Process(
            [program, "gateway", f"127.0.0.1:{port}", str(socket)], folder / "bare.log"
        )
        process.wait_until(lambda: listens(port))
        url = f"http://127.0.0.1:{port}{INFER}"
        return Server(question, folder, [process, echo], url, question.body, question.headers)

    return _guarded([echo], gateway)


def _nginx(
    tools: Tools, question: Question, folder: Path, upstream: str, behind: list[Process]
) -> Server:
    path, port, token = _configure(NGINX, folder, upstream)
    process = Process(
        [tools.program("nginx"), "-c", str(path), "-e", str(folder / "nginx.log")],
        folder / "nginx-out.log",
    )
    return _proxied(process, question, folder, port, token, behind)


def _configure(template: str, folder: Path, upstream: str) -> tuple[Path, int, str]:
    """Writes a certificate, and settings with a token; gives their path, the port and the token."""
    port, token = free_port(), secrets.token_urlsafe(32)
    _certificate(folder)
    path = folder / "proxy.conf"
    path.touch(0o600)
    path.write_text(
        template.format(
            user=pwd.getpwuid(os.geteuid()).pw_name,
            workers=WORKERS,
            folder=folder,
            port=port,
            token=token,
            upstream=upstream,
        )
    )
    return path, port, token


def _certificate(folder: Path) -> None:
    """A key like the one of Mantlet's gateway, ECDSA on P-256, and a certificate that it signed."""
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    names = ["-subj", "/CN=localhost", "-days", "1"]
    run(["openssl", "req", "-x509", *curve, *files, *names], "certificate")
    both.touch(0o600)
    both.write_text(certificate.read_text() + key.read_text())


def _proxied(
    process: Process, question: Question, folder: Path, port: int, token: str, behind: list[Process]
) -> Server:
    process.wait_until(lambda: listens(port))
    headers = {**question.headers, "authorization": f"Bearer {token}"}
    url = f"https://127.0.0.1:{port}{INFER}"
    return Server(question, folder, [process, *behind], url, question.body, headers)


def _constant(tools: Tools, question: Question, folder: Path) -> tuple[Process, Path]:
    """A process that answers every HTTP request in a Unix socket with the right answer."""
    socket = _socket(folder)
    command = [tools.program("bare"), "http", str(socket), str(_answer(question, folder))]
    process = Process(command, folder / "constant.log")
    process.wait_until(socket.exists)
    return process, socket


def _socket(folder: Path) -> Path:
    socket = folder / "model.sock"
    if len(os.fsencode(socket)) > LONGEST_SOCKET:
        raise SystemExit(f"{socket} is too long for a socket\nhint: choose a shorter --out")
    return socket


def _answer(question: Question, folder: Path) -> Path:
    """The protocol's JSON answer to the question, as ONNX Runtime gives it."""
    outputs = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": DATATYPES[array.dtype.name],
            "data": array.ravel().tolist(),
        }
        for name, array in question.model.expected.items()
    ]
    path = folder / "answer.json"
    path.write_text(json.dumps({"model_name": "model", "model_version": "1", "outputs": outputs}))
    return path


def _guarded(behind: list[Process], start: Callable[[], Server]) -> Server:
    """Starts what stands in front; ends what stands behind when that fails."""
    try:
        return start()
    except BaseException:
        for process in behind:
            process.stop()
        raise
