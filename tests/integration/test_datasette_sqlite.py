"""Datasette runs on nearsql's one SQLite: no second library opens the file, and locks hold."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import apsw
import numpy as np
import pytest
from gallery import Gallery
from served import Site, free_port, query_path, server, site

from nearsql.datasette_plugins import pages
from nearsql.udfs import connection


def test_sqlite_version_over_http_is_apsw_s(gallery_site: Site) -> None:
    rows = gallery_site.query("gallery", "select sqlite_version() as version").json()["rows"]
    assert rows == [{"version": apsw.sqlite_lib_version()}]
    assert gallery_site.get("/-/versions.json").json()["sqlite"]["version"] == rows[0]["version"]


# Serves the file in a process of its own, with an ear on every connection. The face announces its
# connections by the same audit events as the standard library; what tells them apart is the class.
LISTENING = """
import asyncio, json, os, sys, threading
asked, opened = threading.local(), []

def listen(event, args):
    if event == "sqlite3.connect":
        asked.name = str(args[0])
    elif event == "sqlite3.connect/handle":
        opened.append((type(args[0]).__module__, asked.name))

sys.addaudithook(listen)
from datasette.app import Datasette

async def main(path):
    datasette = Datasette([path])
    await datasette.invoke_startup()
    for page in sys.argv[2:]:
        response = await datasette.client.get(page)
        assert response.status_code == 200, (page, response.text)

asyncio.run(main(sys.argv[1]))
print(json.dumps(opened))
"""


def test_no_second_sqlite_opens_the_file(gallery: Gallery) -> None:
    with site(gallery.path) as probe:
        sql_page = query_path("gallery", "json", is_first_line=probe.is_first_line)
    pages = ["/", "/gallery", "/gallery/items", "/-/versions.json", "/-/nearsql/gallery"]
    pages += [f"/-/nearsql/gallery/map/{gallery.projection}", "/-/nearsql/gallery/items/1"]
    pages += [sql_page + "?" + urlencode({"sql": "select * from knn('paint/space', 1, 3)"})]
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, str(gallery.path), *pages],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    opened = json.loads(done.stdout.splitlines()[-1])
    ours = [name for module, name in opened if module.startswith("nearsql.")]
    theirs = [name for module, name in opened if not module.startswith("nearsql.")]
    assert [name for name in ours if gallery.path.name in name]
    # What the standard library opens is memory: Datasette's own books, and versions it asks for.
    assert all("memory" in name for name in theirs), theirs


def test_datasette_s_time_limit_stops_a_long_computation(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    db = connection.create(path)
    n, dimensions = 20_000, 256
    vectors = np.random.default_rng(0).normal(size=(n, dimensions)).astype("<f4")
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', ?, 'l2')",
        (dimensions,),
    )
    db.executemany(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'tests', ?, ?, ?)",
        [(i + 1, f"{i:064x}", f"text {i}", i) for i in range(n)],
    )
    db.executemany(
        "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
        [(i + 1, v.tobytes()) for i, v in enumerate(vectors)],
    )
    db.commit()
    db.close()
    with site(path, settings={"sql_time_limit_ms": 200}) as limited:
        response = limited.query("large", "select count(*) as n from knn_graph('s', 100)")
        assert response.status_code == 400
        assert "interrupted" in response.text.lower() or "too long" in response.text.lower()
        # The connection is as good as before.
        assert limited.query("large", "select 1 as n").json()["rows"] == [{"n": 1}]


def test_a_page_has_a_limit_of_its_own(gallery_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = (
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    )
    monkeypatch.setattr(pages, "sql", lambda name: endless)
    monkeypatch.setattr(pages, "TIME_LIMIT", 100)
    monkeypatch.setitem(gallery_site.datasette._settings, "sql_time_limit_ms", 50)
    response = gallery_site.get("/-/nearsql/gallery")
    assert response.status_code == 400
    assert "took longer than 0.1 s and was stopped" in response.text


# Inserts items and their vectors, a transaction each, as any pipeline does.
WRITER = """
import sys
import numpy as np
from nearsql.pipeline.runs import immediate
from nearsql.datasette_plugins import pages
from nearsql.udfs import connection

path, writer, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
db = connection.create(path)
for i in range(n):
    item = writer * 1_000_000 + i
    with immediate(db):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', ?, ?, ?, ?)",
            (item, f"writer {writer}", f"{item:064x}", f"text {item}", i),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
            (item, np.full(8, item, "<f4").tobytes()),
        )
db.close()
"""


def test_two_writers_beside_a_reading_datasette_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "busy.db"
    db = connection.create(path)
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', 8, 'l2')"
    )
    db.commit()
    db.close()
    with site(path) as probe:
        page = query_path("busy", "json", is_first_line=probe.is_first_line)
    question = (
        "select (select count(*) from items) as items, (select count(*) from vectors) as vectors,"
        " (select count(*) from knn('s', '[0, 0, 0, 0, 0, 0, 0, 0]', 100000)) as neighbours"
    )
    query = "?" + urlencode({"sql": question, "_shape": "objects"})
    port, n = free_port(), 400
    seen: list[dict[str, int]] = []
    problems: list[str] = []
    done = threading.Event()

    def read(address: str) -> None:
        while not done.is_set():
            for url in (address + page + query, address + "/-/nearsql/busy"):
                try:
                    with urllib.request.urlopen(url, timeout=30) as response:
                        body = response.read()
                    if url.endswith("busy"):
                        continue
                    seen.append(json.loads(body)["rows"][0])
                except urllib.error.HTTPError as error:
                    problems.append(error.read().decode())

    with server("-m", "datasette", "serve", str(path), "--port", str(port), port=port) as address:
        readers = [threading.Thread(target=read, args=(address,)) for _ in range(2)]
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), str(writer), str(n)],
                stderr=subprocess.PIPE,
                text=True,
            )
            for writer in (1, 2)
        ]
        for reader in readers:
            reader.start()
        try:
            errors = [writer.communicate(timeout=120)[1] for writer in writers]
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert [writer.returncode for writer in writers] == [0, 0], errors
        assert not problems
        with urllib.request.urlopen(address + page + query, timeout=30) as response:
            last = json.load(response)["rows"][0]
    assert last == {"items": 2 * n, "vectors": 2 * n, "neighbours": 2 * n}
    # Each answer is one moment of the file: an item and its vector appear together, nothing goes.
    assert len(seen) > 2
    assert all(row["items"] == row["vectors"] == row["neighbours"] for row in seen)
    db = connection.connect(path)
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    rows = db.execute("select item_id, vector from vectors").fetchall()
    db.close()
    assert all(np.array_equal(np.frombuffer(v, "<f4"), np.full(8, i, "<f4")) for i, v in rows)


@pytest.mark.parametrize("memory", ["_memory", "books"])
def test_databases_in_memory_still_work(gallery: Gallery, memory: str) -> None:
    with site(gallery.path, memory=True) as own:
        if memory == "books":
            own.datasette.add_memory_database("books")
        rows = own.query(memory, "select 1 as one").json()["rows"]
        assert rows == [{"one": 1}]
