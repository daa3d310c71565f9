"""What several files of tests share; their helpers lie beside this folder."""

import shutil
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from docs.example_database import build as build_examples
from nearsql.pipeline.export import rows, tables
from nearsql.pipeline.index import index, make
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search import memory
from nearsql.udfs.search.memory import Residents

sys.path.insert(0, str(Path(__file__).parents[1]))

import cluster_tree
import ninety
from chat_server import ChatServer, chat_server, write_models
from cluster_tree import Tree
from exported import full_gallery
from gallery import Gallery, build
from labelled import pets
from searched import Searched
from searched import build as build_searched
from served import Site, site
from stored_graphs import use_small_blocks
from topics import Topics, add_topics

one_ssl_context = cache(ssl.create_default_context)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The small database of gallery.py. Nobody writes to it."""
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="session")
def gallery_site(gallery: Gallery) -> Iterator[Site]:
    """The gallery in Datasette."""
    with site(gallery.path) as opened:
        yield opened


@pytest.fixture(scope="session")
def written_gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """A gallery that pages may write to."""
    return build(tmp_path_factory.mktemp("written") / "gallery.db")


@pytest.fixture(scope="session")
def written_site(written_gallery: Gallery) -> Iterator[Site]:
    """It in Datasette, where root may do everything."""
    with site(written_gallery.path) as opened:
        opened.let_root()
        yield opened


@pytest.fixture
def writable(written_site: Site, written_gallery: Gallery) -> Iterator[Site]:
    """A site that the test may write to: what it has saved goes afterwards."""
    yield written_site
    db = connection.connect(written_gallery.path)
    db.execute("delete from selections")
    db.execute("delete from item_labels where source = 'hand'")
    db.commit()
    db.close()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The database of cluster_tree.py. Who writes to it takes that back."""
    made = cluster_tree.build(tmp_path_factory.mktemp("tree") / "tree.db")
    # Compiled here: in a new installation a page has no time to wait for it.
    cluster_tree.asked(
        made.path, "select count(*) from cluster_sweep(?, '[5]', 3)", cluster_tree.SPACE
    )
    return made


@pytest.fixture(scope="session")
def tree_site(tree: Tree) -> Iterator[Site]:
    """It in Datasette."""
    with site(tree.path) as opened:
        yield opened


@pytest.fixture
def tree_copy(tree: Tree, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    path = tmp_path / "tree.db"
    path.write_bytes(tree.path.read_bytes())
    return path


@pytest.fixture(scope="session")
def ninety_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of ninety.py. Nobody writes to it."""
    return ninety.build(tmp_path_factory.mktemp("evaluate") / "items.db")


@pytest.fixture
def ninety_path(ninety_items: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copy(ninety_items, tmp_path))


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The database of searched.py. Nobody writes to it."""
    return build_searched(tmp_path_factory.mktemp("searched") / "searched.db")


@pytest.fixture(scope="session")
def searched_site(searched: Searched) -> Iterator[Site]:
    """It in Datasette."""
    with site(searched.path) as opened:
        yield opened


@pytest.fixture(scope="session")
def example_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents' examples run on. Nobody writes to it: who needs to, copies it."""
    path = tmp_path_factory.mktemp("examples") / "digits.db"
    build_examples(path)
    return path


@pytest.fixture(scope="session")
def export_gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The database of exported.py. Nobody writes to it."""
    return full_gallery(tmp_path_factory.mktemp("export") / "gallery.db")


@pytest.fixture
def painted(export_gallery: Gallery, tmp_path: Path) -> Gallery:
    """A copy of it, to be changed."""
    return replace(
        export_gallery, path=Path(shutil.copy(export_gallery.path, tmp_path / "gallery.db"))
    )


@pytest.fixture
def opened(painted: Gallery) -> Iterator[dbapi.Connection]:
    """An open connection to that copy."""
    db = connection.connect(painted.path)
    yield db
    db.close()


@pytest.fixture
def several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred items are several batches of an export."""
    monkeypatch.setattr(rows, "BATCH", 7)
    monkeypatch.setattr(rows.batches, "__defaults__", (7,))
    monkeypatch.setattr(tables, "BATCH", 2)


@pytest.fixture
def topics(db: dbapi.Connection) -> Topics:
    """`db` with the clustered texts of topics.py."""
    return add_topics(db)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A language model's server."""
    with chat_server() as running:
        yield running


@pytest.fixture
def llm_home(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the llm command: a fresh one, that knows the server's models."""
    write_models(tmp_path / "llm", server)
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Each question makes a client, each of which would read all certificates, to ask without them.
    monkeypatch.setattr(ssl, "create_default_context", one_ssl_context)
    return tmp_path / "llm"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of four labelled images."""
    return pets(tmp_path / "pets")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few items of a neighbour graph are several transactions."""
    use_small_blocks(monkeypatch)


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recall of an index is measured on few items."""
    monkeypatch.setattr(make, "TUNED_ON", 300)
    monkeypatch.setattr(make, "MEASURED_ON", 300)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Residents:
    """Nothing in memory yet."""
    monkeypatch.setattr(memory.residents, "_kept", type(memory.residents._kept)())
    return memory.residents


@pytest.fixture
def indexed(db: dbapi.Connection, add_space: Callable[..., int]) -> dbapi.Connection:
    """Space `s` of 300 vectors, with an hnsw and an ivf index."""
    add_space("s", np.random.default_rng(0).standard_normal((300, 16)))
    for engine in ("hnsw", "ivf"):
        index(db, ["s"], engine)
    return db
