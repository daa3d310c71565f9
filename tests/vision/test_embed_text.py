"""embed_text: a text's place in a space, in SQL, by the model that the space was made with."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from checkpoints import CLIP, MOBILE, TINY, VIT, Checkpoints, pictures
from served import Site, site

from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import clip, text_towers
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_texts
from nearsql.udfs import connection, dbapi, text_functions

PROVERBS = (
    "the early bird catches the worm",
    "birds of a feather flock together",
    "many hands make light work",
    "time and tide wait for no man",
)
SPACE = f"clip:{TINY}"


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch) -> None:
    """Each test begins as a new process would."""
    monkeypatch.setattr(text_towers, "_towers", text_towers.Recent(text_towers.MOST_TOWERS))
    monkeypatch.setattr(text_towers, "_vectors", text_towers.Recent(text_towers.MOST_VECTORS))
    text_towers._hashes.clear()


@pytest.fixture
def proverbs(db: dbapi.Connection, tmp_path: Path) -> dbapi.Connection:
    """The database with four texts, items 1 to 4, in the space `tfidf`."""
    table = tmp_path / "proverbs.jsonl"
    table.write_text("\n".join(json.dumps({"text": text}) for text in PROVERBS))
    ingest_texts(db, table, text="text")
    embed(db, "tfidf")
    return db


@pytest.fixture
def photos(db: dbapi.Connection, checkpoints: Checkpoints) -> dbapi.Connection:
    """The database with six pictures in the space of a small CLIP."""
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")
    embed(db, SPACE, checkpoint=checkpoints.path(TINY))
    return db


def text_vector(db: dbapi.Connection, space: str, text: str) -> np.ndarray:
    (vector,) = db.execute("select embed_text(?, ?)", (space, text)).fetchone()
    return np.frombuffer(vector, "<f4")


def refusal(db: dbapi.Connection, space: Any, text: Any) -> str:
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("select embed_text(?, ?)", (space, text)).fetchone()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("embed_text: ")
    return line


def test_a_text_of_tfidf_has_the_vector_of_the_same_item(proverbs: dbapi.Connection) -> None:
    for item, text in enumerate(PROVERBS, 1):
        (stored,) = proverbs.execute(
            "select vector from vectors where item_id = ?", (item,)
        ).fetchone()
        assert text_vector(proverbs, "tfidf", text).tobytes() == stored
    found = proverbs.execute(
        "select id from knn('tfidf', embed_text('tfidf', 'worms, and the bird that is early'), 2)"
    ).fetchall()
    assert found[0] == (1,)


@pytest.mark.parametrize("name", [CLIP, MOBILE])
def test_text_finds_images_as_numpy_does(
    db: dbapi.Connection, checkpoints: Checkpoints, name: str
) -> None:
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")
    path = checkpoints.path(name)
    space = f"clip:{name}"
    embed(db, space, checkpoint=path)
    network = open_clip.create_model(name, pretrained=str(path)).eval()
    for text in ("a red bus", "two dogs on a beach, at night"):
        with torch.inference_mode():
            tokens = open_clip.get_tokenizer(name)([text])
            expected = network.encode_text(tokens)[0].double().numpy()
        assert np.allclose(text_vector(db, space, text), expected, atol=1e-5, rtol=1e-5)
        images = np.array(
            [
                np.frombuffer(vector, "<f4").astype(float)
                for (vector,) in db.execute("select vector from vectors order by item_id")
            ]
        )
        lengths = np.linalg.norm(images, axis=1) * np.linalg.norm(expected)
        distances = 1 - images @ expected / lengths
        found = db.execute(
            f"select id, distance from knn('{space}', embed_text('{space}', ?), 4) order by rank",
            (text,),
        ).fetchall()
        assert np.allclose([distance for _, distance in found], np.sort(distances)[:4], atol=1e-5)
        assert [item for item, _ in found] == (np.argsort(distances)[:4] + 1).tolist()


def test_the_model_is_loaded_once_and_asked_once_a_text(
    photos: dbapi.Connection, monkeypatch
) -> None:
    loads, asked = [], []
    load, tower_embed = clip.load_text_tower, clip.ClipTextTower.embed

    def counting_load(model):
        loads.append(model.name)
        return load(model)

    def counting_embed(self, text):
        asked.append(text)
        return tower_embed(self, text)

    monkeypatch.setattr(clip, "load_text_tower", counting_load)
    monkeypatch.setattr(clip.ClipTextTower, "embed", counting_embed)
    sql = f"select id, vector_distance(vector, embed_text('{SPACE}', 'a bus')) from vectors"
    assert len(photos.execute(sql).fetchall()) == 6
    (file,) = [row[2] for row in photos.execute("pragma database_list") if row[1] == "main"]
    other = connection.connect(file)
    assert np.array_equal(text_vector(other, SPACE, "a bus"), text_vector(photos, SPACE, "a bus"))
    photos.execute("delete from vectors where item_id = 1")
    photos.commit()
    text_vector(photos, SPACE, "a bus")
    text_vector(other, SPACE, "a car")
    other.close()
    assert loads == [SPACE]
    assert asked.count("a bus") == 1
    assert asked.count("a car") == 1


def test_a_model_that_changes_in_the_file_is_seen(proverbs: dbapi.Connection) -> None:
    before = text_vector(proverbs, "tfidf", "early birds")
    (file,) = [row[2] for row in proverbs.execute("pragma database_list") if row[1] == "main"]
    for writer in (proverbs, connection.connect(file)):
        writer.execute("delete from spaces where name = 'tfidf'")
        writer.commit()
        assert "there is no space 'tfidf'" in refusal(proverbs, "tfidf", "early birds")
        embed(writer, "tfidf", dimensions=2)
        after = text_vector(proverbs, "tfidf", "early birds")
        assert after.shape == (2,)
        assert before.shape == (4,)
    writer.close()


def test_threads_share_one_model(photos: dbapi.Connection, monkeypatch) -> None:
    (file,) = [row[2] for row in photos.execute("pragma database_list") if row[1] == "main"]
    loads = []
    load = clip.load_text_tower

    def counting(model):
        loads.append(model.name)
        return load(model)

    monkeypatch.setattr(clip, "load_text_tower", counting)
    found: dict[int, list[bytes]] = {}
    start = threading.Barrier(8)

    def ask(number: int) -> None:
        opened = connection.connect(file, read_only=True)
        start.wait()
        found[number] = [
            text_vector(opened, SPACE, f"text {(number + n) % 5}").tobytes() for n in range(10)
        ]
        opened.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [text_vector(photos, SPACE, f"text {n}").tobytes() for n in range(5)]
    assert len(found) == 8
    for number, vectors in found.items():
        assert vectors == [expected[(number + n) % 5] for n in range(10)]
    assert loads == [SPACE]


def test_only_so_much_is_kept() -> None:
    recent: text_towers.Recent[int, str] = text_towers.Recent(2)
    for key in (1, 2):
        recent.put(key, str(key))
    assert recent.get(1) == "1"
    recent.put(3, "3")  # 2 was used longest ago
    assert (recent.get(1), recent.get(2), recent.get(3)) == ("1", None, "3")
    assert len(recent) == 2


def test_what_cannot_be_answered_is_a_sentence(
    proverbs: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(proverbs, rows, collection="photos", source="test")
    embed(proverbs, "pixels", size=4)
    embed(proverbs, f"timm:{VIT}", checkpoint=checkpoints.path(VIT), size=32)
    for name, model in (("own", None), ("yolo/gap/p5", "a detector"), ("x", "other")):
        (model_id,) = proverbs.execute(
            "insert into models (name, family) values (?, 'yolo') returning id", (str(model),)
        ).fetchone()
        proverbs.execute(
            "insert into spaces (name, kind, dimensions, metric, model_id)"
            " values (?, 'feature', 3, 'cosine', ?)",
            (name, model_id if model else None),
        )
    proverbs.commit()
    assert proverbs.execute("select embed_text('tfidf', null)").fetchone() == (None,)
    assert "there is no space 'nope': the spaces are " in refusal(proverbs, "nope", "a text")
    assert "there is no space NULL" in refusal(proverbs, None, "a text")
    assert "text must be a text, not ''" in refusal(proverbs, "tfidf", "")
    assert "text must have a word in it" in refusal(proverbs, "tfidf", " \n")
    assert "text must be a text, not 3" in refusal(proverbs, "tfidf", 3)
    unknown = refusal(proverbs, "tfidf", "xylophone")
    assert "'xylophone' has no place in the space: none of its words is in the" in unknown
    for space in ("pixels", f"timm:{VIT}", "own", "yolo/gap/p5", "x"):
        sentence = f"the model of the space '{space}' has no place for texts: embed_text is for"
        assert sentence in refusal(proverbs, space, "a text")


def test_a_checkpoint_that_is_gone_or_another(
    db: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")
    path = Path(shutil.copy(checkpoints.path(TINY), tmp_path / "w.safetensors"))
    embed(db, SPACE, checkpoint=path)
    shutil.copy(checkpoints.path(TINY, 1), path)
    assert "w.safetensors has changed: its SHA-256 is" in refusal(db, SPACE, "a bus")
    path.unlink()
    gone = refusal(db, SPACE, "a bus")
    assert "No such file" in gone
    assert "`nearsql embed` on its space with --checkpoint PATH" in gone
    # As it says: nothing to embed, but now the place is known.
    assert embed(db, SPACE, checkpoint=checkpoints.path(TINY)).run_id is None
    assert text_vector(db, SPACE, "a bus").shape == (32,)


def change_model(db: dbapi.Connection, path: str, value: Any) -> None:
    db.execute(
        "update models set parameters_json = json_set(parameters_json, ?, json(?))",
        (path, json.dumps(value)),
    )
    db.commit()


def test_a_hostile_file_executes_and_fetches_nothing(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path, monkeypatch
) -> None:
    def no_network(*_, **__):
        pytest.fail("it asked the network")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(open_clip, "download_pretrained", no_network)
    (original,) = photos.execute("select parameters_json from models").fetchone()
    proof = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(proof),))

    hostile = tmp_path / "hostile.pt"
    torch.save({"state_dict": Payload()}, hostile)
    sha256 = hashlib.sha256(hostile.read_bytes()).hexdigest()
    photos.execute("update models set checkpoint_sha256 = ?", (sha256,))
    change_model(photos, "$.checkpoint.path", str(hostile))
    assert "is refused: it holds more than tensors" in refusal(photos, SPACE, "a bus")
    assert not proof.exists()

    sha256 = hashlib.sha256(checkpoints.path(TINY).read_bytes()).hexdigest()
    photos.execute("update models set checkpoint_sha256 = ?", (sha256,))
    os.mkfifo(tmp_path / "pipe.pt")
    for path, value, sentence in (
        ("$.architecture", "hf-hub:org/name", "open_clip has no architecture 'hf-hub:org/name'"),
        ("$.architecture", f"local-dir:{tmp_path}", "open_clip has no architecture"),
        ("$.architecture", "roberta-ViT-B-32", "has a text side that open_clip takes from"),
        ("$.architecture", CLIP, f"is no checkpoint of {CLIP}"),
        ("$.architecture", 7, "does not say of which architecture"),
        ("$.checkpoint.path", "/dev/zero", "/dev/zero is no checkpoint"),
        ("$.checkpoint.path", "https://example.org/w.pt", "w.pt cannot be used: .*No such file"),
        ("$.checkpoint.path", str(tmp_path / "pipe.pt"), "not a regular file"),
        ("$.checkpoint", "x", "does not say which checkpoint"),
        ("$", 3, "cannot be loaded"),
        ("$.model", "os:system", "has no place for texts"),
        ("$.model", ["clip"], "has no place for texts"),
        ("$.model", "tfidf", "cannot be loaded"),
    ):
        photos.execute("update models set parameters_json = ?", (original,))
        change_model(photos, path, value)
        assert re.search(sentence, refusal(photos, SPACE, "a bus")), (path, value)
    photos.execute("update models set parameters_json = ?", (original,))
    photos.execute("update models set checkpoint_sha256 = null")
    photos.commit()
    assert "does not say which checkpoint" in refusal(photos, SPACE, "a bus")
    photos.execute("update models set checkpoint_sha256 = ?", (sha256,))
    photos.execute("update spaces set dimensions = 32, metric = 'cosine'")
    photos.commit()
    assert text_vector(photos, SPACE, "a bus").shape == (32,)
    photos.execute("delete from vectors")
    photos.execute("update spaces set dimensions = 31")
    photos.commit()
    assert "gives a text 32 dimensions, and the space has 31" in refusal(photos, SPACE, "a bus")


def test_no_view_and_no_trigger_calls_it(proverbs: dbapi.Connection) -> None:
    proverbs.execute("create view hostile as select embed_text('tfidf', 'early birds')")
    with pytest.raises(dbapi.OperationalError, match="unsafe use of embed_text"):
        proverbs.execute("select * from hostile").fetchall()


def test_without_pytorch_it_says_what_to_install(photos: dbapi.Connection, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "nearsql.pipeline.encoders.clip")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    sentence = refusal(photos, SPACE, "a bus")
    assert "needs open_clip, which is not installed: pip install 'nearsql[vision]'" in sentence


def test_tokenizers_of_another_library_come_from_this_machine_only(monkeypatch) -> None:
    asked: list[dict[str, Any]] = []

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(name: str, **options: Any) -> None:
            asked.append({"name": name, **options})
            raise OSError("it is not in the cache")

    from nearsql.pipeline.console import UserError

    with pytest.raises(UserError, match="needs the tokenizer timm/ViT-B-16-SigLIP: pip install"):
        monkeypatch.setitem(sys.modules, "transformers", None)
        clip._tokenizer("ViT-B-16-SigLIP")
    module = types.ModuleType("transformers")
    module.AutoTokenizer = AutoTokenizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    with pytest.raises(UserError, match="is not on this machine and is not fetched from SQL"):
        clip._tokenizer("ViT-B-16-SigLIP")
    (options,) = asked
    assert options["local_files_only"] is True
    assert options["trust_remote_code"] is False


def test_others_may_offer_text_encoders(proverbs: dbapi.Connection, monkeypatch) -> None:
    class Entry:
        def __init__(self, name: str, encoder: Any) -> None:
            self.name, self._encoder = name, encoder

        def load(self) -> Any:
            return self._encoder

    def offer(*entries: Entry) -> None:
        monkeypatch.setattr(text_functions, "entry_points", lambda group: list(entries))
        text_functions._text_encoders.cache_clear()

    asked = []

    def first(db, space, text):
        asked.append((space, text))

    offer(Entry("b", lambda db, space, text: b"\0\0\x80?" * 4), Entry("a", first))
    assert text_vector(proverbs, "tfidf", "x").tolist() == [1, 1, 1, 1]
    assert asked == [("tfidf", "x")]
    offer()
    assert "no text encoder is installed" in refusal(proverbs, "tfidf", "x")
    monkeypatch.undo()
    text_functions._text_encoders.cache_clear()


def test_in_datasette(photos: dbapi.Connection) -> None:
    (file,) = [row[2] for row in photos.execute("pragma database_list") if row[1] == "main"]
    expected = photos.execute(
        f"select id, rank from knn('{SPACE}', embed_text('{SPACE}', 'a red bus'), 3)"
    ).fetchall()
    opened: Site
    with site(Path(file)) as opened:
        sql = "select id, rank from knn(:space, embed_text(:space, :text), 3)"
        name = Path(file).stem
        answer = opened.query(name, sql, space=SPACE, text="a red bus")
        assert answer.status_code == 200, answer.text
        rows = answer.json()["rows"]
        assert [(row["id"], row["rank"]) for row in rows] == expected
        refused = opened.query(name, sql, space="pixels", text="a red bus")
        assert refused.status_code == 400
        assert "there is no space 'pixels'" in refused.text


def test_sql_functions_import_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys, nearsql\n"
        "db = nearsql.connect(sys.argv[1])\n"
        "assert db.execute(\"select count(*) from pragma_function_list where name = 'embed_text'\")"
        ".fetchone() == (1,)\n"
        "print([m for m in ('torch', 'open_clip', 'timm', 'nearsql.pipeline') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "t.db")], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
