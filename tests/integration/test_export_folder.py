"""The folder of `nearsql export`: whole or not there, and never at the cost of other files."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from exported import nearsql_export
from gallery import Gallery

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export
from nearsql.pipeline.export.folder import new_folder
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("several_batches")


def test_the_same_file_gives_the_same_bytes(opened: dbapi.Connection, tmp_path: Path) -> None:
    for format_ in ("json", "csv", "parquet", "datamapplot"):
        for copy in "ab":
            export(opened, tmp_path / copy / format_, format=format_)
        for file in (tmp_path / "a" / format_).iterdir():
            assert file.read_bytes() == (tmp_path / "b" / format_ / file.name).read_bytes()


def test_a_folder_with_anything_in_it_is_refused(painted: Gallery, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert nearsql_export(painted.path, "--to", out).exit_code == 0  # empty: nothing is lost
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    done = nearsql_export(painted.path, "--to", out, "--format", "csv")
    assert str(done.exception) == (
        f"{out} is not empty: name another folder, or replace an earlier export with --overwrite"
    )
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert (
        nearsql_export(painted.path, "--to", out, "--format", "csv", "--overwrite").exit_code == 0
    )
    assert sorted(file.name for file in out.iterdir()) == [
        "clusters.csv",
        "index.json",
        "items.csv",
    ]
    (out / "notes.txt").write_text("mine")
    done = nearsql_export(painted.path, "--to", out, "--overwrite")
    assert str(done.exception).startswith(f"{out} holds 'notes.txt', which no export put there")
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "items.csv").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "index",
    [None, "", "[]", "{}", '{"format": "another"}', '{"format": "nearsql export"}', "[" * 9999],
)
def test_what_is_no_export_is_never_overwritten(
    opened: dbapi.Connection, tmp_path: Path, index: str | None
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"dear to me")
    if index is not None:
        (folder / "index.json").write_text(index)
    with pytest.raises(UserError, match="which no export put there"):
        export(opened, folder, overwrite=True)
    assert (folder / "photo.jpg").read_bytes() == b"dear to me"


def test_a_file_is_no_folder(painted: Gallery, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--overwrite")
    assert str(done.exception) == (
        f"{tmp_path / 'out'} is a file: name a folder that does not exist yet"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_a_link_to_a_folder_stays_a_link(opened: dbapi.Connection, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(opened, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "items.json").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    with new_folder(tmp_path / "out") as first:
        (first / "index.json").write_text('{"format": "nearsql export", "files": []}')
    for overwrite in (False, True):
        place = tmp_path / ("out" if overwrite else "other")
        with pytest.raises(error), new_folder(place, overwrite=overwrite) as made:
            (made / "half").write_text("written")
            raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.json"]


def test_killed_midway_the_folder_is_not_there(painted: Gallery, tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from nearsql.pipeline.export import export, run, files\n"
        "from nearsql.udfs import connection\n"
        "import nearsql.pipeline.export.run as run\n"
        "def stop(*arguments): os.kill(os.getpid(), signal.SIGKILL)\n"
        "run.write_index = stop\n"
        f"export(connection.connect({str(painted.path)!r}), {str(tmp_path / 'out')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    (partial,) = [path for path in tmp_path.iterdir() if path.name.startswith(".out.partial-")]
    assert (partial / "items.json").exists()
    assert nearsql_export(painted.path, "--to", tmp_path / "out").exit_code == 0
