"""`nearsql doctor`: what works, what is not there, and what is there and broken."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nearsql.pipeline import doctor
from nearsql.pipeline.cli import cli


def facts(words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, dict]]:
    """The command's exit code, and its facts by name; the extras left out, whose imports take long."""
    monkeypatch.setattr(doctor, "CORE", doctor.CORE[:2])
    outcome = CliRunner().invoke(cli, ["doctor", "--format", "json", *words])
    return outcome.exit_code, {fact["what"]: fact for fact in json.loads(outcome.stdout)}


def test_what_is_there_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = {"ray": (("no-such-thing", "nothing", "more than one machine"),)}
    monkeypatch.setattr(doctor, "EXTRAS", extras)
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else real(name))
    code, found = facts([], monkeypatch)
    assert code == 0
    assert found["numpy"]["is"] == "ok"
    assert found["numpy"]["version"] == importlib.metadata.version("numpy")
    assert found["no-such-thing"]["is"] == "missing"
    assert "pip install 'nearsql[ray]'" in found["no-such-thing"]["remark"]
    assert found["sqlite"]["is"] == "ok"


def test_what_is_installed_and_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torn.py").write_text("raise OSError('libtorn.so: no such file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "EXTRAS", {"plot": (("numpy", "torn", "plots"),)})
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1.0")
    monkeypatch.setattr(doctor, "CORE", ())
    outcome = CliRunner().invoke(cli, ["doctor"])
    assert outcome.exit_code == 1
    assert "importing torn: OSError: libtorn.so: no such file" in outcome.stdout
    assert outcome.stderr.endswith("broken: numpy\n")


def test_a_library_that_ends_the_process_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kills.py").write_text("import os; os.kill(os.getpid(), 11)")
    (tmp_path / "torn.py").write_text("print('[1, 2'); import nothing_of_the_kind")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.import_problems(["json", "kills", "torn", "ast"]) == {
        "kills": "importing kills ends the process (exit code -11)",
        "torn": "importing torn: ModuleNotFoundError: No module named 'nothing_of_the_kind'",
    }


real = doctor._version
