"""Everybody who is asked, in the order of a round. Not a script."""

from __future__ import annotations

import mantlet
import peers
import proxies
from subject import Subject

MANTLET = "mantlet"
UNWATCHED = "mantlet sentinel off"
OPEN = "mantlet security off"
TRITON = "triton python"
MLSERVER = "mlserver"
LITSERVE = "litserve"
NGINX = "nginx"
IN_PROCESS = "in-process"
BARE = "bare"

SUBJECTS = [
    Subject(MANTLET, mantlet.start),
    Subject(UNWATCHED, mantlet.start_unwatched),
    Subject(OPEN, mantlet.start_open),
    Subject(
        TRITON,
        peers.start_triton,
        {"instances": (2, 1, 4), "batch": (1, 16, 64), "http-threads": (8, 2), "threads": (1, 2)},
        needs=("venv-triton",),
    ),
    Subject(
        MLSERVER,
        peers.start_mlserver,
        {"workers": (2, 0, 1), "threads": (1, 2)},
        needs=("venv-mlserver",),
    ),
    Subject(
        LITSERVE,
        peers.start_litserve,
        {"workers": (2, 1), "servers": (1, 2)},
        needs=("venv-litserve",),
    ),
    Subject(NGINX, proxies.start_nginx, model="forest", needs=("nginx", "bare")),
    Subject("haproxy", proxies.start_haproxy, model="forest", needs=("haproxy", "bare")),
    Subject(
        "nginx before security off",
        proxies.start_nginx_before_mantlet,
        model="forest",
        needs=("nginx",),
    ),
    Subject(IN_PROCESS, peers.start_in_process),
    Subject(BARE, proxies.start_bare, model="forest", needs=("bare",)),
]
