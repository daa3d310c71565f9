"""A language model's server on loopback: OpenAI's chat completions, as much of them as clients use.

Streams by server-sent events when asked to, reports usage, refuses what OpenAI refuses, and can be told to
fail as providers do. What it answers is made from the question, so that it is known and never random.
"""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answerer = Callable[[dict[str, Any]], str]


@dataclass
class Fault:
    """What happens instead of an answer; without a status, `text` is what the model says."""

    status: int | None = None
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0  # before anything is said
    breaks_off: bool = False  # in the middle of its stream


# Clients repeat these by themselves unless they are told not to.
NO_REPEAT = {"x-should-retry": "false"}


@dataclass
class ChatServer:
    """A server that is running; faults are used up from the front, one a request."""

    url: str
    answer: Answerer
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    broken_pipes: int = 0
    key: str | None = None  # requests without it are refused
    always: Fault | None = None  # the fault of all further requests
    slow_s: float = 0.0  # before each answer

    def prompts(self) -> list[str]:
        """What users said, one a request."""
        return [user_text(request) for request in self.requests]


def user_text(request: dict[str, Any]) -> str:
    """The text of the last message, whether it comes alone or with images."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def tokens(text: str) -> int:
    """Words are good enough for tokens."""
    return len(text.split())


def sensible_answer(request: dict[str, Any]) -> str:
    """A name made of the first keyword, or the items that have the first word of the name."""
    prompt = user_text(request)
    if prompt.startswith("Name a group"):
        (keywords,) = re.findall(r"^Words that set it apart: (.*)$", prompt, re.MULTILINE)
        word = json.loads(keywords.split(",")[0])
        taken = len(re.findall(r"The name \".*?\" belongs to a group", prompt))
        return json.dumps(
            {
                "name": f"all about {word}" + " again" * taken,
                "summary": f"They speak of {word}.",
                "category": "things",
                "strength": 8,
            }
        )
    word = re.findall(r"They speak of (.*?)\.", prompt)[0]
    items = re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE)
    return json.dumps({"belongs": [int(number) for number, text in items if word in text]})


@contextmanager
def chat_server(answer: Answerer = sensible_answer) -> Iterator[ChatServer]:
    """Runs a server until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = ChatServer(f"http://127.0.0.1:{server.server_port}/v1", answer)
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def write_models(folder: Path, server: ChatServer) -> None:
    """Makes the folder a home of the llm command that knows this server's models."""
    base = {"model_name": "tiny-1", "api_base": server.url}
    models = [
        {"model_id": "tiny", "supports_schema": True, "aliases": ["little"], **base},
        {"model_id": "plain", **base},
        {"model_id": "unstreamed", "supports_schema": True, "can_stream": False, **base},
        {"model_id": "seeing", "supports_schema": True, "vision": True, **base},
        {"model_id": "locked", "supports_schema": True, "api_key_name": "tiny", **base},
    ]
    folder.mkdir(exist_ok=True)
    # JSON is YAML.
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def end_headers(self) -> None:
        # Clients would keep the connection until they are collected, at whatever time that is.
        self.send_header("connection", "close")
        super().end_headers()

    @property
    def state(self) -> ChatServer:
        return self.server.state  # type: ignore[attr-defined, no-any-return]

    def do_POST(self) -> None:
        state = self.state
        body = self.rfile.read(int(self.headers["content-length"]))
        request = json.loads(body)
        state.requests.append(request)
        state.headers.append({name.lower(): value for name, value in self.headers.items()})
        fault = state.faults.popleft() if state.faults else state.always
        problem = self._problem(request)
        try:
            if problem is not None:
                self._fail(*problem)
            elif fault is None:
                time.sleep(state.slow_s)
                self._say(request, state.answer(request))
            else:
                time.sleep(fault.hang_s)
                if fault.status is not None:
                    self._fail(fault.status, fault.text or "try later", fault.headers)
                else:
                    self._say(request, fault.text, breaks_off=fault.breaks_off)
        except (BrokenPipeError, ConnectionResetError):
            state.broken_pipes += 1
            self.close_connection = True

    def _problem(self, request: dict[str, Any]) -> tuple[int, str] | None:
        """What OpenAI would refuse."""
        if self.path != "/v1/chat/completions":
            return 404, f"no such path: {self.path}"
        given = self.headers.get("authorization", "")
        if self.state.key is not None and given != f"Bearer {self.state.key}":
            return 401, "Incorrect API key provided"
        if request.get("model") != "tiny-1":
            return 404, f"The model {request.get('model')!r} does not exist"
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages or messages[-1].get("role") != "user":
            return 400, "messages must be a list that ends with what a user says"
        format_ = request.get("response_format")
        if format_ is not None:
            schema = format_.get("json_schema", {})
            if format_.get("type") != "json_schema" or not schema.get("name"):
                return 400, "response_format must be a json_schema with a name"
        return None

    def _fail(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"message": message, "type": "error", "param": None, "code": None}
        self._send(status, json.dumps({"error": error}).encode(), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _say(self, request: dict[str, Any], text: str, *, breaks_off: bool = False) -> None:
        prompt = " ".join(user_text({"messages": [message]}) for message in request["messages"])
        usage = {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(text)}
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        common = {"id": "chatcmpl-1", "created": 1700000000, "model": request["model"]}
        if not request.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._send(200, json.dumps(whole).encode(), {})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        half = len(text) // 2
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": ""}, None),
            ({"content": text[:half]}, None),
            ({"content": text[half:]}, None),
            ({}, "stop"),
        ]
        for delta, finish in deltas[:2] if breaks_off else deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            self._event({**common, "object": "chat.completion.chunk", "choices": [choice]})
        if breaks_off:
            self.close_connection = True  # without the chunk that ends the body
            return
        if (request.get("stream_options") or {}).get("include_usage"):
            self._event(
                {**common, "object": "chat.completion.chunk", "choices": [], "usage": usage}
            )
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, value: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
