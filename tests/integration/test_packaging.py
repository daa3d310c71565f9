"""The wheel and the sdist hold everything, and the rooms import from each way of installing."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("schema", "migrations", "udfs", "pipeline", "datasette_plugins")
PROGRAM = (
    "import nearsql, sys; assert nearsql.__version__;"
    "db = nearsql.connect(sys.argv[1]);"
    "print(db.execute('select vector_dimensions(vector(?))', ('[1, 2]',)).fetchone()[0], nearsql.__file__)"
)


def package_files() -> set[str]:
    """What an installed nearsql must hold: every file of the rooms that is code, SQL or a page."""
    endings = {".py", ".sql", ".html", ".css", ".js"}
    files = {
        f"nearsql/{file.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.suffix in endings
    }
    return files | {"nearsql/__init__.py", "nearsql/py.typed"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "pyproject.toml").exists():
        raise AssertionError("these tests run from a checkout")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def run_elsewhere(path: Path, tmp_path: Path) -> str:
    """Runs PROGRAM in an empty folder with `path` first on sys.path."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "new.db"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1]


def test_the_wheel_holds_every_file_and_works(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("nearsql/")}
        assert held == package_files()
        installed = tmp_path / "installed"
        archive.extractall(installed)
    assert run_elsewhere(installed, tmp_path).startswith(str(installed))


def test_the_sdist_holds_every_file(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {name.removeprefix("nearsql/") for name in package_files()}
    wanted -= {"__init__.py", "py.typed"}
    assert (
        wanted | {"src/nearsql/__init__.py", "src/nearsql/py.typed", "LICENSE", "README.md"} <= held
    )


def test_the_checkout_works_without_installing(tmp_path: Path) -> None:
    assert run_elsewhere(ROOT / "src", tmp_path) == str(ROOT / "src/nearsql/__init__.py")


def test_help_answers_without_heavy_imports() -> None:
    program = (
        "import sys\nfrom nearsql.pipeline.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'apsw', 'faiss', 'sklearn', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr


def test_connecting_does_not_import_the_heavy_libraries() -> None:
    program = (
        "import sys, nearsql\nnearsql.connect(':memory:')\n"
        "heavy = ('faiss', 'sklearn', 'scipy', 'numba', 'hdbscan', 'umap', 'PIL', 'torch', 'pandas')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
