"""Items into vectors: what is written, what is left to the next run, and that it can be replayed."""

import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearsql.pipeline import embed_spaces, replay
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import EmbedResult, embed
from nearsql.pipeline.encoders import Model, pixels
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_images, ingest_texts
from nearsql.udfs import connection, dbapi


def picture(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def add_pictures(db: dbapi.Connection, seeds: range, collection: str = "digits") -> None:
    rows = [(f"memory:{seed}", png(picture(seed)), {}, {}) for seed in seeds]
    ingest_image_bytes(db, rows, collection=collection, source="test")


def vectors(db: dbapi.Connection, space: str) -> dict[int, np.ndarray]:
    rows = db.execute(
        "select v.item_id, v.vector from vectors v join spaces s on s.id = v.space_id"
        " where s.name = ? order by v.item_id",
        (space,),
    )
    return {item_id: np.frombuffer(vector, "<f4") for item_id, vector in rows}


def n_runs(db: dbapi.Connection) -> int:
    return db.execute("select count(*) from runs where kind = 'embed'").fetchone()[0]


def done(result: EmbedResult) -> dict[str, float]:
    return {name: n for name, n in result.counts.items() if n}


@pytest.fixture
def reviews(db: dbapi.Connection, tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(
        "body\nthe cat sat on the mat\na cat and a dog\ndogs chase cats\n"
        "stocks fell on monday\nthe market and the stocks rose\n? ! ?\n"
    )
    ingest_texts(db, path, text="body")
    return path


def test_pixels_of_stored_images(db: dbapi.Connection) -> None:
    add_pictures(db, range(10))
    result = embed(db, "pixels", collection="digits", batch_size=3)
    assert (result.space, result.dimensions, done(result)) == (
        "digits/pixels",
        256,
        {"vectors": 10},
    )
    found = vectors(db, "digits/pixels")
    assert list(found) == list(range(1, 11))
    for item_id, vector in found.items():
        assert np.array_equal(vector, (picture(item_id - 1).astype("f4") / 255).ravel())
    assert db.execute(
        "select s.kind, s.metric, s.dimensions, s.run_id, m.name, m.family, m.parameters_json"
        " from spaces s join models m on m.id = s.model_id"
    ).fetchall() == [
        (
            "embedding",
            "l2",
            256,
            result.run_id,
            "pixels:16",
            "pixels",
            '{"mode": "L", "model": "pixels", "options": {"size": 16}, "resampling": "box"}',
        )
    ]
    status, parameters, sha256, versions = db.execute(
        "select status, parameters_json, result_sha256, versions_json from runs where id = ?",
        (result.run_id,),
    ).fetchone()
    assert status == "finished"
    assert json.loads(parameters)["model_parameters"]["options"] == {"size": 16}
    assert "pillow" in json.loads(versions)
    assert len(sha256) == 64
    assert db.execute("select kind, name, rows from run_inputs where run_id = 2").fetchall() == [
        ("collection", "digits", 10)
    ]


def test_again_does_nothing_and_new_items_are_added(db: dbapi.Connection) -> None:
    add_pictures(db, range(4))
    embed(db, "pixels")
    before = vectors(db, "pixels")
    again = embed(db, "pixels")
    assert again.run_id is None
    assert done(again) == {"already": 4}
    assert n_runs(db) == 1
    add_pictures(db, range(2, 7))
    more = embed(db, "pixels")
    assert done(more) == {"vectors": 3, "already": 4}
    after = vectors(db, "pixels")
    assert list(after) == list(range(1, 8))
    assert all(np.array_equal(after[i], before[i]) for i in before)
    assert db.execute("select run_id, count(*) from vectors group by 1 order by 1").fetchall() == [
        (2, 4),
        (4, 3),
    ]


def test_a_deleted_vector_is_work_again(db: dbapi.Connection) -> None:
    add_pictures(db, range(4))
    embed(db, "pixels")
    before = vectors(db, "pixels")
    db.execute("delete from vectors where item_id in (2, 3)")
    db.commit()
    assert done(embed(db, "pixels")) == {"vectors": 2, "already": 2}
    after = vectors(db, "pixels")
    assert all(np.array_equal(after[i], before[i]) for i in before)


def test_collections_and_sizes_have_spaces_of_their_own(db: dbapi.Connection) -> None:
    add_pictures(db, range(3), "a")
    add_pictures(db, range(2), "b")
    assert done(embed(db, "pixels", collection="a")) == {"vectors": 3}
    assert done(embed(db, "pixels", collection="b")) == {"vectors": 2}
    assert done(embed(db, "pixels", size=4, space="small")) == {"vectors": 5}
    # One model of a size, however many spaces it fills.
    assert db.execute("select name from models order by 1").fetchall() == [
        ("pixels:16",),
        ("pixels:4",),
    ]
    # A space may take in another collection, and is asked for what it lacks of it.
    assert done(embed(db, "pixels", collection="b", space="a/pixels")) == {"vectors": 2}
    assert len(vectors(db, "a/pixels")) == 5


def test_files_on_disk_are_read_upright_and_must_be_the_same(
    db: dbapi.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "pics"
    folder.mkdir()
    values = picture(1)
    turned = Image.fromarray(values).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees clockwise: back to `values`
    turned.save(folder / "a.png", exif=exif)
    for name in "bcd":
        Image.fromarray(picture(ord(name))).save(folder / f"{name}.png")
    ingest_images(db, folder)
    Image.fromarray(picture(99)).save(folder / "b.png")
    (folder / "c.png").unlink()
    result = embed(db, "pixels")
    assert done(result) == {"vectors": 2, "errors": 2}
    assert np.array_equal(vectors(db, "pixels")[1], (values.astype("f4") / 255).ravel())
    errors = db.execute(
        "select item_id, stage, message from item_errors order by item_id"
    ).fetchall()
    assert [(item, stage) for item, stage, _ in errors] == [(2, "read"), (3, "read")]
    assert "changed on disk since it was ingested" in errors[0][2]
    assert "cannot be opened" in errors[1][2]
    # A file that comes back is read by the next run.
    Image.fromarray(picture(ord("c"))).save(folder / "c.png")
    assert done(embed(db, "pixels")) == {"vectors": 1, "errors": 1, "already": 2}


def test_a_path_in_the_database_opens_only_regular_files(db: dbapi.Connection) -> None:
    add_pictures(db, range(1))
    db.execute(
        "insert into items (kind, collection, sha256, uri, width, height, sequence_number)"
        " values ('image', 'digits', ?, '/dev/zero', 9, 9, 5)",
        ("0" * 64,),
    )
    db.execute(
        "insert into items (kind, collection, sha256, uri, width, height, sequence_number)"
        " values ('image', 'digits', ?, null, 9, 9, 6)",
        ("1" * 64,),
    )
    db.commit()
    assert done(embed(db, "pixels")) == {"vectors": 1, "errors": 2}
    messages = [m for (m,) in db.execute("select message from item_errors order by item_id")]
    assert messages[0] == "it is not a regular file"
    assert messages[1] == "neither the database nor any file has its bytes"


def test_content_that_cannot_be_encoded_is_not_tried_again(db: dbapi.Connection) -> None:
    add_pictures(db, range(2))
    broken = b"no image"
    item = db.execute(
        "insert into items (kind, collection, sha256, width, height, sequence_number)"
        " values ('image', 'digits', ?, 9, 9, 5)",
        (hashlib.sha256(broken).hexdigest(),),
    ).lastrowid
    db.execute("insert into item_images values (?, 'image/png', ?)", (item, broken))
    db.commit()
    assert done(embed(db, "pixels")) == {"vectors": 2, "errors": 1}
    again = embed(db, "pixels")
    assert (again.run_id, done(again)) == (None, {"already": 2, "left_out": 1})
    # Another space has errors of its own, and so has a new space of the old name.
    assert done(embed(db, "pixels", space="other")) == {"vectors": 2, "errors": 1}
    db.execute("delete from spaces where name = 'pixels'")
    db.commit()
    assert done(embed(db, "pixels")) == {"vectors": 2, "errors": 1}


def test_tfidf(db: dbapi.Connection, reviews: Path) -> None:
    result = embed(db, "tfidf", collection="reviews", seed=5)
    assert done(result) == {"vectors": 5, "errors": 1}
    found = vectors(db, "reviews/tfidf")
    matrix = np.array(list(found.values()))
    assert matrix.shape == (5, result.dimensions)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
    similarity = matrix @ matrix.T
    assert similarity[0, 1] > similarity[0, 3]
    parameters, seed, model = db.execute(
        "select r.parameters_json, r.seed, m.name from runs r join models m on m.id = r.model_id"
        " where r.id = ?",
        (result.run_id,),
    ).fetchone()
    assert (seed, model) == (5, "tfidf:reviews/tfidf")
    effective = json.loads(parameters)["model_parameters"]
    assert effective["dimensions"] == result.dimensions == 5
    assert effective["options"] == {"dimensions": 128, "max_features": 20000, "seed": 5}
    assert effective["min_df"] == 1
    assert db.execute("select name from model_arrays order by 1").fetchall() == [
        ("directions",),
        ("idf",),
        ("vocabulary",),
    ]


def test_texts_added_later_are_measured_with_the_same_ruler(
    db: dbapi.Connection, reviews: Path
) -> None:
    embed(db, "tfidf")
    before = vectors(db, "tfidf")
    with reviews.open("a") as file:
        file.write("the stocks and the market rose\nzebra xylophone\n")
    ingest_texts(db, reviews, text="body")
    later = embed(db, "tfidf")
    assert done(later) == {"vectors": 1, "errors": 1, "already": 5, "left_out": 1}
    after = vectors(db, "tfidf")
    assert all(np.array_equal(after[i], before[i]) for i in before)
    # The same words in another order are the same vector, though the fit never saw this text.
    assert np.allclose(after[7], after[5], atol=1e-6)
    assert db.execute("select count(*) from models").fetchone() == (1,)


def test_a_new_fit_leaves_the_old_one_to_the_runs_it_made(
    db: dbapi.Connection, reviews: Path
) -> None:
    embed(db, "tfidf", dimensions=2)
    db.execute("delete from spaces")
    db.commit()
    second = embed(db, "tfidf", dimensions=3)
    assert second.dimensions == 3
    assert db.execute("select name from models order by 1").fetchall() == [
        ("tfidf:tfidf",),
        ("tfidf:tfidf#2",),
    ]
    assert embed(db, "tfidf").run_id is None


def test_a_space_made_in_another_way_is_refused(db: dbapi.Connection, reviews: Path) -> None:
    add_pictures(db, range(2))
    embed(db, "pixels", space="s", size=8)
    embed(db, "tfidf", space="t")
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('own', 'embedding', 3, 'l2')"
    )
    db.commit()
    for model, options, sentence in (
        ("pixels", {"space": "s", "size": 16}, "made with --size 8, not 16.*--space"),
        ("tfidf", {"space": "s"}, "made by pixels:8, not by tfidf.*--space"),
        ("tfidf", {"space": "t", "dimensions": 2}, "--dimensions 128, not 2"),
        ("tfidf", {"space": "t", "seed": 1}, "--seed 0, not 1"),
        ("pixels", {"space": "own"}, "not made by a model.*--space"),
        ("pixels", {"collection": "reviews"}, "'reviews' has no images.*'digits' .2 images."),
        ("pixels", {"collection": "nope"}, "'nope' has no images"),
        ("klip", {}, "the models are clip, dino, llm, pixels, text, tfidf, timm"),
        ("pixels", {"device": "cuda"}, "--device is auto, cpu"),
        ("pixels", {"checkpoint": "x.pt"}, "no --checkpoint: it has --size"),
        ("pixels", {"dimensions": 3}, "no --dimensions"),
        ("pixels", {"size": 1000, "space": "u"}, "from 1 to 256"),
        ("pixels", {"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            embed(db, model, **options)
    assert n_runs(db) == 2
    # What is not asked for follows the space.
    assert embed(db, "pixels", space="s").dimensions == 64


def test_a_model_whose_arrays_were_tampered_with(db: dbapi.Connection, reviews: Path) -> None:
    made = embed(db, "tfidf")
    db.execute("delete from vectors where item_id = 1")
    db.execute("update model_arrays set data = substr(data, 1, 200) where name = 'directions'")
    db.commit()
    with pytest.raises(UserError, match="the model 'tfidf:tfidf' cannot be loaded"):
        embed(db, "tfidf")
    assert made.run_id is not None
    with pytest.raises(replay.CannotReplay, match="cannot be loaded"):
        replay.replay(db, made.run_id)


def test_two_processes_that_make_the_same_space(db: dbapi.Connection, monkeypatch) -> None:
    add_pictures(db, range(2))

    def fit_while_another_is_quicker(name, space, options, corpus) -> Model:
        monkeypatch.undo()
        embed(db, "pixels")
        return pixels.fit(name, space, options, corpus)

    monkeypatch.setattr(pixels, "fit", fit_while_another_is_quicker)
    with pytest.raises(UserError, match="another process has just made"):
        embed(db, "pixels")
    assert db.execute("select status from runs where kind = 'embed' order by id").fetchall() == [
        ("finished",),
        ("failed",),
    ]


def test_an_empty_database(db: dbapi.Connection) -> None:
    with pytest.raises(UserError, match="run `nearsql ingest` first"):
        embed(db, "pixels")


def test_replay(db: dbapi.Connection, reviews: Path) -> None:
    add_pictures(db, range(5))
    first = embed(db, "pixels", batch_size=2)
    add_pictures(db, range(5, 8))
    second = embed(db, "pixels", batch_size=2)
    texts = embed(db, "tfidf", batch_size=2)
    for result in (first, second, texts):
        assert result.run_id is not None
        assert replay.replay(db, result.run_id).is_same
    db.execute("update vectors set vector = zeroblob(1024) where item_id = 13")
    db.commit()
    assert replay.replay(db, second.run_id).is_same  # it says what the run gave, not what is there
    db.execute("delete from vectors where item_id = 13")
    db.commit()
    assert not replay.replay(db, second.run_id).is_same
    db.execute("update item_images set data = x'00' where item_id = 7")
    db.commit()
    with pytest.raises(
        replay.CannotReplay, match=r"item 7 \(memory:0\): it changed in the database"
    ):
        replay.replay(db, first.run_id)


def test_saved_models_are_found_by_name_and_parameters(db: dbapi.Connection) -> None:
    plain = Model("m", "other", {"a": 1})
    assert embed_spaces.save_model(db, plain) == embed_spaces.save_model(db, plain)
    with pytest.raises(UserError, match="another model called 'm'"):
        embed_spaces.save_model(db, Model("m", "other", {"a": 2}))


KILLED = """
import sys, time
from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import {model}
from nearsql.udfs import connection

encode = {model}.{encoder}.__call__

def slowly(self, batch):
    time.sleep(0.05)
    return encode(self, batch)

{model}.{encoder}.__call__ = slowly
embed(connection.connect(sys.argv[1]), "{model}", batch_size=4)
"""


@pytest.mark.parametrize(
    ("model", "encoder"), [("pixels", "PixelsEncoder"), ("tfidf", "TfidfEncoder")]
)
def test_killed_in_the_middle_and_run_again(tmp_path: Path, model: str, encoder: str) -> None:
    opened = [connection.create(tmp_path / name) for name in ("whole.db", "killed.db")]
    table = tmp_path / "t.csv"
    table.write_text(
        "t\n" + "".join(f"word{n % 7} text {n} number{n % 11}\n" for n in range(60)) + "?\n"
    )
    for db in opened:
        add_pictures(db, range(60))
        ingest_texts(db, table, text="t")
    embed(opened[0], model, batch_size=4)

    code = KILLED.format(model=model, encoder=encoder)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "killed.db")])
    db = opened[1]
    deadline = time.monotonic() + 30
    while db.execute("select count(*) from vectors").fetchone()[0] < 8:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = db.execute("select count(*) from vectors").fetchone()
    assert 8 <= left < 60
    assert left % 4 == 0  # whole batches only

    result = embed(db, model, batch_size=4)
    assert result.counts["already"] == left
    whole, resumed = vectors(opened[0], model), vectors(db, model)
    assert list(whole) == list(resumed)
    assert len(whole) == 60
    assert all(np.array_equal(whole[i], resumed[i]) for i in whole)
    errors = "select item_id, stage, message from item_errors order by 1"
    assert db.execute(errors).fetchall() == opened[0].execute(errors).fetchall()
    statuses = db.execute("select status from runs where kind = 'embed' order by id").fetchall()
    assert statuses == [("interrupted",), ("finished",)]
    assert result.run_id is not None
    assert replay.replay(db, result.run_id).is_same
    for each in opened:
        each.close()


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "t.db"
    db = connection.create(file)
    add_pictures(db, range(3))

    def nearsql(*args: object) -> subprocess.CompletedProcess[str]:
        code = "from nearsql.pipeline.cli import main; main()"
        command = [sys.executable, "-c", code, "embed", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = nearsql(file, "--model", "pixels", "--collection", "digits", "--size", 4)
    assert made.returncode == 0, made.stderr
    assert made.stdout == ""
    assert "embedding 3 images: 0.2 kB of vectors" in made.stderr
    assert "run 2: the space 'digits/pixels' has 16 dimensions" in made.stderr
    assert re.search(r"besides the model  \d+% of [\d.]+ s \(waiting for items \d+%", made.stderr)
    assert f"next: nearsql sql {file} \"select * from knn('digits/pixels', 1, 10)\"" in made.stderr
    again = nearsql(file, "--model", "pixels", "--collection", "digits")
    assert again.returncode == 0
    assert "nothing to do: the space 'digits/pixels' has a vector of every item" in again.stderr
    for args, sentence in (
        ((tmp_path / "gone.db", "--model", "pixels"), "there is no file"),
        ((file, "--model", "klip"), "there is no model 'klip': the models are clip, dino"),
        ((file, "--model", "tfidf"), "this database has no texts"),
    ):
        refused = nearsql(*args)
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert sentence in line
    assert not (tmp_path / "gone.db").exists()
    db.close()
