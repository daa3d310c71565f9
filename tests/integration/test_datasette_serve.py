"""`nearsql serve FILE`: Datasette's own server, opened at the overview."""

import socket
import urllib.request
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner
from gallery import Gallery
from served import free_port, server

from nearsql.pipeline import cli
from nearsql.pipeline.commands import serve
from nearsql.udfs import dbapi


def test_it_serves_the_pages(gallery: Gallery) -> None:
    port = free_port()
    main = "from nearsql.pipeline.cli import main; main()"
    command = ("-c", main, "serve", str(gallery.path), "--port", str(port), "--no-open")
    with (
        server(*command, port=port) as address,
        urllib.request.urlopen(address + "/-/nearsql/gallery", timeout=30) as response,
    ):
        assert "paint/space" in response.read().decode()


def test_the_browser_opens_at_the_overview(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        serve._open_when_ready("127.0.0.1", port, "http://here")
    assert opened == ["http://here"]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line by which the command refuses."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", *arguments, "--no-open"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, str(tmp_path / "none.db"))
    assert line.startswith("nearsql: there is no file")
    assert "nearsql demo" in line
    assert not (tmp_path / "none.db").exists()


def test_a_stranger_s_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    db = dbapi.connect(tmp_path / "plants.db")
    db.execute("create table plants (name text)")
    db.close()
    assert "is not a nearsql database" in refusal(capsys, str(tmp_path / "plants.db"))
    (tmp_path / "text.db").write_text("no database " * 100)
    assert "is not an SQLite database" in refusal(capsys, str(tmp_path / "text.db"))


def test_a_port_in_use(capsys: pytest.CaptureFixture[str], gallery: Gallery) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refusal(capsys, str(gallery.path), "--port", str(port))
    assert line.startswith(f"nearsql: port {port} of 127.0.0.1 cannot be used")
    assert "choose another with --port" in line


def test_an_unknown_host(capsys: pytest.CaptureFixture[str], gallery: Gallery) -> None:
    line = refusal(capsys, str(gallery.path), "--host", "no.such.host.invalid")
    assert "of no.such.host.invalid cannot be used" in line


def test_help() -> None:
    result = CliRunner().invoke(cli.cli, ["serve", "--help"])
    assert result.exit_code == 0
    assert "--open / --no-open" in result.output
