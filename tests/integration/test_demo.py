"""The demo, as `nearsql demo` builds it, gives what it promises by every road to the data."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

from nearsql.pipeline import demo
from nearsql.pipeline.cli import cli
from nearsql.udfs import connection, dbapi

# What the demo says of itself: of the flaws that are planted, how many are found, and what else is.
SCORES = """\
20 labels were flipped: 19 of them are among the first 30 rows. 18 rows count as found: precision 94%, recall 85%
15 near-duplicates were planted: 15 of them are among the first 15 rows. 15 rows count as found: precision 100%, recall 100%
10 outliers were planted: 10 of them are among the first 20 rows. 10 rows count as found: precision 100%, recall 100%
""".splitlines()

KNN = "select count(*) from knn('digits/pixels', 1, 10)"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    # Any attempt to use the network fails at once.
    program = (
        "import socket\n"
        "def refused(*args, **kwargs): raise OSError('there is no network in this test')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from nearsql.pipeline.cli import main; main()"
    )
    return path, run("-c", program, "demo", str(path))


@pytest.fixture
def digits(built: tuple[Path, object]) -> Iterator[dbapi.Connection]:
    db = connection.connect(built[0], read_only=True)
    yield db
    db.close()


def test_it_says_what_it_found(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, done = built
    assert done.returncode == 0, done.stderr
    for line in ("from label_errors('digits/pixels', 'digit', 10) e", "noise", *SCORES):
        assert line in done.stdout
    assert f"nearsql serve {path}" in done.stderr
    again = run("-c", "from nearsql.pipeline.cli import main; main()", "demo", str(path))
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "exists already" in again.stderr


def test_the_same_question_by_four_roads(built: tuple[Path, object]) -> None:
    path = str(built[0])
    cli = "from nearsql.pipeline.cli import main; main()"
    assert run("-c", cli, "sql", path, KNN, "--csv").stdout.split() == ["count(*)", "10"]
    sqlite_utils = run("-m", "sqlite_utils", "query", path, KNN, "--csv")
    assert sqlite_utils.stdout.split() == ["count(*)", "10"]
    (count,) = connection.connect(path).execute(KNN).fetchone()
    assert count == 10
    for url in ("/demo.json", "/demo/-/query.json"):  # Datasette 0.65, 1.0
        found = run(
            "-m", "datasette", path, "--get", f"{url}?sql={KNN.replace(' ', '+')}&_shape=array"
        )
        if found.returncode == 0:
            break
    assert json.loads(found.stdout) == [{"count(*)": 10}], found.stderr


def test_the_findings_are_the_planted_truth(digits: dbapi.Connection) -> None:
    planted = dict(
        digits.execute(
            "select value, count(*) from item_labels where name = 'planted' group by value"
        )
    )
    assert planted == {"flipped label": 20, "near-duplicate": 15, "outlier": 10}
    found = {finding.title: finding for finding in demo.questions(digits)}

    def ids(kind: str) -> set[int]:
        sql = "select item_id from item_labels where name = 'planted' and value = ?"
        return {i for (i,) in digits.execute(sql, (kind,))}

    first = {row[0] for row in found["Which labels look wrong?"].rows[:30]}
    assert len(first & ids("flipped label")) >= 18
    pairs = found["What is there twice?"].rows
    assert {row[0] for row in pairs} == ids("near-duplicate")
    uris = dict(digits.execute("select id, uri from items"))
    truth = dict(
        digits.execute("select item_id, value from item_labels where name = 'planted_truth'")
    )
    for copy, original, *_ in pairs:
        assert truth[copy] == uris[original]
    far = {row[0] for row in found["What belongs nowhere?"].rows[:20]}
    assert len(far & ids("outlier")) >= 9


def test_the_sql_shown_is_the_sql_asked(digits: dbapi.Connection) -> None:
    for finding in demo.questions(digits):
        assert ":" not in finding.sql.split("\n", 1)[1], finding.sql
        assert digits.execute(finding.sql).fetchall() == finding.rows


def test_flipped_labels_were_flipped(digits: dbapi.Connection) -> None:
    true_digits = load_digits().target
    for uri, digit, planted, truth in digits.execute(
        "select i.uri, d.value, p.value, t.value from items i"
        " join item_labels d on d.item_id = i.id and d.name = 'digit'"
        " left join item_labels p on p.item_id = i.id and p.name = 'planted'"
        " left join item_labels t on t.item_id = i.id and t.name = 'planted_truth'"
    ):
        is_true = int(digit) == true_digits[int(uri[20:24])]
        assert is_true == (planted != "flipped label")
        if not is_true:
            assert int(truth) == true_digits[int(uri[20:24])]


def test_the_vectors_are_the_scans(digits: dbapi.Connection) -> None:
    scans = load_digits().data
    rows = digits.execute(
        "select i.uri, v.vector from vectors v join items i on i.id = v.item_id"
        " where i.uri glob 'scikit-learn:digits/[0-9][0-9][0-9][0-9]'"
    ).fetchall()
    assert len(rows) == 1797
    for uri, blob in rows:
        vector = 1 - np.frombuffer(blob, "<f4")  # the images are dark on white
        np.testing.assert_allclose(vector, scans[int(uri[-4:])] / 16, atol=0.003)


def test_every_derived_row_names_a_finished_run(digits: dbapi.Connection) -> None:
    assert digits.execute("select kind, status from runs order by id").fetchall() == [
        (kind, "finished")
        for kind in ("ingest", "embed", "cluster", "project", "label", "evaluate", "find")
    ]
    for table in ("items", "vectors", "clusters", "memberships", "projection_points"):
        missing = f"select count(*) from {table} where run_id is null"
        assert digits.execute(missing).fetchone() == (0,), table


@pytest.mark.parametrize("run_id", [2, 3, 4])
def test_its_runs_replay_to_the_same_result(built: tuple[Path, object], run_id: int) -> None:
    """In this process: another than the one that made them."""
    done = CliRunner().invoke(cli, ["replay", str(built[0]), str(run_id)])
    assert "the same result" in done.stdout, done.output


def test_the_core_needs_no_torch(built: tuple[Path, object]) -> None:
    program = (
        "import sys\nfrom nearsql.pipeline import demo\nimport nearsql\n"
        f"db = nearsql.connect({str(built[0])!r})\nlist(demo.questions(db))\n"
        "print([m for m in ('torch', 'ultralytics', 'open_clip') if m in sys.modules])"
    )
    assert run("-c", program).stdout.strip() == "[]"


def test_a_stock_python_reads_the_file(built: tuple[Path, object]) -> None:
    program = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        "print(db.execute('select count(*) from vectors').fetchone()[0],"
        " db.execute('select clusters > 5, noise > 0 from clustering_results').fetchone())"
    )
    # A process of its own: two SQLite libraries must not open one file in one process.
    assert run("-S", "-c", program, str(built[0])).stdout.split("\n")[0] == "1822 (1, 1)"
