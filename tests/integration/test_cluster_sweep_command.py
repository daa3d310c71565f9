"""cluster_sweep in SQL, and `nearsql cluster --sweep`: table, data, drawing, what comes next."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.datasets import load_digits

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster.sweep import sweep
from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

Fill = Callable[..., int]


@pytest.fixture
def digits(add_space: Fill) -> np.ndarray:
    rows = load_digits().data[:700].astype(np.float32)
    add_space("digits", rows)
    return rows


def command(database: Path, *words: str) -> Result:
    return CliRunner().invoke(
        cli, ["cluster", str(database), "digits", "--sweep", *words], catch_exceptions=False
    )


def test_each_row_is_what_hdbscan_finds(db: dbapi.Connection, digits: np.ndarray) -> None:
    rows = db.execute("select * from cluster_sweep('digits', '[20, 5, 350, 8, 5]', 4)").fetchall()
    assert [row[0] for row in rows] == [5, 8, 20, 350]
    for size, clusters, noise, noise_share, largest, largest_share, *_ in rows:
        expected = db.execute(
            "select cluster, count(*) from hdbscan('digits', ?, 4) group by 1", (size,)
        ).fetchall()
        members = {cluster: n for cluster, n in expected if cluster is not None}
        assert clusters == len(members)
        assert noise == dict(expected).get(None, 0)
        assert largest == max(members.values(), default=0)
        assert (noise_share, largest_share) == (noise / 700, largest / 700)
    assert {row[7] for row in rows} == {0, 1}
    assert rows[-1][6] is None


def test_samples_and_parameters(db: dbapi.Connection, digits: np.ndarray) -> None:
    half = "select * from cluster_sweep('digits', null, 5, 2, null, 'leaf', 1.0)"
    rows = db.execute(half).fetchall()
    assert [row[0] for row in rows] == [5, 7, 10, 15, 20, 30, 50, 70, 100, 150]
    of_half = "select id from items where sequence_number % 2 = 0"
    within = "select * from cluster_sweep('digits', null, 5, 1, ?, 'leaf', 1.0)"
    assert db.execute(within, (of_half,)).fetchall() == rows
    assert (
        rows[0][1:3]
        == db.execute(
            "select count(distinct cluster), sum(cluster is null)"
            " from hdbscan('digits', 5, 5, 2, null, 'leaf', 1.0)"
        ).fetchone()
    )
    found = [
        (*row[:7], int(row[7]))
        for row in (
            (
                r.min_cluster_size,
                r.clusters,
                r.noise,
                r.noise_share,
                r.largest,
                r.largest_share,
                r.persistence,
                r.is_cliff,
            )
            for r in sweep(db, "digits", downsample=2, selection="leaf", epsilon=1.0)
        )
    ]
    assert found == rows


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("'nothing'", "there is no space 'nothing'"),
        ("'digits', 5", "sizes must be a JSON array such as '[5, 10, 20]', not 5"),
        ("'digits', '5'", "sizes must be a JSON array, not '5'"),
        ("'digits', '[5'", "sizes is not valid JSON"),
        ("'digits', '[]'", "sizes must name at least one size"),
        ("'digits', '[5, 1]'", "sizes must be a whole number of at least 2, not 1"),
        ("'digits', '[5, true]'", "sizes must be a whole number of at least 2, not True"),
        ("'digits', '[99999999999999999999]'", "sizes must be at most 9223372036854775807"),
        ("'digits', null, 0", "min_samples must be a whole number of at least 1, not 0"),
        ("'digits', null, 5, 0", "downsample must be a whole number of at least 1, not 0"),
        ("'digits', null, 5, 1000", "there are 1 items to cluster, and 2 are needed"),
        ("'digits', null, 5, 1, null, 'most'", "selection must be one of eom, leaf"),
        ("'digits', null, 5, 1, null, 'eom', -1", "epsilon must be at least 0.0, not -1"),
        ("'digits', null, 5, 1, null, 'eom', 0, 'x'", "neighbors must be one of auto"),
        ("'ip'", "inner products are not distances"),
    ],
)
def test_wrong_arguments_are_sentences(
    db: dbapi.Connection, add_space: Fill, arguments: str, sentence: str
) -> None:
    add_space("digits", np.eye(9))
    add_space("ip", np.eye(9), metric="ip")
    with pytest.raises(dbapi.OperationalError, match=r"^cluster_sweep: ") as caught:
        db.execute(f"select * from cluster_sweep({arguments})").fetchall()
    assert sentence in str(caught.value)


def test_a_time_limit_stops_it(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("big", np.random.default_rng(0).normal(size=(4000, 48)))
    db.set_progress_handler(lambda: 1, 1000)
    with pytest.raises(dbapi.OperationalError, match="interrupted"):
        db.execute("select count(*) from cluster_sweep('big')").fetchall()


def test_table_for_people_and_data_for_pipes(
    db: dbapi.Connection, digits: np.ndarray, database: Path
) -> None:
    shown = command(database)
    assert shown.exit_code == 0
    rows = db.execute("select * from cluster_sweep('digits')").fetchall()
    names = [
        column[0] for column in db.execute("select * from cluster_sweep('digits')").description
    ]
    lines = shown.stdout.splitlines()[2:]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        words = line.split()
        assert words[:3] == [str(value) for value in row[:3]]
        assert f"{100 * row[3]:.1f}%" in words
        assert ("cliff" in words) == bool(row[7])
    assert {row[7] for row in rows} == {0, 1}
    assert f"next: nearsql cluster {database} digits --min-cluster-size" in shown.stderr

    expected = [dict(zip(names, row, strict=True)) for row in rows]
    assert json.loads(command(database, "--json").stdout) == expected
    assert [json.loads(line) for line in command(database, "--nl").stdout.splitlines()] == expected
    table = list(csv.DictReader(io.StringIO(command(database, "--csv").stdout)))
    assert [row["clusters"] for row in table] == [str(row[1]) for row in rows]
    assert table[-1]["persistence"] == ""
    # A sweep is a look: nothing is stored.
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_sizes_and_the_next_step_repeat_what_was_asked(
    db: dbapi.Connection, digits: np.ndarray, database: Path
) -> None:
    words = ["--min-samples", "3", "--downsample", "2", "--selection", "leaf", "--epsilon", "2"]
    shown = command(database, "--sizes", "30, 5,5,12", *words)
    assert [line.split()[0] for line in shown.stdout.splitlines()[2:]] == ["5", "12", "30"]
    (line,) = (line for line in shown.stderr.splitlines() if "next:" in line)
    assert line.endswith("--min-samples 3 --downsample 2 --selection leaf --epsilon 2.0")
    again = line.split("nearsql ")[1].split()
    assert CliRunner().invoke(cli, again, catch_exceptions=False).exit_code == 0


def test_nothing_to_find(db: dbapi.Connection, digits: np.ndarray, database: Path) -> None:
    shown = command(database, "--sizes", "500,600")
    assert "no size finds two clusters" in shown.stderr
    assert "next:" not in shown.stderr


def test_a_space_that_cannot_be_clustered(
    db: dbapi.Connection, digits: np.ndarray, add_space: Fill, database: Path
) -> None:
    with pytest.raises(UserError, match="digits cannot be clustered: a downsample by 999 leaves 1"):
        command(database, "--downsample", "999")
    add_space("ip", np.eye(9), metric="ip")
    with pytest.raises(UserError, match="ip cannot be clustered: inner products"):
        sweep(db, "ip")
    with pytest.raises(LookupError, match="there is no space 'x'"):
        sweep(db, "x")


def test_drawings(db: dbapi.Connection, digits: np.ndarray, database: Path, tmp_path: Path) -> None:
    one, two, png = (tmp_path / name for name in ("one.svg", "two.svg", "sweep.PNG"))
    for path in (one, two, png):
        shown = command(database, "--sizes", "5,20,350", "--plot", str(path))
        assert f"drawn: {path}" in shown.stderr
    assert one.read_bytes() == two.read_bytes()
    text = one.read_text("utf-8")
    for word in ("min_cluster_size", "clusters", "noise", "largest cluster", "cliff", "digits"):
        assert f">{word}" in text
    with Image.open(png) as image:
        assert image.format == "PNG"
        assert image.width > 500


def test_a_drawing_is_refused_before_the_work(
    db: dbapi.Connection,
    digits: np.ndarray,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            command(database, "--plot", str(path))
        assert not path.exists()
        return str(caught.value)

    assert "must end in .svg or .png" in refused(tmp_path / "sweep.jpg")
    assert "there is no folder" in refused(tmp_path / "nowhere" / "sweep.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    assert "pip install 'nearsql[plot]'" in refused(tmp_path / "sweep.svg")
    # The table needs no such thing.
    assert command(database).exit_code == 0


def test_a_sweep_from_a_graph_says_how_good_it_is(
    db: dbapi.Connection, digits: np.ndarray, database: Path
) -> None:
    shown = command(database, "--neighbors", "graph", "--sizes", "10,20")
    assert "digits: from a graph of 32 neighbours" in shown.stderr
    assert "agreement with exact clusters" in shown.stderr
    assert "--neighbors graph" in shown.stderr
    assert "from a graph" not in command(database, "--sizes", "10,20").stderr
