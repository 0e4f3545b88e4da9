"""A caller of a node over HTTP, and what it was answered. Not a script."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

# Answers that say that somebody is held back.
REFUSED, SLOWED = 403, 429
WAIT_SECONDS = 30
# A connection may be silent for so long; the node allows ten.
SILENT_SECONDS = 5


@dataclass
class Answer:
    status: int
    scores: np.ndarray | None
    seconds: float
    retry_after: float
    code: str = ""

    @property
    def is_restricted(self) -> bool:
        return self.status == SLOWED or (self.status == REFUSED and self.code == "caller_restricted")


class Wire:
    """A connection to a node; whoever's token is shown is the caller."""

    def __init__(self, url: str, ca: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._context = ssl.create_default_context(cafile=ca)
        self._connection: http.client.HTTPSConnection | None = None
        self._used = 0.0

    def ask(self, method: str, path: str, body: bytes | None, token: str | None, headers: dict | None = None) -> tuple[int, bytes, float]:
        """Status, body, and the seconds of `retry-after`."""
        for last in (False, True):
            if self._connection is None or time.monotonic() - self._used > SILENT_SECONDS:
                self.close()
                self._connection = http.client.HTTPSConnection(self._netloc, context=self._context, timeout=WAIT_SECONDS)
            shown = {"authorization": f"Bearer {token}"} if token else {}
            try:
                self._connection.request(method, path, body, {**shown, **(headers or {})})
                answer = self._connection.getresponse()
                said = answer.read()
                self._used = time.monotonic()
                return answer.status, said, float(answer.getheader("retry-after") or 0)
            except (http.client.HTTPException, OSError):
                self.close()
                if last:
                    raise
        raise AssertionError

    def infer(self, model: str, rows: np.ndarray, token: str, output: str = "probabilities") -> Answer:
        tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP32", "data": np.asarray(rows, dtype=np.float32).ravel().tolist()}
        body = json.dumps({"inputs": [tensor], "outputs": [{"name": output}]}).encode()
        began = time.monotonic()
        status, said, wait = self.ask("POST", f"/v2/models/{model}/infer", body, token, {"content-type": "application/json"})
        took = time.monotonic() - began
        if status != 200:
            code = json.loads(said).get("code", "") if said[:1] == b"{" else ""
            return Answer(status, None, took, wait, code)
        answer = json.loads(said)["outputs"][0]
        return Answer(200, np.array(answer["data"], dtype=np.float32).reshape(answer["shape"]), took, 0.0)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Hostile:
    """What one attacker sends, and when it was held back first: the seam that an attack's `predict` is."""

    def __init__(self, url: str, ca: str, model: str, tokens: list[str], seconds: float, every: int = 1, most: int = 20) -> None:
        self.wire, self.model, self.tokens, self.every, self.most = Wire(url, ca), model, tokens, every, most
        self.until, self.began = time.monotonic() + seconds, time.monotonic()
        self.requests = self.answered = self.rows = 0
        self.contained: tuple[int, float] | None = None
        self.shut: set[str] = set()
        self.lock = threading.Lock()

    def hold(self) -> None:
        if self.contained is None:
            self.contained = (self.answered, time.monotonic() - self.began)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Scores of rows, asked some at a time. Raises `Over` when no account is answered any more or the time is over."""
        return np.concatenate([self._some(rows[begin : begin + self.most]) for begin in range(0, len(rows), self.most)])

    def _some(self, rows: np.ndarray) -> np.ndarray:
        while True:
            if time.monotonic() > self.until:
                raise Over
            left = [token for token in self.tokens if token not in self.shut]
            if not left:
                raise Over
            token = left[(self.requests // self.every) % len(left)]
            self.requests += 1
            answer = self.wire.infer(self.model, rows, token)
            if answer.status == 200:
                scores = answer.scores
                # One-hot where the model is never so sure: it tells less.
                if scores.shape[1] > 1 and np.all((scores == 0) | (scores == 1)) and answer.seconds > 0.4:
                    self.hold()
                self.answered += 1
                self.rows += len(rows)
                return scores
            if not answer.is_restricted:
                raise RuntimeError(f"the node answered {answer.status} {answer.code}")
            self.hold()
            if answer.status == REFUSED:
                self.shut.add(token)
            else:
                time.sleep(min(answer.retry_after or 0.2, 1.0))


class Over(Exception):
    """No account is answered any more, or the time is over."""
