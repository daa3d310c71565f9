"""`nearsql label --method llm` when models, providers and their answers fail."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
import pytest
from chat_server import NO_REPEAT, ChatServer, Fault, sensible_answer, user_text
from named import label, rows, status
from topics import Topics

from nearsql.pipeline.console import UserError
from nearsql.pipeline.label.levels import Reading
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("llm_home")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, headers=NO_REPEAT),
        Fault(500, headers=NO_REPEAT),
        Fault(503, "<html>overloaded</html>", headers=NO_REPEAT),
        Fault(text="I would rather not say."),
        Fault(text='{"name": "cut o'),
        Fault(text='{"name": "", "summary": "s", "category": "c", "strength": 5}'),
        Fault(text='{"name": "n", "summary": "s", "category": "c", "strength": 11}'),
        Fault(text='{"name": "\\ud800", "summary": "s", "category": "c", "strength": 5}'),
        Fault(text=""),
        Fault(hang_s=20.0, text="too late"),
        Fault(text='{"name": "never', breaks_off=True),
    ],
    ids=lambda fault: str(fault.status or fault.text[:20] or "nothing"),
)
def test_an_error_is_tried_again(
    db: dbapi.Connection, topics: Topics, server: ChatServer, fault: Fault
) -> None:
    times = 1 if fault.hang_s else 2  # a time-out is long enough for a busy machine to answer in
    server.faults += [fault] * times
    timeout = 3.0 if fault.hang_s else 60.0
    result = label(db, topics, level=1, timeout=timeout, retries=2, reading=Reading(held_out=0))
    assert result.counts["named"] == 2
    assert result.counts["retries"] == times
    assert result.counts["requests"] == len(server.requests) == 2 + times
    assert status(db) == ("finished", None)
    # Only answers of use are kept.
    assert db.execute("select count(*) from llm_responses").fetchone() == (2,)
    assert replay(db, result.run_id).is_same


def test_the_client_repeats_by_itself_first(
    db: dbapi.Connection, topics: Topics, server: ChatServer
) -> None:
    server.faults += [Fault(429, headers={"retry-after-ms": "1"})] * 2
    result = label(db, topics, level=1)
    assert len(server.requests) == 6
    assert (result.counts["requests"], result.counts["retries"]) == (4, 0)


def test_pauses_double_and_heed_the_provider(server: ChatServer) -> None:
    from nearsql.pipeline.label.model import CannotAnswer, LanguageModel
    from nearsql.pipeline.label.prompts import Question

    pauses: list[float] = []
    slow_down = {**NO_REPEAT, "retry-after": "5"}
    tomorrow = {**NO_REPEAT, "retry-after": "86400"}
    server.faults += [
        Fault(500, headers=NO_REPEAT),
        Fault(429, headers=slow_down),
        Fault(500, headers=NO_REPEAT),
        Fault(429, headers=tomorrow),
        Fault(429, headers={**NO_REPEAT, "retry-after": "soon"}),
    ]
    model = LanguageModel("tiny", {}, retries=4, backoff=2, pause=pauses.append)
    with pytest.raises(CannotAnswer, match=r"RateLimitError.*asked 5 times"):
        model.ask(Question("hello", {"required": ["name"]}), str)
    assert pauses == [2, 5, 8, 120]


def test_one_cluster_without_an_answer_does_not_stop_the_others(
    db: dbapi.Connection, topics: Topics, server: ChatServer
) -> None:
    server.faults += [Fault(text="no"), Fault(text="no"), Fault(400, "this is against our rules")]
    result = label(db, topics, level=2, retries=1)
    assert status(db) == ("finished", None)
    assert result.counts["named"] == 2
    problems = db.execute("select stage, uri, message from item_errors order by id").fetchall()
    assert [p[:2] for p in problems] == [
        ("name", "cluster 1 of level 2"),
        ("name", "cluster 2 of level 2"),
    ]
    assert problems[0][2] == "the answer is no JSON object: 'no' (asked 2 times)"
    assert "against our rules" in problems[1][2]
    # A request that is refused is not repeated.
    assert len(server.requests) == 2 + 1 + 4
    assert replay(db, result.run_id).is_same
    # Once more: only what is missing is asked.
    again = label(db, topics, level=2)
    assert (again.counts["named"], again.counts["answers"]) == (4, 4)


def test_a_name_that_nobody_judged_is_kept(
    db: dbapi.Connection, topics: Topics, server: ChatServer
) -> None:
    ask = server.answer
    server.answer = lambda request: (
        ask(request) if user_text(request).startswith("Name") else '{"belongs": [99]}'
    )
    result = label(db, topics, level=1, retries=0, max_errors=5)
    assert (result.precision, result.recall) == (None, None)
    for row in rows(db, result.run_id):
        assert row["name"]
        assert row["held_out_precision"] is row["held_out_json"] is None
        assert "belongs has '99', no whole number" in row["held_out_reason"]
    assert replay(db, result.run_id).is_same


def test_it_stops_after_errors_in_a_row_and_goes_on_later(
    db: dbapi.Connection, topics: Topics, server: ChatServer
) -> None:
    server.faults += [None] * 4  # type: ignore[list-item]
    server.always = Fault(503, "down for maintenance", headers=NO_REPEAT)
    with pytest.raises(UserError, match=r"stopped: 2 clusters in a row .*maintenance.* is kept"):
        label(db, topics, retries=1, max_errors=2)
    assert status(db)[0] == "failed"
    (run_id,) = db.execute("select max(id) from runs").fetchone()
    kept = rows(db, run_id)
    assert len(kept) == 2
    assert len(server.requests) == 4 + 2 * 2
    with pytest.raises(CannotReplay, match="failed"):
        replay(db, run_id)
    server.always = None
    result = label(db, topics)
    assert result.run_id == run_id
    found = rows(db, run_id)
    assert found[:2] == kept
    assert len(found) == 6
    assert status(db) == ("finished", None)
    assert db.execute("select count(*) from item_errors").fetchone() == (0,)
    assert len(server.requests) == 8 + 8
    assert result.counts["requests"] == 16
    assert replay(db, run_id).is_same


def test_a_wrong_key_stops_at_once(
    db: dbapi.Connection,
    topics: Topics,
    server: ChatServer,
    llm_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.key = "sesame"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="No key found"):
        label(db, topics, level=1, model="locked")
    assert server.requests == []
    (llm_home / "keys.json").write_text(json.dumps({"tiny": "wrong"}))
    with pytest.raises(UserError, match="Incorrect API key"):
        label(db, topics, level=1, model="locked")
    assert len(server.requests) == 1
    (llm_home / "keys.json").write_text(json.dumps({"tiny": "sesame"}))
    result = label(db, topics, level=1, model="locked")
    assert result.counts["named"] == 2
    # The key is in no row of the file.
    assert not any("sesame" in line for line in db.iterdump())


class Local(llm.Model):
    """A model on this machine: it has neither schemas nor a way to be interrupted."""

    model_id = "local"
    needs_key = None
    delays: list[float] = []  # noqa: RUF012

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str]:
        if self.delays:
            time.sleep(self.delays.pop())
        assert prompt.system
        yield sensible_answer({"messages": [{"content": prompt.prompt}]})


class LocalPlugin:
    @llm.hookimpl
    def register_models(self, register: Any) -> None:
        register(Local())


def test_a_local_model_without_a_server(db: dbapi.Connection, topics: Topics) -> None:
    llm.get_models()  # loads the plugins there are
    plugin = LocalPlugin()
    llm.plugins.pm.register(plugin)
    try:
        Local.delays = [8.0]
        result = label(db, topics, model="local", timeout=2.0)
    finally:
        llm.plugins.pm.unregister(plugin)
    assert result.counts["named"] == 6
    assert result.counts["retries"] == 1
    # It does not say how many tokens that took.
    assert {row["prompt_tokens"] for row in rows(db, result.run_id)} == {None}
    assert replay(db, result.run_id).is_same
