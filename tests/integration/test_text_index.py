"""`nearsql index FILE --text`: full-text search that is never stale, opt-in, and found by other tools."""

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner
from served import site

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.index import text
from nearsql.pipeline.index.text import (
    check_text_index,
    drop_text_index,
    stored_tokenizer,
    text_index,
)
from nearsql.udfs import connection, dbapi

TEXTS = ("the early bird catches the worm", "Vögel im Wind", "running uphill", "漢字仮名交じり文")


def add_text(db: Any, item: int, content: str) -> None:
    db.execute(
        "insert into items (id, kind, collection, sha256, uri, content, sequence_number)"
        " values (?, 'text', 'words', ?, ?, ?, ?)",
        (item, f"{item:064x}", f"/data/train.csv#line={item}", content, abs(item)),
    )


def add_image(db: Any, item: int, uri: str | None) -> None:
    db.execute(
        "insert into items (id, kind, collection, sha256, uri, width, height, sequence_number)"
        " values (?, 'image', 'photos', ?, ?, 4, 4, ?)",
        (item, f"{item:064x}", uri, item),
    )


@pytest.fixture
def filled(db: dbapi.Connection) -> dbapi.Connection:
    """Four texts, items 1 to 4, and two images, 5 and 6; some have labels."""
    for item, content in enumerate(TEXTS, 1):
        add_text(db, item, content)
    add_image(db, 5, "/pictures/somebody/pets/red_Bus-12.JPG")
    add_image(db, 6, None)
    db.executemany(
        "insert into item_labels values (?, ?, ?, 'test')",
        [(1, "topic", "proverbs"), (5, "class", "double decker"), (5, "city", "London")],
    )
    db.commit()
    return db


def found(db: Any, match: str) -> list[int]:
    rows = db.execute(
        "select rowid from items_fts where items_fts match ? order by rowid", (match,)
    )
    return [item for (item,) in rows]


def is_true(db: dbapi.Connection) -> bool:
    return not any(finding.wrong for finding in check_text_index(db))


def test_it_finds_texts_names_and_labels(filled: dbapi.Connection) -> None:
    made = text_index(filled)
    assert (made.tokenizer, made.items, made.is_new) == ("words", 6, True)
    assert found(filled, "bird") == [1]
    assert found(filled, "vogel") == [2]
    assert found(filled, "red bus") == [5]
    assert found(filled, "london") == [5]
    assert found(filled, "labels: proverbs") == [1]
    for without in ("somebody", "pets", "train", "line", "topic"):  # folders, tables, labels' names
        assert found(filled, without) == []
    assert is_true(filled)
    assert text_index(filled).is_new is False


@pytest.mark.parametrize(
    ("tokenizer", "match", "items"),
    [
        ("words", "runs", []),
        ("english", "runs", [3]),
        ("words", "仮名交", []),
        ("parts", "仮名交", [4]),
        ("parts", "atch", [1]),
    ],
)
def test_tokenizers(filled: dbapi.Connection, tokenizer: str, match: str, items: list[int]) -> None:
    text_index(filled, tokenizer)
    assert stored_tokenizer(filled) == tokenizer
    assert found(filled, match) == items
    assert is_true(filled)


def test_another_tokenizer_replaces_it(filled: dbapi.Connection) -> None:
    text_index(filled)
    assert text_index(filled, "english").is_new
    assert found(filled, "runs") == [3]
    with pytest.raises(UserError, match="there is no tokenizer 'klingon': it is words, english"):
        text_index(filled, "klingon")
    assert stored_tokenizer(filled) == "english"


