"""Names by a language model: what a run of them records counts when it is replayed, and nobody is asked."""

import json
from contextlib import suppress
from typing import Any

import pytest
from chat_server import ChatServer
from named import label
from replayed import Replayed, changed, leaves, nothing_differs
from topics import Topics

from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi

OTHER_HASH = "0" * 64

CHANGED: dict[str, Any] = {
    "cluster_run": 99,
    "contents_sha256": OTHER_HASH,
    "level": 2,
    "method": "keywords",
    "model": "other",
    "options": {"temperature": 1},
    "takes_schema": False,
    "showing.characters": 5,
    "showing.items": 2,
    "reading.characters": 9,
    "reading.held_out": 2,
    "reading.read": 3,
    "reading.label_names": ["part"],
    "reading.seed": 1,
}
WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "min_size": (2, "all that were named are larger"),
    "showing.images": (True, "of texts there are none"),
}


@pytest.mark.usefixtures("llm_home")
def test_each_recorded_parameter_counts(
    db: dbapi.Connection, topics: Topics, server: ChatServer
) -> None:
    run_id = label(db, topics).run_id
    asked = len(server.requests)
    db.execute("drop trigger runs_finished_never_change")
    db.commit()
    named = Replayed(db, {"label": run_id})
    then = named.parameters("label")
    listed = {
        name.partition(".")[0] if name.startswith("options") else name for name in leaves(then)
    }
    assert listed | {"options"} == {*CHANGED, *WITHOUT_EFFECT}
    assert nothing_differs(replay(db, run_id))
    counted = []
    for path, value in CHANGED.items():
        with named.recorded("label", changed(then, path, value)), suppress(CannotReplay):
            assert not nothing_differs(replay(db, run_id)), path
        counted.append(path)
    for path, (value, why) in WITHOUT_EFFECT.items():
        with named.recorded("label", changed(then, path, value)):
            assert nothing_differs(replay(db, run_id)), (path, why)
    assert counted == list(CHANGED)
    assert len(server.requests) == asked
    assert json.dumps(named.parameters("label")) == json.dumps(then)
