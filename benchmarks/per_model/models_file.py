"""A file of several models' vectors of the same images, and what must be true of it whatever happened."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nearsql.pipeline.cluster.results import ClusterRow, MemberRow, hash_result
from nearsql.pipeline.runs import immediate
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

_BLOCK = 10_000


def build(path: Path, sizes: dict[str, int], dimensions: int) -> None:
    """A database of max(sizes) items, and for each model a space of its first so many items.

    The items are numbered from 0, as an ingest numbers those of a collection. The vectors are 40 groups
    of unequal size and density, and 20% of them anywhere.
    """
    db = connection.create(path)
    with immediate(db):
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'images', ?, '', ?)",
            ((n + 1, f"{n:064x}", n) for n in range(max(sizes.values()))),
        )
    for number, (name, size) in enumerate(sizes.items()):
        with immediate(db):
            model = db.execute(
                "insert into models (name, family) values (?, 'other')", (name,)
            ).lastrowid
            space = db.execute(
                "insert into spaces (name, kind, model_id, dimensions, metric)"
                " values (?, 'embedding', ?, ?, 'l2')",
                (f"{name}/features", model, dimensions),
            ).lastrowid
        assert space is not None
        first = 0
        for rows in _points(size, dimensions, seed=number):
            items = range(first + 1, first + len(rows) + 1)
            vectors = (row.tobytes() for row in rows)
            with immediate(db):
                insert_vectors(db, space, None, list(zip(items, vectors, strict=True)))
            first += len(rows)
    db.execute("pragma wal_checkpoint(truncate)")
    db.close()


def _points(n: int, d: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, d))
    widths = rng.uniform(0.05, 0.3, 40)
    shares = rng.dirichlet(np.ones(40))
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        which = rng.choice(40, size, p=shares)
        rows = centres[which] + rng.normal(size=(size, d)) * widths[which, None]
        is_alone = rng.random(size) < 0.2
        rows[is_alone] = rng.normal(size=(int(is_alone.sum()), d))
        yield rows.astype("<f4")


def sampled(size: int, downsample: int) -> int:
    """How many of the numbers 0 to size - 1 are divisible by downsample."""
    return -(-size // downsample)


def complete_runs(db: dbapi.Connection) -> list[tuple[int, str, int]]:
    """(run, space, downsample) of the finished clusterings, in their order, each proved to be whole.

    Raises AssertionError when a finished run's rows are not those whose hash it recorded, when any other
    run has rows, or when the file is damaged.
    """
    found = []
    for run_id, status, sha256, space, downsample in db.execute(
        "select id, status, result_sha256, parameters_json ->> 'space',"
        " parameters_json ->> 'downsample' from runs where kind = 'cluster' order by id"
    ).fetchall():
        clusters = [
            ClusterRow(*row)
            for row in db.execute(
                "select level, label, null, size, centroid, exemplar_item_id, birth_lambda"
                " from clusters where run_id = ?",
                (run_id,),
            )
        ]
        members = [
            MemberRow(*row)
            for row in db.execute(
                "select m.level, m.item_id, c.label, m.probability, m.outlier_score, m.core_distance"
                " from memberships m left join clusters c on c.id = m.cluster_id"
                " where m.run_id = ? and m.is_assigned = 0",
                (run_id,),
            )
        ]
        if status == "finished":
            assert hash_result(clusters, members) == sha256, f"run {run_id} of {space} is not whole"
            found.append((run_id, space, downsample))
        else:
            assert not clusters, f"run {run_id} is {status} and has clusters"
            assert not members, f"run {run_id} is {status} and has members"
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert db.execute("pragma foreign_key_check").fetchall() == []
    return found
