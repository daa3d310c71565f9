"""Scripts and styles, served from this package and from the installed plotly; nothing is vendored.

An address holds a version, so that browsers may keep what it gives for good. Our own files share one,
made of all of them, so that a script may import another by its name.
"""

import hashlib
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

from datasette.utils.asgi import Request, Response

CONTENT_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

_STATIC = files("nearsql.datasette_plugins.static")


def asset_url(datasette: Any, name: str) -> str:
    """The address of an asset, with Datasette's base_url in front."""
    return str(datasette.urls.path(f"/-/nearsql-assets/{_version(name)}/{name}"))


async def asset(request: Request) -> Response:
    """One asset; an address of an older version gives 404, never another version's bytes."""
    name, version = request.url_vars["name"], request.url_vars["version"]
    if name not in (*_own_names(), "plotly.min.js") or version != _version(name):
        return Response.text("There is no such asset.", status=404)
    return Response(
        _read(name),
        headers={
            "cache-control": "public, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
        },
        content_type=CONTENT_TYPES[Path(name).suffix],
    )


def _read(name: str) -> bytes:
    if name == "plotly.min.js":
        return _plotly_path().read_bytes()
    return _STATIC.joinpath(name).read_bytes()


def _version(name: str) -> str:
    return distribution("plotly").version if name == "plotly.min.js" else _own_version()


@cache
def _own_names() -> tuple[str, ...]:
    """What is in static/: every script and style there, and nothing else."""
    names = (entry.name for entry in _STATIC.iterdir())
    return tuple(sorted(name for name in names if Path(name).suffix in CONTENT_TYPES))


@cache
def _own_version() -> str:
    digest = hashlib.sha256()
    for name in _own_names():
        digest.update(hashlib.sha256(_read(name)).digest())
    return digest.hexdigest()[:16]


@cache
def _plotly_path() -> Path:
    # By its metadata, because importing plotly takes longer than the page does.
    return Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
