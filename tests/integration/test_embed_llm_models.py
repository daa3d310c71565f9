"""`nearsql embed --model llm:NAME`: the real llm library and OpenAI's client, and a provider on loopback."""

import json
import ssl
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llm
import numpy as np
import pytest
from chat_server import NO_REPEAT, Fault
from click.testing import CliRunner
from embedding_server import MOST_TOKENS, Provider, provider, vector

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import EmbedResult, embed
from nearsql.pipeline.encoders import llm_models, llm_requests, text_towers
from nearsql.pipeline.ingest import ingest_texts
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi

LARGE = "llm:text-embedding-3-large"
ROWS: list[dict[str, Any]] = [
    {"title": "Birds", "body": "the early bird catches the worm"},
    {"title": "", "body": "many hands make light work"},
    {"title": 7, "body": "time and tide wait for no man"},
    {"body": "a stitch in time saves nine"},
    {"headline": "Water", "body": "still waters run deep"},
]
READ = ["Birds\n\n" + ROWS[0]["body"], *(row["body"] for row in ROWS[1:])]

one_ssl_context = cache(ssl.create_default_context)


@pytest.fixture
def server() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(autouse=True)
def llm_home(server: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the llm command, with the key; OpenAI's client asks our server, and nobody waits."""
    home = tmp_path / "llm"
    home.mkdir()
    (home / "keys.json").write_text(json.dumps({"openai": server.key}))
    monkeypatch.setenv("LLM_USER_PATH", str(home))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv(llm_models.ALLOWED_IN_SQL, raising=False)
    monkeypatch.setattr(ssl, "create_default_context", one_ssl_context)
    monkeypatch.setattr(llm_requests, "BACKOFF_S", 0.0)
    monkeypatch.setattr(text_towers, "_towers", text_towers.Recent(text_towers.MOST_TOWERS))
    monkeypatch.setattr(text_towers, "_vectors", text_towers.Recent(text_towers.MOST_VECTORS))
    return home


def add(db: dbapi.Connection, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    table = tmp_path / "texts.jsonl"
    table.write_text("\n".join(json.dumps(row) for row in rows))
    ingest_texts(db, table, text="body")


@pytest.fixture
def proverbs(db: dbapi.Connection, tmp_path: Path) -> dbapi.Connection:
    add(db, tmp_path, ROWS)
    return db


def vectors(db: dbapi.Connection, space: str) -> dict[int, np.ndarray]:
    rows = db.execute(
        "select v.item_id, v.vector from vectors v join spaces s on s.id = v.space_id"
        " where s.name = ? order by v.item_id",
        (space,),
    )
    return {item_id: np.frombuffer(found, "<f4") for item_id, found in rows}


def expected(texts: list[str], dimensions: int = 16) -> np.ndarray:
    return np.array([vector(text, dimensions) for text in texts], "<f4")


def done(result: EmbedResult) -> dict[str, float]:
    return {name: n for name, n in result.counts.items() if n}


def run_row(db: dbapi.Connection) -> Any:
    return db.execute(
        "select status, error, counts_json, parameters_json from runs where kind = 'embed'"
        " order by id desc limit 1"
    ).fetchone()


def test_titles_batches_and_what_is_recorded(proverbs: dbapi.Connection, server: Provider) -> None:
    result = embed(proverbs, "llm:3-large", batch_size=2)
    assert result.space == "llm:3-large"
    assert result.dimensions == 16
    # The probe is of the fit, and of no run.
    assert done(result) == {"vectors": 5, "requests": 3}
    assert server.texts() == [["a"], READ[:2], READ[2:4], READ[4:]]
    assert {request["model"] for request in server.requests} == {"text-embedding-3-large"}
    found = vectors(proverbs, "llm:3-large")
    assert np.array_equal(np.array(list(found.values())), expected(READ))
    status, _, _, parameters = run_row(proverbs)
    assert status == "finished"
    assert json.loads(parameters)["model_parameters"] == {
        "model": LARGE,
        "options": {"title": "title"},
        "dimensions": 16,
    }
    assert proverbs.execute(
        "select m.name, m.family, s.metric from spaces s join models m on m.id = s.model_id"
    ).fetchall() == [(LARGE, "text", "cosine")]
    assert embed(proverbs, LARGE, space="llm:3-large").run_id is None
    assert result.run_id is not None
    assert replay(proverbs, result.run_id).is_same
    # The key is in no row of the file.
    assert not any("sesame" in line for line in proverbs.iterdump())


def test_another_title_and_fewer_dimensions(proverbs: dbapi.Connection, server: Provider) -> None:
    embed(proverbs, LARGE, space="untitled", title="")
    assert server.texts()[-1] == [row["body"] for row in ROWS]
    embed(proverbs, LARGE, space="headlines", title="headline")
    assert server.texts()[-1][-1] == "Water\n\nstill waters run deep"
    with pytest.raises(UserError, match="--title headline, not title"):
        embed(proverbs, LARGE, space="headlines", title="title")
    small = embed(proverbs, "llm:3-large-256")
    assert small.dimensions == 256
    assert server.requests[-1]["dimensions"] == 256
    names = proverbs.execute("select name from models order by name").fetchall()
    assert names == [
        (LARGE + " with the title ''",),
        (LARGE + " with the title 'headline'",),
        (LARGE + "-256",),
    ]


def answer(embeddings: list[Any]) -> str:
    data = [{"object": "embedding", "index": n, "embedding": e} for n, e in enumerate(embeddings)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": usage})


FAULTS = {
    "rate limit": (Fault(429, headers=NO_REPEAT), "RateLimitError"),
    "error": (Fault(500, headers=NO_REPEAT), "InternalServerError"),
    "overloaded": (Fault(503, "<html>overloaded</html>", headers=NO_REPEAT), "overloaded"),
    "too late": (Fault(hang_s=3.0, text="{}"), "no answer within 1 s"),
    "no JSON": (Fault(text="<html>welcome</html>"), "Error"),
    "cut off": (Fault(text='{"object": "list", "data": [{"emb'), "Error"),
    "no data": (Fault(text='{"object": "list", "data": []}'), "No embedding data"),
    "too few": (Fault(text=answer([[1.0] * 16])), "1 vectors came for 5 texts"),
    "too many": (Fault(text=answer([[1.0] * 16] * 6)), "6 vectors came for 5 texts"),
    "too short": (Fault(text=answer([[1.0] * 3] * 5)), "vectors of 3 dimensions came, not 16"),
    "ragged": (Fault(text=answer([[1.0] * 16] * 4 + [[1.0]])), "what came is no vectors"),
    "empty": (Fault(text=answer([[]] * 5)), "what came is no vectors"),
    "infinite": (Fault(text=answer([[1e39] * 16] * 5)), "no finite number"),
    "words": (Fault(text=answer([["one"] * 16] * 5)), "ValueError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_is_tried_again_and_told_when_it_stays(
    proverbs: dbapi.Connection, server: Provider, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, sentence = FAULTS[name]
    if fault.hang_s:
        monkeypatch.setattr(llm_requests, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(llm_requests, "RETRIES", 1)
    server.faults += [None, fault, fault]
    with pytest.raises(UserError, match=r"asked 2 times.*run this again") as stopped:
        embed(proverbs, LARGE)
    assert sentence in str(stopped.value)
    status, error, counts, _ = run_row(proverbs)
    assert status == "failed"
    assert sentence in error
    assert json.loads(counts) | {"requests": 2, "retries": 1} == json.loads(counts)
    assert vectors(proverbs, LARGE) == {}
    # Once it goes wrong only once, nobody notices.
    server.faults += [fault]
    result = embed(proverbs, LARGE)
    assert done(result) == {"vectors": 5, "requests": 2, "retries": 1}
    assert np.array_equal(np.array(list(vectors(proverbs, LARGE).values())), expected(READ))


def test_pauses_double_and_heed_the_provider(server: Provider, monkeypatch) -> None:
    monkeypatch.setattr(llm_requests, "BACKOFF_S", 2.0)
    pauses: list[float] = []
    asked = llm_requests.Asked(llm.get_embedding_model("3-large"), retries=4, pause=pauses.append)
    server.faults += [
        Fault(500, headers=NO_REPEAT),
        Fault(429, headers={**NO_REPEAT, "retry-after": "5"}),
        Fault(500, headers=NO_REPEAT),
        Fault(429, headers={**NO_REPEAT, "retry-after": "86400"}),
    ]
    (got,) = asked.vectors(["hello"])
    assert got.vector is not None
    assert pauses == [2, 5, 8, 120]
    assert (asked.requests, asked.retries) == (5, 4)


def test_long_and_refused_texts(
    db: dbapi.Connection, tmp_path: Path, server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = " ".join(f"word{n}" for n in range(3 * MOST_TOKENS))
    texts = [f"text {n}" for n in range(6)]
    texts[2], texts[4] = long, "this is forbidden here"
    add(db, tmp_path, [{"body": text} for text in texts])
    result = embed(db, LARGE)
    assert {k: n for k, n in done(result).items() if k != "requests"} == {
        "vectors": 5,
        "errors": 1,
        "truncated": 1,
    }
    problems = db.execute("select item_id, stage, message from item_errors order by 1").fetchall()
    assert [row[:2] for row in problems] == [(3, "truncated"), (5, "embed")]
    read = max((t for (t, *_) in server.texts()[1:] if t.startswith("word0")), key=len)
    kept = [t[0] for t in server.texts() if len(t) == 1 and long.startswith(t[0]) and t[0] != long]
    assert problems[0][2] == (
        f"the model reads no more than the first {len(kept[-1]):,} of its {len(long):,} characters"
    )
    assert read == long
    assert MOST_TOKENS // 2 < len(kept[-1].split()) <= MOST_TOKENS
    assert "against our rules" in problems[1][2]
    found = vectors(db, LARGE)
    assert np.array_equal(found[3], expected(kept[-1:])[0])
    assert np.array_equal(found[6], expected(["text 5"])[0])
    # Neither is tried again.
    again = embed(db, LARGE)
    assert (again.run_id, done(again)) == (None, {"already": 5, "left_out": 1})
    assert result.run_id is not None
    # Bounds on requests are those of bytes, too; a text that may be too long goes alone.
    monkeypatch.setattr(llm_requests, "_MOST_BYTES_A_REQUEST", 20)
    monkeypatch.setattr(llm_requests, "_BYTES_THAT_GO_ALONE", 100)
    n = len(server.requests)
    embed(db, LARGE, space="small requests")
    assert server.texts()[n + 1 : n + 3] == [["text 0", "text 1"], [long]]
    assert vectors(db, "small requests").keys() == found.keys()
    assert all(np.array_equal(vectors(db, "small requests")[i], found[i]) for i in found)


def test_a_provider_that_refuses_everything_stops_it(
    proverbs: dbapi.Connection, server: Provider
) -> None:
    server.faults += [None]
    server.always = Fault(400, "your organisation must be verified")
    with pytest.raises(UserError, match=r"refused each of 5 texts.*must be verified"):
        embed(proverbs, LARGE)
    assert proverbs.execute("select count(*) from item_errors").fetchone() == (0,)
    server.always = None
    assert done(embed(proverbs, LARGE))["vectors"] == 5


def test_an_outage_in_the_middle_and_run_again(
    proverbs: dbapi.Connection, server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_requests, "RETRIES", 1)
    server.faults += [None, None]
    server.always = Fault(503, "down for maintenance", headers=NO_REPEAT)
    with pytest.raises(UserError, match="down for maintenance"):
        embed(proverbs, LARGE, batch_size=2)
    assert list(vectors(proverbs, LARGE)) == [1, 2]
    server.always = None
    n = len(server.requests)
    result = embed(proverbs, LARGE, batch_size=2)
    assert server.texts()[n:] == [READ[2:4], READ[4:]]
    assert done(result) == {"vectors": 3, "already": 2, "requests": 2}
    assert np.array_equal(np.array(list(vectors(proverbs, LARGE).values())), expected(READ))
    assert result.run_id is not None
    assert replay(proverbs, result.run_id).is_same


def test_keys_and_quota(proverbs: dbapi.Connection, server: Provider, llm_home: Path) -> None:
    (llm_home / "keys.json").unlink()
    with pytest.raises(UserError, match="answers nothing: No key found"):
        embed(proverbs, LARGE)
    assert server.requests == []
    (llm_home / "keys.json").write_text(json.dumps({"openai": "wrong"}))
    with pytest.raises(UserError, match="Incorrect API key"):
        embed(proverbs, LARGE)
    assert len(server.requests) == 1
    (llm_home / "keys.json").write_text(json.dumps({"openai": server.key}))
    server.faults += [Fault(429, "You exceeded your current quota", headers=NO_REPEAT)]
    with pytest.raises(UserError, match="exceeded your current quota"):
        embed(proverbs, LARGE)
    assert len(server.requests) == 2
    assert proverbs.execute("select count(*) from spaces").fetchone() == (0,)


def test_the_command(database: Path, proverbs: dbapi.Connection, monkeypatch) -> None:
    def nearsql(*words: str) -> Any:
        return CliRunner().invoke(cli, [words[0], str(database), *words[1:]])

    made = nearsql("embed", "--model", "llm:3-small")
    assert made.exit_code == 0, made.output
    assert made.stdout == ""
    # Of 137 bytes; what a server of our own costs, nobody knows.
    said = "that is about 34 tokens (4 bytes each) for text-embedding-3-small\n"
    assert said in made.stderr
    assert "requests           1" in made.stderr
    for words, sentence in (
        (
            ("llm:nope",),
            "the llm library knows no embedding model 'nope': `llm embed-models` lists",
        ),
        (("llm",), "say which embedding model"),
        (("llm:3-small", "--device", "cuda"), "--device is auto"),
        (("llm:3-small", "--size", "3"), "llm:3-small has no --size: it has --title"),
        (("tfidf", "--title", "x"), "tfidf has no --title"),
    ):
        refused = nearsql("embed", "--model", *words)
        assert refused.exit_code == 1
        assert sentence in str(refused.exception) + refused.stderr
    llm.set_default_embedding_model("3-small")
    assert nearsql("embed", "--model", "llm", "--space", "llm:3-small").exit_code == 0
    monkeypatch.delenv("OPENAI_BASE_URL")
    model = llm.get_embedding_model("3-large")
    told = llm_models.LlmEncoder(llm_requests.Asked(model, 3072), "").forecast(9, 40_000_000)
    assert told == (
        "that is about 10.0 million tokens (4 bytes each) for text-embedding-3-large, about $1.3000"
        " at $0.13 a million (OpenAI, 2025)"
    )


def test_embed_text_asks_only_where_it_may(
    proverbs: dbapi.Connection, server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(proverbs, LARGE)
    n = len(server.requests)
    sql = f"select embed_text('{LARGE}', ?)"
    with pytest.raises(dbapi.OperationalError, match="set NEARSQL_LLM_IN_SQL=1 where SQL may"):
        proverbs.execute(sql, ("many hands",)).fetchone()
    assert len(server.requests) == n
    monkeypatch.setenv(llm_models.ALLOWED_IN_SQL, "1")
    (found,) = proverbs.execute(sql, ("many hands",)).fetchone()
    assert np.array_equal(np.frombuffer(found, "<f4"), expected(["many hands"])[0])
    nearest = f"select id from knn('{LARGE}', embed_text('{LARGE}', 'light work, many hands'), 1)"
    assert proverbs.execute(nearest).fetchone() == (2,)
    with pytest.raises(
        dbapi.OperationalError, match=r"has no place in the space.*against our rules"
    ):
        proverbs.execute(sql, ("forbidden",)).fetchone()
    server.always = Fault(503, headers=NO_REPEAT)
    with pytest.raises(dbapi.OperationalError, match=r"takes no texts now.*asked 2 times"):
        proverbs.execute(sql, ("other words",)).fetchone()
    # What was found stays found.
    assert proverbs.execute(sql, ("many hands",)).fetchone() == (found,)


class Local(llm.EmbeddingModel):
    """A model on this machine, of a plugin of the older kind, that takes any number of texts."""

    model_id = "local"
    supports_binary = True
    sizes: list[int] = []  # noqa: RUF012

    def embed_batch(self, items: Any) -> Iterator[list[float]]:  # type: ignore[override]
        texts = list(items)
        self.sizes.append(len(texts))
        return (vector(text, 5) for text in texts)


class OnlyImages(Local):
    model_id = "images"
    supports_text = False


class Plugin:
    @llm.hookimpl
    def register_embedding_models(self, register: Any) -> None:
        register(Local(), aliases=("near",))
        register(OnlyImages())


def test_models_of_plugins(proverbs: dbapi.Connection, server: Provider) -> None:
    llm.get_embedding_models()  # loads the plugins there are
    plugin = Plugin()
    llm.plugins.pm.register(plugin)
    Local.sizes.clear()
    try:
        embed(proverbs, "llm:near", batch_size=4)
        with pytest.raises(UserError, match="'images' embeds no texts"):
            embed(proverbs, "llm:images")
    finally:
        llm.plugins.pm.unregister(plugin)
    assert Local.sizes == [1, 4, 1]
    assert server.requests == []
    assert np.array_equal(np.array(list(vectors(proverbs, "llm:near").values())), expected(READ, 5))
    # A file may name a model that is not here.
    proverbs.execute("delete from vectors where item_id = 1")
    proverbs.commit()
    with pytest.raises(UserError, match="knows no embedding model 'near'"):
        embed(proverbs, "llm:near")
