"""Four models of very unequal size: samples, skips, another writer, and kill -9 at any moment."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.marked import write_between_marks
from benchmarks.per_model.models_file import build, complete_runs, sampled
from benchmarks.per_model.second_writer import second_writer
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection

SIZES = {"large": 3000, "medium": 700, "small": 101, "tiny": 25}
SPACES = [f"{name}/features" for name in SIZES]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "models.db"
    build(path, SIZES, dimensions=8)
    return path


@pytest.fixture
def copied(models: Path, tmp_path: Path) -> Path:
    path = tmp_path / "models.db"
    path.write_bytes(models.read_bytes())
    return path


def test_a_model_is_skipped_exactly_when_fewer_than_two_are_left(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = connection.connect(copied)
    with second_writer(copied) as writer:
        for downsample in (10_000, 1000, 100, 10, 1):
            before = len(complete_runs(db))
            results = cluster_spaces(db, downsample=downsample, quiet=False)
            said = capsys.readouterr().err
            assert {result.space for result in results} == set(SPACES)
            for result in results:
                total = SIZES[result.space.partition("/")[0]]
                n = sampled(total, downsample)
                assert (result.run_id is None) == (n < 2)
                assert (result.counts["total"], result.counts["sampled"]) == (total, n)
                if n < 2:
                    reason = f"a downsample by {downsample} leaves {n} of {total} items"
                    assert f"skipped {result.space}: {reason}, and 2 are needed" in said
                else:
                    assert replay(db, int(result.run_id or 0)).is_same
                    assert f"{result.space}: run {result.run_id}: " in said
                    found = f"of {n:,} items, {result.counts['noise']:,} noise"
                    assert found in said
            made = [run for run, _, _ in complete_runs(db)][before:]
            assert made == [result.run_id for result in results if result.run_id is not None]
    assert writer["writes"] > 10
    db.close()


# For each moment a process, forked when everything is imported, that clusters a copy of the file with
# downsample 2 and kills itself when it is at its third model.
KILLED = """\
import os, shutil, signal, sys
import nearsql.udfs.clustering.space_tree
from nearsql.pipeline.cluster import cluster_spaces, groups, run
from nearsql.udfs.connection import open_database

write_result, immediate, describe = groups.write_result, groups.immediate, run.describe
written = 0

def kill_at(wanted):
    if moment == wanted:
        os.kill(os.getpid(), signal.SIGKILL)

class Members(list):
    def __iter__(self):
        for number, row in enumerate(list.__iter__(self)):
            if number == len(self) // 2:
                kill_at("among the members")
            yield row

def describing(*arguments, **named):
    if written == 2:
        kill_at("while computing")
    return describe(*arguments, **named)

def writing(db, run_id, clusters, members):
    global written
    written += 1
    if written == 3:
        members = Members(members)
        kill_at("before the write")
    write_result(db, run_id, clusters, members)

class Immediate:
    def __init__(self, db):
        self.block = immediate(db)
    def __enter__(self):
        return self.block.__enter__()
    def __exit__(self, *error):
        if written == 3:
            kill_at("before the commit")
        self.block.__exit__(*error)
        if written == 3:
            kill_at("after the commit")

groups.write_result, groups.immediate, run.describe = writing, Immediate, describing
source, folder, spaces, *moments = sys.argv[1:]
for number, moment in enumerate(moments):
    path = os.path.join(folder, str(number))
    shutil.copy(source, path)
    child = os.fork()
    if child == 0:
        cluster_spaces(open_database(path), spaces.split(","), downsample=2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, moment
"""
MOMENTS = {  # and how many models are then complete
    "while computing": 2,
    "before the write": 2,
    "among the members": 2,
    "before the commit": 2,
    "after the commit": 3,
}


@pytest.fixture(scope="module")
def killed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that the killed processes left."""
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run(
        [sys.executable, "-c", KILLED, models, folder, ",".join(SPACES), *MOMENTS], check=True
    )
    return {moment: folder / str(number) for number, moment in enumerate(MOMENTS)}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_earlier_models_are_whole_and_nothing_is_half(
    killed: dict[str, Path], moment: str
) -> None:
    db = connection.connect(killed[moment])
    assert [space for _, space, _ in complete_runs(db)] == SPACES[: MOMENTS[moment]]
    (with_rows,) = db.execute("select count(distinct run_id) from memberships").fetchone()
    assert with_rows == MOMENTS[moment]
    db.close()


def test_after_a_kill_the_same_call_clusters_all_models(killed: dict[str, Path]) -> None:
    db = connection.connect(killed["before the commit"])
    results = cluster_spaces(db, SPACES, downsample=2)
    assert [result.run_id for result in results] == [4, 5, 6, 7]
    statuses = [status for (status,) in db.execute("select status from runs order by id")]
    assert statuses == ["finished"] * 2 + ["interrupted"] + ["finished"] * 4
    assert len(complete_runs(db)) == 6
    hashes = dict(db.execute("select id, result_sha256 from runs").fetchall())
    assert (hashes[1], hashes[2]) == (hashes[4], hashes[5])
    db.close()


def test_an_unfinished_run_with_rows_would_be_noticed(copied: Path) -> None:
    db = connection.connect(copied)
    cluster_spaces(db, SPACES[:2], downsample=2)
    assert len(complete_runs(db)) == 2
    db.execute("savepoint before")
    db.execute("delete from memberships where item_id = 1")
    with pytest.raises(AssertionError, match="run 1 of large/features is not whole"):
        complete_runs(db)
    db.execute("rollback to before")
    db.execute("insert into runs (kind) values ('cluster')")
    db.execute("insert into memberships (run_id, item_id) values (3, 1)")
    with pytest.raises(AssertionError, match="run 3 is running and has members"):
        complete_runs(db)
    db.rollback()
    db.close()


def test_figures_go_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- Made by `x --write`: do not edit. -->\n1\n<!-- End. -->\nb\n")
    for text in ("2", r"\1"):
        write_between_marks(page, "x", text)
        assert page.read_text() == (
            f"a\n<!-- Made by `x --write`: do not edit. -->\n\n{text}\n\n<!-- End. -->\nb\n"
        )
    with pytest.raises(ValueError, match="has 0 places marked"):
        write_between_marks(page, "y", "2")
