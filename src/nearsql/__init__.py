"""nearsql: images, texts, embeddings, neighbours and clusters in one SQLite file.

>>> import nearsql
>>> db = nearsql.connect("photos.db")
>>> db.execute("select id, distance from knn('clip', 42, 10)").fetchall()
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the rooms (schema/, udfs/, ...) stand beside src/, and new files must be found at once.
_checkout = Path(__file__).resolve().parents[2]
if (_checkout / "pyproject.toml").is_file() and (_checkout / "udfs").is_dir():
    __path__.insert(0, str(_checkout))

try:
    __version__ = version("nearsql")
except PackageNotFoundError:  # a checkout on sys.path, nothing installed
    import tomllib

    __version__ = tomllib.loads((_checkout / "pyproject.toml").read_text())["project"]["version"]

__all__ = ["__version__", "connect"]

if TYPE_CHECKING:
    from nearsql.udfs.connection import connect


def __getattr__(name: str) -> Any:
    # Lazily, so that `import nearsql` and `nearsql --help` do not wait for APSW.
    if name == "connect":
        from nearsql.udfs.connection import connect

        return connect
    raise AttributeError(f"module 'nearsql' has no attribute {name!r}")
