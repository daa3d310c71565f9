"""docs/scale.md is true: its options are there, shards are asked and merged as it says."""

import importlib
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from nearsql import migrations
from nearsql.pipeline import cli
from nearsql.pipeline.embed import embed
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.udfs import connection, dbapi
from tests.golden.make import load, path_of

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "scale.md").read_text("utf-8")
NEARSQL = f"{sys.executable} -c 'from nearsql.pipeline.cli import main; main()'"

# Tables of which all rows come along.
MERGED = (
    *("items", "item_images", "item_labels", "item_errors", "classes", "annotations"),
    *("annotated_items", "models", "predictions", "losses", "image_metrics", "feature_maps"),
)


def ask(path: Path, sql: str) -> list[Any]:
    with closing(connection.connect(path)) as db:
        return db.execute(sql).fetchall()


def write_images(folder: Path, numbers: range) -> None:
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), np.uint8)
        label = folder / f"class {number % 2}"
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(label / f"{number}.png")


def fill(path: Path, folder: Path, numbers: range) -> None:
    """The images of these numbers, with vectors, in a file that may be there."""
    write_images(folder, numbers)
    if not path.exists():
        connection.create(path).close()
    with closing(connection.connect(path)) as db:
        ingest_images(db, folder, collection="pictures", label="parity", store=True)
        embed(db, "pixels")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of two shards that have four images in common, and one file of all."""
    fill(tmp_path / "shard1.db", tmp_path / "one", range(12))
    fill(tmp_path / "shard2.db", tmp_path / "two", range(8, 20))
    fill(tmp_path / "whole.db", tmp_path / "whole", range(20))
    shutil.copy(DOCS / "merge_shard.sql", tmp_path)
    return tmp_path


def merge(folder: Path) -> subprocess.CompletedProcess[str]:
    """What the page says, in that folder."""
    (script,) = re.findall(r"```sh\n(nearsql migrate all.db\n.*?)```", PAGE, re.DOTALL)
    return subprocess.run(
        ["bash", "-ec", script.replace("nearsql ", f"{NEARSQL} ")],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def vectors(path: Path) -> list[Any]:
    return ask(
        path,
        "select i.sha256, s.name, v.vector, l.value from vectors v join items i on i.id = v.item_id"
        " join spaces s on s.id = v.space_id join item_labels l on l.item_id = i.id order by 1, 2",
    )


def test_shards_come_together_by_hash_and_again_when_they_grow(shards: Path) -> None:
    done = merge(shards)
    assert done.returncode == 0, done.stderr
    assert "as they should be" in done.stdout + done.stderr
    merged = shards / "all.db"
    assert vectors(merged) == vectors(shards / "whole.db")
    places = ask(merged, "select sequence_number from items order by sequence_number")
    assert places == [(n,) for n in range(20)]
    by = ask(
        merged,
        "select r.kind, r.status, m.name, count(v.id) from runs r left join models m on m.id = r.model_id"
        " left join vectors v on v.run_id = r.id group by r.id order by r.id",
    )
    assert by == [
        ("ingest", "finished", None, 0),
        ("embed", "finished", "pixels:16", 12),
        ("ingest", "finished", None, 0),
        ("embed", "finished", "pixels:16", 8),
    ]
    before = {
        table: ask(merged, f"select * from {table}") for table in (*MERGED, "runs", "vectors")
    }
    assert merge(shards).returncode == 0
    assert before == {table: ask(merged, f"select * from {table}") for table in before}
    fill(shards / "shard2.db", shards / "two", range(20, 23))
    fill(shards / "whole.db", shards / "whole", range(20, 23))
    assert merge(shards).returncode == 0
    assert vectors(merged) == vectors(shards / "whole.db")
    assert ask(merged, "select count(*) from runs") == [(6,)]


def test_the_nearest_of_all_shards(shards: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shards / "nearest.py").write_text(program, "utf-8")
    names = runpy.run_path(str(shards / "nearest.py"))
    ((vector,),) = ask(shards / "whole.db", "select vector from vectors where item_id = 5")
    files = [str(shards / "shard1.db"), str(shards / "shard2.db")]
    found = names["nearest"](files, "pixels", vector, 30)
    with closing(connection.connect(shards / "whole.db")) as db:
        all_of_them = db.execute(
            "select n.distance, i.sha256 from knn('pixels', ?, 30) n join items i on i.id = n.id"
            " order by n.distance, i.sha256",
            [vector],
        ).fetchall()
    # What is in both shards is found in both.
    assert list(dict.fromkeys((distance, sha) for distance, _, _, sha in found)) == all_of_them
    assert len(found) == 24
    assert found == sorted(found, key=lambda row: (row[0], row[3]))


def test_how_many_are_in_both(shards: Path) -> None:
    (command,) = re.findall(r"`(sqlite3 shard1.db \"attach[^`]*)`", PAGE)
    said = subprocess.run(
        ["bash", "-c", command], cwd=shards, capture_output=True, text=True, check=True
    )
    assert said.stdout == "4\n"


def texts(db: dbapi.Connection, folder: Path, words: str) -> None:
    lines = [f"{word} and {word} once more" for word in words.split()]
    (folder / "texts.csv").write_text("\n".join(["text", *lines]), "utf-8")
    ingest_texts(db, folder / "texts.csv", text="text", collection="texts")
    embed(db, "tfidf", space="words")


@pytest.mark.parametrize(
    "differs",
    [
        lambda db, folder: texts(db, folder, "red green"),
        lambda db, folder: embed(db, "pixels", space="words"),
        lambda db, folder: db.execute("update models set parameters_json = '{}'"),
        lambda db, folder: db.execute("insert into runs (kind) values ('embed')"),
    ],
    ids=["learned", "space", "model", "running"],
)
def test_what_is_not_the_same_is_refused_and_nothing_written(
    shards: Path, differs: Callable[[dbapi.Connection, Path], Any]
) -> None:
    with closing(connection.connect(shards / "shard1.db")) as db:
        texts(db, shards, "blue grey white")
    with closing(connection.connect(shards / "shard2.db")) as db:
        differs(db, shards)
        db.commit()
    refused = merge(shards)
    assert refused.returncode != 0
    assert "CHECK constraint failed: ok" in refused.stderr
    assert ask(shards / "all.db", "select count(*) from items where kind = 'image'") == [(12,)]


def test_all_that_detectors_and_people_said_comes_along(tmp_path: Path) -> None:
    shutil.copy(DOCS / "merge_shard.sql", tmp_path)
    # One with a row in every table.
    shard = tmp_path / "shard1.db"
    text = path_of(migrations.latest_version()).read_text("utf-8")
    load(text, shard).close()
    shutil.copy(shard, tmp_path / "shard2.db")
    done = merge(tmp_path)
    assert done.returncode == 0, done.stderr
    merged = tmp_path / "all.db"
    for table in MERGED:
        count = f"select count(*) from {table}"
        assert ask(merged, count) == ask(shard, count) != [(0,)], table
    matched = (
        "select i.sha256, p.confidence, p.iou, a.class_name, a.x_min, r.kind from predictions p"
        " join items i on i.id = p.item_id join runs r on r.id = p.run_id"
        " left join annotations a on a.id = p.matched_annotation_id order by 1, 2"
    )
    assert ask(merged, matched) == ask(shard, matched)


@pytest.mark.parametrize("name", ["detect", "embed", "loss-distance", "neighbors"])
def test_the_options_are_there(name: str) -> None:
    command: click.Command = importlib.import_module(cli.COMMANDS[name][0]).command
    there = {option for parameter in command.params for option in parameter.opts}
    told = set(re.findall(r"^\| `(--[a-z-]+)`", PAGE, re.MULTILINE))
    assert told == {"--ray-address", "--workers", "--worker-cpus", "--worker-gpus"}
    assert told - there <= ({"--worker-gpus"} if name == "neighbors" else set())
    assert f"nearsql {name} " in PAGE