CHANGES: tuple[Callable[[Any, random.Random, int], Any], ...] = (
    lambda db, draw, i: add_text(db, i, f"word{draw.randrange(9)} und so weiter"),
    lambda db, draw, i: add_image(db, i, f"/a/picture{draw.randrange(9)}.png"),
    lambda db, draw, i: db.execute("delete from items where id = ?", (draw.randrange(1, 40),)),
    lambda db, draw, i: db.execute(
        "update items set content = content || ' more' where id = ? and kind = 'text'",
        (draw.randrange(1, 40),),
    ),
    lambda db, draw, i: db.execute(
        "update items set id = ? where id = ? and not exists"
        " (select 1 from item_labels where item_id = items.id)",
        (i, draw.randrange(1, 40)),
    ),
    lambda db, draw, i: db.execute(
        "insert or ignore into items (kind, collection, sha256, content, sequence_number)"
        " select kind, collection, sha256, 'another', 0 from items where id = ?",
        (draw.randrange(1, 40),),
    ),
    lambda db, draw, i: db.execute(
        "insert or replace into items (kind, collection, sha256, content, sequence_number)"
        " select 'text', collection, sha256, 'replaced', 0 from items"
        " where id = ? and not exists (select 1 from item_labels where item_id = items.id)",
        (draw.randrange(1, 40),),
    ),
    lambda db, draw, i: db.execute(
        "insert into items (kind, collection, sha256, content, sequence_number)"
        " select kind, collection, sha256, 'x', 0 from items where id = ? and kind = 'text'"
        " on conflict (collection, sha256) do update set content = 'upserted ' || items.id",
        (draw.randrange(1, 40),),
    ),
    lambda db, draw, i: db.execute(
        f"insert or {draw.choice(('ignore', 'replace'))} into item_labels"
        " select id, ?, ?, 'test' from items where id = ?",
        (draw.choice("ab"), f"value{draw.randrange(5)}", draw.randrange(1, 40)),
    ),
    lambda db, draw, i: db.execute(
        "insert into item_labels select id, 'a', 'new', 'test' from items where id = ?"
        " on conflict do update set value = 'upserted'",
        (draw.randrange(1, 40),),
    ),
    lambda db, draw, i: db.execute(
        "update or ignore item_labels set item_id = (select max(id) from items), value = 'moved'"
        " where item_id = ?",
        (draw.randrange(1, 40),),
    ),
    lambda db, draw, i: db.execute(
        "delete from item_labels where item_id = ?", (draw.randrange(1, 40),)
    ),
)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_never_stale(filled: dbapi.Connection, seed: int) -> None:
    text_index(filled)
    draw = random.Random(seed)
    for step in range(150):
        draw.choice(CHANGES)(filled, draw, 100 + step)
        if draw.random() < 0.2:
            filled.rollback()
        elif draw.random() < 0.3:
            filled.commit()
    filled.commit()
    # REPLACE sets off no trigger for the row that it removes: that item is found nowhere all the same.
    filled.execute("delete from items_fts where rowid not in (select id from items)")
    filled.commit()
    assert is_true(filled)


def test_a_replaced_item_is_not_found(filled: dbapi.Connection) -> None:
    text_index(filled)
    filled.execute(
        "insert or replace into items (id, kind, collection, sha256, content, sequence_number)"
        " values (77, 'text', 'words', ?, 'something else', 0)",
        (f"{2:064x}",),
    )
    search = (
        "select i.id from items_fts f join items i on i.id = f.rowid where items_fts match '{}'"
    )
    assert filled.execute(search.format("wind")).fetchall() == []
    assert filled.execute(search.format("something")).fetchall() == [(77,)]


def test_any_writer_keeps_it_true(filled: dbapi.Connection, tmp_path: Path) -> None:
    text_index(filled)
    (path,) = [row[2] for row in filled.execute("pragma database_list") if row[1] == "main"]
    filled.close()
    stock = sqlite3.connect(path)
    stock.execute("pragma foreign_keys = on")
    add_text(stock, 9, "from another program")
    stock.execute("delete from items where id = 5")
    stock.commit()
    assert found(stock, "another") == [9]
    stock.close()
    db = connection.connect(path)
    assert found(db, "london") == []
    assert is_true(db)
    db.close()


def test_without_it_the_file_has_nothing_of_fts5(filled: dbapi.Connection) -> None:
    schema = "select type, name, sql from sqlite_schema order by type, name"
    before = filled.execute(schema).fetchall()
    assert not [name for _, name, sql in before if "fts" in f"{name}{sql}".lower()]
    text_index(filled, "parts")
    assert filled.execute(schema).fetchall() != before
    drop_text_index(filled)
    assert filled.execute(schema).fetchall() == before
    assert stored_tokenizer(filled) is None
    for refused in (drop_text_index, check_text_index):
        with pytest.raises(UserError, match="there is no full-text index to"):
            refused(filled)


