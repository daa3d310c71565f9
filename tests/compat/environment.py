"""A virtual environment for a foreign test suite, its source, and the face to run it on."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path

from tests.compat.suites import Suite

_ROOT = Path(__file__).resolve().parents[2]
_INSIDE = Path(__file__).resolve().parent / "inside"


class Environment:
    """Where one suite runs: a folder of the cache, made once and kept."""

    def __init__(self, suite: Suite, cache: Path) -> None:
        self.suite = suite
        self.folder = cache / suite.name
        self.python = self.folder / "venv" / _scripts() / ("python" + _exe())

    def prepare(self) -> None:
        """Downloads and installs the suite, unless that has been done; copies the face anew."""
        ready = self.folder / "ready"
        if not ready.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            venv.create(self.folder / "venv", with_pip=True)
            packages = [f"apsw=={version('apsw')}", *self.suite.requirements]
            if self.suite.package is not None:
                packages.append(str(self._download(self.suite.package)))
            self._pip("install", *packages)
            ready.touch()
        self._copy_face()

    def complete_from(self, checkout: Path) -> bool:
        """Adds what the source archive lacks of a checkout's tests and the documentation they read.

        Whether anything was added.
        """
        added = False
        for path in [*(checkout / "tests").rglob("*"), *(checkout / "docs").rglob("*")]:
            target = self.source() / path.relative_to(checkout)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
                added = True
        return added

    def source(self) -> Path:
        """The unpacked source archive, with its tests."""
        (source,) = (path for path in (self.folder / "source").iterdir() if path.is_dir())
        return source

    def variables(self) -> dict[str, str]:
        """The process environment of a run: finds the face and the helpers; nothing of ours."""
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        variables["PYTHONPATH"] = os.pathsep.join([str(self.folder / "face"), str(_INSIDE)])
        variables["PATH"] = os.pathsep.join([str(self.python.parent), variables.get("PATH", "")])
        return variables

    def _download(self, package: str) -> Path:
        target = self.folder / "source"
        self._pip("download", "--no-binary", ":all:", "--no-deps", "--dest", str(target), package)
        (archive,) = target.glob("*.tar.gz")
        with tarfile.open(archive) as unpacked:
            unpacked.extractall(target, filter="data")
        return self.source()

    def _copy_face(self) -> None:
        """The face alone, under its installed name, so that no other part is needed."""
        face = self.folder / "face"
        shutil.rmtree(face, ignore_errors=True)
        package = face / "nearsql" / "udfs"
        package.mkdir(parents=True)
        (face / "nearsql" / "__init__.py").touch()
        (package / "__init__.py").touch()
        shutil.copytree(
            _ROOT / "udfs" / "dbapi",
            package / "dbapi",
            ignore=shutil.ignore_patterns("__pycache__"),
        )

    def _pip(self, *arguments: str) -> None:
        command = [str(self.python), "-m", "pip", "--quiet", *arguments]
        for attempt in (1, 2):
            if subprocess.run(command, cwd=self.folder, check=False).returncode == 0:
                return
            print(f"pip {arguments[0]} failed (attempt {attempt})", file=sys.stderr)
        raise SystemExit(f"{self.suite.name}: pip {' '.join(arguments)} failed")


def _scripts() -> str:
    return "Scripts" if os.name == "nt" else "bin"


def _exe() -> str:
    return ".exe" if os.name == "nt" else ""
