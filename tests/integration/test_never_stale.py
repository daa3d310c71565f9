"""Whatever is written, in whatever order, by whomever: no search finds a stale neighbour or misses one.

A random sequence of inserts, updates, deletes, REPLACEs, upserts, truncates, roll-backs and dropped
spaces, by two connections and another process (a stock sqlite3 without nearsql); between them searches
from connections that see different snapshots. What they must find is computed in float64 from a plain
SELECT on the same connection. Vectors are small whole numbers, so that distances are exact and often
equal.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nearsql.pipeline.index import index
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search import exact_search, memory
from nearsql.udfs.search.exact_search import exact_nearest
from nearsql.udfs.spaces import find_space

D = 16
ITEMS = 120
SPACES = ("s", "t")


def vector(seed: int) -> bytes:
    """D small whole numbers."""
    return bytes(np.random.default_rng(seed).integers(-3, 4, D).astype("<f4"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with items and two spaces, of 100 and of 20 vectors."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    db = connection.create(path)
    db.executemany(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'tests', ?, 'x', 0)",
        [(i, f"{i:064x}") for i in range(1, ITEMS + 1)],
    )
    for name, metric, n in (("s", "l2", 100), ("t", "ip", 20)):
        db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'metric', ?, ?)",
            (name, D, metric),
        )
        db.executemany(
            "insert into vectors (space_id, item_id, vector)"
            " values ((select id from spaces where name = ?), ?, ?)",
            [(name, i, vector(i)) for i in range(1, n + 1)],
        )
    db.commit()
    db.close()
    return path


@pytest.fixture(scope="module")
def other_process() -> Iterator[Callable[..., str]]:
    """Executes SQL on a file in another process: other_process(path, sql)."""
    script = Path(__file__).with_name("other_writer.py")
    with subprocess.Popen(
        [sys.executable, "-S", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        to, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)

        def execute(path: Path | None, sql: str = "") -> str:
            to.write(json.dumps([path and str(path), sql]) + "\n")
            to.flush()
            return answers.readline().strip()

        yield execute
        to.close()


# The first and the last of a space are drawn more often, and those behind it.
ITEM = st.sampled_from([1, 2, 20, 21, 99, 100, 101]) | st.integers(1, ITEMS)
SEED = st.integers(1, 400)
SPACE = st.sampled_from(SPACES)

# What anybody may do to a space's vectors, as SQL with :space, :item, :other and :vector.
OF_SPACE = "(select id from spaces where name = :space)"
INSERT = (
    "into vectors (space_id, item_id, vector) select s.id, i.id, :vector from spaces s, items i"
    " where s.name = :space and i.id = :item"
)
CHANGES = {
    "insert": f"insert or ignore {INSERT}",
    "insert many": (
        "insert or ignore into vectors (space_id, item_id, vector)"
        " select s.id, i.id, :vector from spaces s, items i"
        " where s.name = :space and i.id between :item and :item + 30"
    ),
    "append": (
        "insert or ignore into vectors (space_id, item_id, vector)"
        " select s.id, min(i.id), :vector from spaces s, items i where s.name = :space and i.id >"
        " coalesce((select max(item_id) from vectors where space_id = s.id), 0) group by s.id"
    ),
    "update": f"update vectors set vector = :vector where space_id = {OF_SPACE} and item_id = :item",
    "update many": (
        f"update vectors set vector = :vector where space_id = {OF_SPACE}"
        " and item_id between :item and :item + 9"
    ),
    "give to another item": (
        f"update or ignore vectors set item_id = :other where space_id = {OF_SPACE} and item_id = :item"
        " and exists (select 1 from items where id = :other)"
    ),
    "move to the other space": (
        "update or ignore vectors set space_id = (select id from spaces where name <> :space)"
        f" where space_id = {OF_SPACE} and item_id = :item"
        " and exists (select 1 from spaces where name <> :space)"
    ),
    "replace": f"replace {INSERT}",
    "upsert": f"insert {INSERT} on conflict (space_id, item_id) do update set vector = :vector",
    "delete": f"delete from vectors where space_id = {OF_SPACE} and item_id between :item and :other",
    "delete the item": "delete from items where id = :item",
    "truncate": "delete from vectors",
    "drop the space": "delete from spaces where name = :space",
    "make the space": (
        "insert or ignore into spaces (name, kind, dimensions, metric)"
        f" values (:space, 'metric', {D}, iif(:space = 's', 'l2', 'ip'))"
    ),
    "rename the space": "update or ignore spaces set name = 't' where name = 's'",
}
# The rare and the drastic are drawn less often.
CHANGE = st.sampled_from(
    ["insert", "insert many", "append", "update", "replace", "upsert", "delete", "update many"] * 3
    + list(CHANGES)
)
VALUES = st.fixed_dictionaries(
    {"change": CHANGE, "space": SPACE, "item": ITEM, "other": ITEM, "vector": SEED.map(vector)}
)
Values = dict[str, Any]


def stored(db: dbapi.Connection, space: str) -> tuple[list[int], np.ndarray]:
    """The item ids and vectors of a space, by a plain SELECT."""
    rows = db.execute(
        "select item_id, vector from vectors"
        " where space_id = (select id from spaces where name = ?) order by item_id",
        (space,),
    ).fetchall()
    vectors = np.array([np.frombuffer(blob, "<f4") for _, blob in rows], np.float64)
    return [item for item, _ in rows], vectors.reshape(-1, D)


def distances_to(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """In float64, without rounding: the numbers are small and whole."""
    if metric == "l2":
        return np.sqrt(((vectors - query) ** 2).sum(axis=1))
    return -(vectors * query).sum(axis=1) + 0.0


def brute_force(
    db: dbapi.Connection, space: str, query: np.ndarray, k: int, but: int | None = None
) -> list[tuple[int, float]]:
    """(item, distance) of the k nearest, by (distance, item)."""
    ids, vectors = stored(db, space)
    distances = distances_to(vectors, query, find_space(db.apsw, space).metric)
    rows = sorted(zip(distances.tolist(), ids, strict=True))
    return [(item, distance) for distance, item in rows if item != but][:k]


class Writing(RuleBasedStateMachine):
    """One file, a connection that writes in transactions, one that reads, and another process."""

    template: Path
    other_process: Callable[..., str]

    @initialize()
    def open(self) -> None:
        memory.residents = memory.Residents()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "file.db"
        shutil.copy(self.template, self.path)
        self.writer = connection.connect(self.path)
        self.writer.isolation_level = None
        self.reader = connection.connect(self.path)
        self.reader.isolation_level = None

    def teardown(self) -> None:
        for name in SPACES:
            self.check(self.writer, name)
            self.check(self.reader, name)
        self.writer.close()
        self.reader.close()
        self.other_process(None)
        self.folder.cleanup()

    def check(self, db: dbapi.Connection, space: str, seed: int = 5, k: int = 200) -> None:
        """Searches equal brute force on the same connection."""
        if not db.execute("select 1 from spaces where name = ?", (space,)).fetchone():
            return
        self.check_queries(db, space, seed, k)

    def check_queries(self, db: dbapi.Connection, space: str, seed: int, k: int) -> None:
        query = np.frombuffer(vector(seed), "<f4").astype(np.float64)
        found = db.execute(
            "select id, distance from knn(?, ?, ?, null, 1)", (space, vector(seed), k)
        ).fetchall()
        assert found == brute_force(db, space, query, k)
        ids, vectors = stored(db, space)
        if ids:
            place = seed % len(ids)
            found = db.execute(
                "select id, distance from knn(?, ?, ?, null, 1)", (space, ids[place], k)
            ).fetchall()
            assert found == brute_force(db, space, vectors[place], k, but=ids[place])

    # The writer's transactions.

    @rule(values=VALUES, searches=st.booleans())
    def change(self, values: Values, searches: bool) -> None:
        if searches:  # so that there is something in memory that may become stale
            self.check(self.writer, values["space"])
        self.writer.execute(
            CHANGES[values["change"]],
            {name: value for name, value in values.items() if name != "change"},
        )
        if searches:
            self.check(self.writer, values["space"])

    @precondition(lambda self: not self.writer.in_transaction)
    @rule(first=VALUES, second=VALUES)
    def another_change_in_place_of_one(self, first: Values, second: Values) -> None:
        self.writer.execute("begin immediate")
        self.change(first, True)
        self.writer.execute("rollback")
        self.change(second, False)
        self.check(self.writer, first["space"])

    @precondition(lambda self: not self.writer.in_transaction)
    @rule()
    def begin(self) -> None:
        self.writer.execute("begin immediate")

    @precondition(lambda self: self.writer.in_transaction)
    @rule(how=st.sampled_from(["commit", "rollback"]))
    def end(self, how: str) -> None:
        self.writer.execute(how)

    @precondition(lambda self: self.writer.in_transaction)
    @rule(how=st.sampled_from(["savepoint a", "rollback to a", "release a"]))
    def savepoint(self, how: str) -> None:
        with contextlib.suppress(dbapi.OperationalError):  # there is no such savepoint now
            self.writer.execute(how)

    # Others.

    @precondition(lambda self: not self.writer.in_transaction)
    @rule(values=VALUES)
    def another_process_writes(self, values: Values) -> None:
        sql = CHANGES[values["change"]]
        for name in ("item", "other"):
            sql = sql.replace(f":{name}", str(values[name]))
        sql = sql.replace(":space", f"'{values['space']}'")
        sql = sql.replace(":vector", f"x'{values['vector'].hex()}'")
        assert self.other_process(self.path, sql) == "done"
        self.check(self.writer, values["space"])

    @rule()
    def hold_or_let_go_of_a_snapshot(self) -> None:
        if self.reader.in_transaction:
            self.reader.execute("rollback")
        else:
            self.reader.execute("begin")
            self.reader.execute("select count(*) from vectors").fetchall()

    # Searches.

    @rule(space=SPACE, seed=SEED, k=st.sampled_from([1, 3, 20, 200]), reads=st.booleans())
    def search(self, space: str, seed: int, k: int, reads: bool) -> None:
        self.check(self.reader if reads else self.writer, space, seed, k)

    @rule(space=SPACE, within=st.lists(ITEM, max_size=40), seed=SEED)
    def search_within(self, space: str, within: list[int], seed: int) -> None:
        db = self.writer
        if not db.execute("select 1 from spaces where name = ?", (space,)).fetchone():
            return
        query = np.frombuffer(vector(seed), "<f4").astype(np.float64)
        wanted = [row for row in brute_force(db, space, query, 200) if row[0] in within]
        found = exact_nearest(
            db.apsw,
            find_space(db.apsw, space),
            query[None].astype("f4"),
            5,
            subset=np.array(within),
        )
        assert list(zip(found[0][0].tolist(), found[1][0].tolist(), strict=True)) == wanted[:5]

    @rule(space=SPACE)
    def search_all(self, space: str) -> None:
        db = self.writer
        if not db.execute("select 1 from spaces where name = ?", (space,)).fetchone():
            return
        found: dict[int, list[tuple[int, float]]] = {}
        for item, *row in db.execute(
            "select id, neighbor_id, distance from knn_graph(?, 4)", (space,)
        ):
            found.setdefault(item, []).append((row[0], row[1]))
        ids, vectors = stored(db, space)
        assert found == {
            item: brute_force(db, space, query, 4, but=item)
            for item, query in zip(ids, vectors, strict=True)
            if len(ids) > 1
        }


def run(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


def machine_for(
    base: type[Writing], template: Path, other_process: Callable[..., str], **more: Any
) -> type[Writing]:
    values = {"template": template, "other_process": staticmethod(other_process), **more}
    return type(base.__name__, (base,), values)


# Bytes for the whole matrix; or for at most 87 rows of the up to 120, and then 39 stay in memory.
@pytest.mark.parametrize("limit", ["1MB", "7000"])
def test_exact_search_is_never_stale(
    template: Path,
    other_process: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    monkeypatch.setattr(memory, "residents", memory.Residents())
    monkeypatch.setenv("NEARSQL_MEMORY", limit)
    monkeypatch.setattr(exact_search, "QUERY_BLOCK", 8)
    run(machine_for(Writing, template, other_process), examples=15, steps=25)


class WithIndexes(Writing):
    """The same, with indexes that are built in between and searched."""

    everything: bool

    @precondition(lambda self: not self.writer.in_transaction)
    @rule(space=SPACE, engine=st.sampled_from(["hnsw", "ivf", "vec0"]))
    def build(self, space: str, engine: Any) -> None:
        row = self.writer.execute("select metric from spaces where name = ?", (space,)).fetchone()
        if row is None or (engine == "vec0" and row[0] == "ip"):  # which vec0 does not know
            return
        index(self.writer, [space], engine, recall=0.8, min_recall=0.0, threads=1)
        if self.everything:
            self.writer.execute(
                "update vector_indexes set parameters_json = json_set(parameters_json, '$.search',"
                ' json((select json_group_object(key, json(\'{"effort": 1000, "candidates": 1000}\'))'
                " from json_each(recall_json))))"
            )

    def check_queries(self, db: dbapi.Connection, space: str, seed: int, k: int) -> None:
        super().check_queries(db, space, seed, k)
        ids, _ = stored(db, space)
        query = np.frombuffer(vector(seed), "<f4").astype(np.float64)
        found = db.execute(
            "select id, distance from knn(?, ?, ?)", (space, vector(seed), k)
        ).fetchall()
        expected = brute_force(db, space, query, k)
        if self.everything:
            assert found == expected
            return
        # What is found is there, as it is now, and in order; and there is as much as there can be.
        distances = dict(brute_force(db, space, query, len(ids)))
        assert all(distances.get(item) == distance for item, distance in found)
        assert found == sorted(found, key=lambda row: row[::-1])
        assert len({item for item, _ in found}) == len(found) == len(expected)
        changed = {
            item
            for (item,) in db.execute(
                "select c.item_id from vector_changes c join spaces s on s.id = c.space_id"
                " join vector_indexes i on i.space_id = s.id and i.is_ready"
                " where s.name = ? and c.generation > i.generation",
                (space,),
            )
        }
        assert {item for item, _ in expected if item in changed} <= {item for item, _ in found}


@pytest.mark.parametrize("everything", [True, False])
def test_indexed_search_is_never_stale(
    template: Path,
    other_process: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    everything: bool,
) -> None:
    monkeypatch.setattr(memory, "residents", memory.Residents())
    machine = machine_for(WithIndexes, template, other_process, everything=everything)
    run(machine, examples=10, steps=20)
