"""A provider of embeddings on loopback: OpenAI's protocol, as much of it as clients use.

It refuses what OpenAI refuses, in its words, and can be told to fail as providers do. A text's vector is
made of its words, so that it is known and never random.
"""

import base64
import hashlib
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chat_server import Fault

DIMENSIONS = {"text-embedding-3-small": 12, "text-embedding-3-large": 16}
MOST_TOKENS = 50  # of a text; a word is one
MOST_TEXTS = 2048
AGAINST_THE_RULES = "forbidden"


@dataclass
class Provider:
    """A server that is running; faults are used up from the front, one a request."""

    url: str
    key: str = "sesame"
    faults: deque[Fault | None] = field(default_factory=deque)
    always: Fault | None = None  # the fault of all further requests
    requests: list[dict[str, Any]] = field(default_factory=list)

    def texts(self) -> list[list[str]]:
        """What was to be embedded, request by request."""
        return [request["input"] for request in self.requests]


def vector(text: str, dimensions: int) -> list[float]:
    """The sum of a direction for each word, as float32 numbers."""
    total = [0.0] * dimensions
    for word in text.lower().split():
        digest = hashlib.shake_256(word.encode()).digest(dimensions)
        total = [value + (byte - 127.5) / 128 for value, byte in zip(total, digest, strict=True)]
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *total)))


@contextmanager
def provider() -> Iterator[Provider]:
    """Runs a server until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = Provider(f"http://127.0.0.1:{server.server_port}/v1")
    server.state = state  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        state: Provider = self.server.state  # type: ignore[attr-defined]
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state.requests.append(request)
        fault = state.faults.popleft() if state.faults else state.always
        problem = self._problem(state, request)
        try:
            if problem is not None:
                self._fail(*problem)
            elif fault is None:
                self._answer(request)
            else:
                time.sleep(fault.hang_s)
                if fault.status is None:
                    self._send(200, fault.text.encode(), {})
                else:
                    self._fail(fault.status, fault.text or "try later", fault.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _problem(self, state: Provider, request: dict[str, Any]) -> tuple[int, str] | None:
        """What OpenAI would refuse."""
        if self.path != "/v1/embeddings":
            return 404, f"no such path: {self.path}"
        if self.headers.get("authorization") != f"Bearer {state.key}":
            return 401, "Incorrect API key provided"
        if request.get("model") not in DIMENSIONS:
            return 404, f"The model {request.get('model')!r} does not exist"
        texts = request.get("input")
        if not isinstance(texts, list) or not 1 <= len(texts) <= MOST_TEXTS or "" in texts:
            return 400, "'$.input' is invalid"
        longest = max(len(text.split()) for text in texts)
        if longest > MOST_TOKENS:
            return 400, (
                f"This model's maximum context length is {MOST_TOKENS} tokens, however you requested"
                f" {longest} tokens ({longest} in your prompt; 0 for the completion). Please reduce"
                " your prompt; or completion length."
            )
        if any(AGAINST_THE_RULES in text for text in texts):
            return 400, "this is against our rules"
        return None

    def _answer(self, request: dict[str, Any]) -> None:
        dimensions = request.get("dimensions") or DIMENSIONS[request["model"]]
        data = []
        for index, text in enumerate(request["input"]):
            found: Any = vector(text, dimensions)
            if request.get("encoding_format") == "base64":
                found = base64.b64encode(struct.pack(f"<{dimensions}f", *found)).decode()
            data.append({"object": "embedding", "index": index, "embedding": found})
        tokens = sum(len(text.split()) for text in request["input"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        whole = {"object": "list", "data": data, "model": request["model"], "usage": usage}
        self._send(200, json.dumps(whole).encode(), {})

    def _fail(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        code = "insufficient_quota" if "quota" in message else None
        error = {"message": message, "type": "error", "param": None, "code": code}
        self._send(status, json.dumps({"error": error}).encode(), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        # Clients would keep the connection until they are collected, at whatever time that is.
        self.send_header("connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