def test_a_stopped_build_is_no_index_and_is_made_anew(
    filled: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BATCH", 2)
    read = text.read_sql
    batches = []

    def stopped(package: str, name: str) -> str:
        if name == "text_batch":
            batches.append(name)
            if len(batches) == 2:
                raise KeyboardInterrupt
        return read(package, name)

    monkeypatch.setattr(text, "read_sql", stopped)
    with pytest.raises(KeyboardInterrupt):
        text_index(filled)
    assert stored_tokenizer(filled) is None
    assert not filled.in_transaction
    monkeypatch.setattr(text, "read_sql", read)
    assert text_index(filled).is_new
    assert is_true(filled)


def test_what_is_written_while_it_is_made_is_in_it(
    filled: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BATCH", 2)
    (path,) = [row[2] for row in filled.execute("pragma database_list") if row[1] == "main"]
    other = connection.connect(path)
    batches = []

    class Meanwhile:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *error: object) -> None: ...

        def advance(self, n: int) -> None:
            batches.append(n)
            if len(batches) == 2:
                add_text(other, -5, "behind the place that was reached")
                add_text(other, 50, "and ahead of it")
                other.execute("update items set content = 'changed' where id = 1")
                other.execute("delete from items where id = 6")
                other.commit()

    monkeypatch.setattr(text, "progress", lambda *args, **options: Meanwhile())
    text_index(filled)
    assert len(batches) > 2
    assert (found(filled, "behind"), found(filled, "ahead")) == ([-5], [50])
    assert (found(filled, "changed"), found(filled, "bird")) == ([1], [])
    assert is_true(filled)
    other.close()


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("drop trigger items_fts_label_updated", "definition"),
        ("delete from items_fts where rowid = 3", "items"),
        ("update items_fts set labels = 'other' where rowid = 1", "items"),
        ("insert into items_fts (rowid, content) values (99, 'nobody')", "items"),
        ("update items_fts_content set c0 = 'unseen' where id = 1", "items"),
        ("delete from items_fts_data where id > 10", "words"),
    ],
)
def test_damage_is_found_and_mended(filled: dbapi.Connection, damage: str, check: str) -> None:
    text_index(filled)
    filled.commit()
    filled.execute(damage)
    filled.commit()
    wrong = [finding.check for finding in check_text_index(filled) if finding.wrong]
    assert wrong[0] == f"{check} of the full-text index"
    drop_text_index(filled)
    text_index(filled)
    assert is_true(filled)


def test_a_missing_trigger_alone_makes_it_anew(filled: dbapi.Connection) -> None:
    text_index(filled)
    filled.execute("drop trigger items_fts_item_inserted")
    add_text(filled, 60, "unnoticed")
    filled.commit()
    assert found(filled, "unnoticed") == []
    assert text_index(filled).is_new
    assert found(filled, "unnoticed") == [60]


def test_the_table_of_another_program_stays(filled: dbapi.Connection) -> None:
    import sqlite_utils

    sqlite_utils.Database(filled)["items"].enable_fts(["content"], create_triggers=True)
    filled.commit()
    for refused in (text_index, drop_text_index):
        with pytest.raises(UserError, match="items_fts was made by another program: remove it"):
            refused(filled)
    assert found(filled, "bird") == [1]
    sqlite_utils.Database(filled)["items"].disable_fts()
    filled.commit()
    assert text_index(filled).is_new


def test_sqlite_utils_finds_it(filled: dbapi.Connection) -> None:
    import sqlite_utils

    text_index(filled)
    items = sqlite_utils.Database(filled)["items"]
    assert items.detect_fts() == "items_fts"
    assert [row["id"] for row in items.search("london")] == [5]


def test_datasettes_page_of_items_offers_its_search(filled: dbapi.Connection) -> None:
    (path,) = [row[2] for row in filled.execute("pragma database_list") if row[1] == "main"]
    with site(Path(path)) as without:
        assert 'name="_search"' not in without.get(f"/{Path(path).stem}/items").text
    text_index(filled)
    filled.commit()
    with site(Path(path)) as opened:
        name = Path(path).stem
        assert 'name="_search"' in opened.get(f"/{name}/items").text
        rows = opened.get(f"/{name}/items.json?_search=red+bus&_shape=objects").json()["rows"]
        assert [row["id"] for row in rows] == [5]
        assert ">items_fts<" not in opened.get(f"/{name}").text.partition("hidden table")[0]


def test_the_command(filled: dbapi.Connection) -> None:
    (path,) = [row[2] for row in filled.execute("pragma database_list") if row[1] == "main"]

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(cli, ["index", path, *arguments])
        assert result.exit_code == code, result.output
        return result

    assert "there is no full-text index" in run("--text", "--list").stderr
    assert "items      6" in run("--text").stderr
    assert "nothing to do" in run("--text").stderr
    assert json.loads(run("--text", "--list", "--json").stdout) == [
        {"tokenizer": "words", "items": 6}
    ]
    run("--text", "--tokenizer", "english")
    assert "nothing to do" in run("--text").stderr  # the tokenizer stays unless another is named
    assert "all 3 checks" in run("--text", "--check").stderr
    filled.execute("delete from items_fts where rowid = 3")
    filled.commit()
    assert "item 3" in run("--text", "--check", code=1).stdout
    assert "removed" in run("--text", "--drop").stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--text", "space"], "--text is about all items: leave SPACE and --engine out"),
        (["--text", "--engine", "ivf"], "--text is about all items"),
        (["--tokenizer", "parts"], "--tokenizer is for --text"),
        (["--text", "--check", "--drop"], "--list, --check and --drop exclude each other"),
        (["--text", "--drop"], "there is no full-text index to drop"),
    ],
)
def test_refusals(filled: dbapi.Connection, arguments: list[str], sentence: str) -> None:
    (path,) = [row[2] for row in filled.execute("pragma database_list") if row[1] == "main"]
    result = CliRunner().invoke(cli, ["index", path, *arguments])
    assert isinstance(result.exception, UserError)
    assert sentence in str(result.exception)
