"""`nearsql serve FILE`: Datasette's own server, opened at the overview."""

import html
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gallery import Gallery
from served import free_port, server, site

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


def cookies_of(answer: Any) -> str:
    """The cookies that an answer sets, as a browser sends them back."""
    return "; ".join(each.split(";")[0] for each in answer.headers.get_all("set-cookie") or [])


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(url: str, cookie: str = "") -> Any:
    """The answer, also to what is refused; redirects are not followed."""
    request = urllib.request.Request(url, headers={"cookie": cookie})
    try:
        return urllib.request.build_opener(NoRedirect).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        return error


def serving(path: Path, *options: str) -> tuple[subprocess.Popen[str], str, str]:
    """`nearsql serve` in a process of its own: (process, its address, what it said)."""
    main = "from nearsql.pipeline.cli import main; main()"
    port = str(free_port())
    process = subprocess.Popen(
        [sys.executable, "-c", main, "serve", str(path), "--port", port, "--no-open", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    if "--read-only" not in options:
        said += process.stderr.readline()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    return process, f"http://127.0.0.1:{port}", said


def test_its_user_may_write_by_a_link_that_works_once(gallery: Gallery) -> None:
    process, address, said = serving(gallery.path)
    page = f"{address}/-/nearsql/gallery/selections"
    try:
        (link,) = re.findall(r"open (http\S+) once", said)
        assert "<textarea" not in ask(page).read().decode()
        entered = ask(link)
        assert entered.status == 302
        assert entered.headers["location"] == "/-/nearsql/gallery"
        assert "no-store" in entered.headers["cache-control"]
        cookie = cookies_of(entered)
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert "<textarea" in ask(page, cookie).read().decode()
        # A second person has nothing of it; the first may follow it again.
        again = ask(link)
        assert again.status == 403
        assert not cookies_of(again)
        assert "has been used" in html.unescape(again.read().decode())
        assert ask(link, cookie).status == 302
        # Others' links are none: signed with another secret, or for another purpose.
        for token in ("", "x", "a.b", cookie.removeprefix("ds_actor=")):
            assert ask(f"{address}/-/nearsql-enter?token={token}").status == 403
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == ""
    assert "Traceback" not in errors


def test_read_only(gallery: Gallery) -> None:
    process, address, said = serving(gallery.path, "--read-only")
    try:
        assert "once" not in said
        answer = ask(f"{address}/-/nearsql/gallery/selections")
        assert answer.status == 200
        assert "<textarea" not in answer.read().decode()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_link_does_not_last(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(gallery.path) as own:
        monkeypatch.setattr(serve, "LINK_LIMIT", -1)
        late = own.get(serve.one_time_link(own.datasette, "/-/nearsql/gallery"))
        assert late.status_code == 403
        assert "too old" in late.text
        monkeypatch.undo()
        link = serve.one_time_link(own.datasette, "/-/nearsql/gallery")
        assert own.request("HEAD", link).status_code == 405
        assert own.get(link).status_code == 302
        assert own.get(link).status_code == 403
        # A cookie is no link, and another server's link is none here.
        with site(gallery.path) as other:
            assert other.get(link).status_code == 403
        assert own.get("/-/nearsql-enter").status_code == 403


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
