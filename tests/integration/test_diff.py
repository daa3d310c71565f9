"""`nearsql diff` of two clusterings: what a person and a pipe get, on those that `nearsql cluster` made."""

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from nearsql.pipeline import diff as diffs
from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

COLUMNS = (
    *("change", "cluster_a", "name_a", "cluster_b", "name_b", "size_a", "size_b"),
    *("compared_a", "compared_b", "overlap", "jaccard"),
)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run 1: groups, two of them joined. 2: those apart, with more noise. 3: each second item only."""
    path = tmp_path_factory.mktemp("diff") / "once.db"
    db = connection.create(path)
    random = np.random.default_rng(5)
    centres = np.array([[0, 0], [60, 0], [0, 60], [8, 60]])
    groups = [c + random.normal(size=(40, 2)) for c in centres]
    vectors = np.concatenate([*groups, random.uniform(-10, 70, (20, 2))]).astype("<f4")
    with immediate(db):
        db.execute(
            "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', 2, 'l2')"
        )
        for item, vector in enumerate(vectors, 1):
            db.execute(
                "insert into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'tests', ?, ?, ?)",
                (item, f"{item:064x}", f"text {item}", item - 1),
            )
            db.execute(
                "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
                (item, vector.tobytes()),
            )
    cluster_spaces(db, ["s"], min_cluster_size=41, min_samples=5, selection="eom")
    cluster_spaces(db, ["s"], min_cluster_size=20, min_samples=3, selection="leaf")
    cluster_spaces(db, ["s"], min_cluster_size=10, min_samples=3, downsample=2)
    db.close()
    return path


@pytest.fixture
def clustered(once: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copy(once, tmp_path / "clustered.db"))


@pytest.fixture
def db(clustered: Path) -> Iterator[dbapi.Connection]:
    """An open connection to that copy."""
    opened = connection.connect(clustered)
    yield opened
    opened.close()


def diff(*words: object) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, words)])


def labels(db: dbapi.Connection, run_id: int) -> dict[int, int]:
    rows = db.execute(
        "select item_id, coalesce(cluster, -1) from embedding_clusters where run_id = ?", (run_id,)
    )
    return dict(rows.fetchall())


def test_the_summary_says_what_differs(clustered: Path, db: dbapi.Connection) -> None:
    a, b = labels(db, 1), labels(db, 2)
    ari = adjusted_rand_score(list(a.values()), list(b.values()))
    ami = adjusted_mutual_info_score(list(a.values()), list(b.values()))
    done = diff(clustered, 1, 2)
    assert done.exit_code == 0, done.output
    said = done.stderr
    assert "items in both" in said
    assert f"ARI {ari:.3f}, AMI {ami:.3f}" in said
    assert "min_cluster_size  41 -> 20" in said
    assert "selection         eom -> leaf" in said
    assert "downsample" not in said
    assert f"next: nearsql diff {clustered} 1 2 --items" in said
    assert "split into" in said or "merged into" in said or "new" in said


def test_every_format_has_the_rows_of_the_function(clustered: Path, db: dbapi.Connection) -> None:
    expected = db.execute(
        "select change, cluster_a, null, cluster_b, null, size_a, size_b, compared_a, compared_b,"
        " overlap, jaccard from cluster_diff(1, 3)"
    ).fetchall()
    assert len(expected) >= 3
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in expected]
    assert json.loads(diff(clustered, 1, 3, "--json").stdout) == rows
    lines = diff(clustered, 1, 3, "--nl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == rows
    read = list(csv.DictReader(io.StringIO(diff(clustered, 1, 3, "--csv").stdout)))
    assert read == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]


def test_the_table_leaves_out_what_says_nothing(clustered: Path, db: dbapi.Connection) -> None:
    header = diff(clustered, 1, 2).stdout.splitlines()[0].split()
    assert header == [
        *("change", "cluster_a", "cluster_b", "size_a", "size_b", "overlap", "jaccard"),
    ]
    db.execute(
        "insert into cluster_labels (cluster_id, name, method)"
        " select id, 'old', 'tests' from clusters where run_id = 1 and label = 0"
    )
    db.execute(
        "insert into cluster_labels (cluster_id, name, method)"
        " select id, 'newest', 'tests' from clusters where run_id = 1 and label = 0"
    )
    db.commit()
    out = diff(clustered, 1, 3).stdout
    assert out.splitlines()[0].split() == [
        name for name in COLUMNS if name not in ("name_b", "compared_b")
    ]
    assert "newest" in out
    assert "old" not in out


def test_items_that_moved(clustered: Path, db: dbapi.Connection) -> None:
    expected = db.execute(
        "select id, move, cluster_a, cluster_b from cluster_moves(1, 2)"
    ).fetchall()
    rows = json.loads(diff(clustered, 1, 2, "--items", "--json").stdout)
    assert [(r["item_id"], r["move"], r["cluster_a"], r["cluster_b"]) for r in rows] == expected
    assert all(row["text"] == f"text {row['item_id']}" for row in rows)
    assert len(rows) > 0
    assert "next:" not in diff(clustered, 1, 2, "--items").stderr


def test_rows_go_through_jq(clustered: Path) -> None:
    lines = diff(clustered, 2, 3, "--nl").stdout
    jq = subprocess.run(
        ["jq", "-r", ".change"], input=lines, capture_output=True, text=True, check=True
    )
    assert len(jq.stdout.split()) == len(lines.splitlines()) > 0


def test_changed_vectors_are_said(clustered: Path, db: dbapi.Connection) -> None:
    assert "vectors" not in diffs.diff(db, "1", "2").facts(db)
    db.execute("update vectors set vector = ? where item_id = 1", (b"\0" * 8,))
    db.commit()
    cluster_spaces(db, ["s"], min_cluster_size=20)
    assert diffs.diff(db, "2", "4").facts(db)["vectors"] == "changed between the two runs"
    assert "vectors" in diff(clustered, 2, 4).stderr


def test_settings_that_one_run_lacks_are_said(clustered: Path, db: dbapi.Connection) -> None:
    with run(db, "cluster", parameters={"method": "by hand"}, seed=3) as current, immediate(db):
        db.executemany(
            "insert into memberships (run_id, item_id) values (?, ?)",
            [(current.id, item) for item in range(1, 11)],
        )
    done = diff(clustered, 1, current.id)
    assert done.exit_code == 0, done.output
    assert "method            hdbscan -> by hand" in done.stderr
    assert "seed              not given -> 3" in done.stderr
    assert "without noise     not defined: fewer than 2 items, of 0 items" in done.stderr
    assert "gone" in done.stderr


def test_refusals_are_one_sentence(clustered: Path, db: dbapi.Connection) -> None:
    with run(db, "project", parameters={}) as other, run(db, "evaluate", parameters={}) as judged:
        pass
    newest = f"and the newest that can be are 3, 2, 1 (cluster); {judged.id} (evaluate)"
    for words, sentence in (
        ((1, 99), "there is no run 99 in this file: see `nearsql runs`"),
        (
            (other.id, 1),
            f"run {other.id} is of kind 'project', which cannot be compared, {newest}",
        ),
        (
            (1, judged.id),
            (
                f"run 1 is of kind 'cluster' and run {judged.id} of kind 'evaluate': only runs of one kind"
                f" can be compared, {newest}"
            ),
        ),
        (
            (1, "s"),
            "1 is the number of a run and 's' the name of a space: name two runs or two spaces",
        ),
        (("s", "no"), "there is no space 'no': the spaces are s"),
        ((1, 2, "--level", 2), "cluster_agreement: run_a: run 1 has no level 2: it has 1"),
        (
            (1, 2, "-k", 2),
            "-k says nothing of clusterings, which are compared by --level, --level-b",
        ),
        (
            ("s", "s", "--space-b", "s"),
            "--space-b says nothing of spaces, which are compared by -k, --within",
        ),
    ):
        done = CliRunner().invoke(cli, ["diff", str(clustered), *map(str, words)])
        assert done.exit_code == 1
        assert str(done.exception) == sentence


def test_a_run_that_did_not_finish_is_refused(clustered: Path, db: dbapi.Connection) -> None:
    with pytest.raises(ValueError, match="no"), run(db, "cluster", parameters={}) as current:
        raise ValueError("no")
    done = diff(clustered, current.id, 1)
    assert str(done.exception) == (
        f"run {current.id} is failed: only a finished run can be compared"
    )


def test_a_file_without_clusterings(database: Path) -> None:
    db = connection.connect(database)
    with run(db, "ingest", parameters={}):
        pass
    db.close()
    assert str(diff(database, 1, 1).exception) == (
        "run 1 is of kind 'ingest', which cannot be compared"
    )
