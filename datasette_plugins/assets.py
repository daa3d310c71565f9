"""Scripts and styles, served from this package and from the installed plotly; nothing is vendored.

An address holds a version, so that browsers may keep what it gives for good.
"""

import hashlib
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

from datasette.utils.asgi import Request, Response

CONTENT_TYPES = {
    "nearsql.css": "text/css; charset=utf-8",
    "map.js": "text/javascript; charset=utf-8",
    "boxes.js": "text/javascript; charset=utf-8",
    "plotly.min.js": "text/javascript; charset=utf-8",
}


def asset_url(datasette: Any, name: str) -> str:
    """The address of an asset, with Datasette's base_url in front."""
    return str(datasette.urls.path(f"/-/nearsql-assets/{_version(name)}/{name}"))


async def asset(request: Request) -> Response:
    """One asset; an address of an older version gives 404, never another version's bytes."""
    name, version = request.url_vars["name"], request.url_vars["version"]
    if name not in CONTENT_TYPES or version != _version(name):
        return Response.text("There is no such asset.", status=404)
    return Response(
        _read(name),
        headers={
            "cache-control": "public, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
        },
        content_type=CONTENT_TYPES[name],
    )


def _read(name: str) -> bytes:
    if name == "plotly.min.js":
        return _plotly_path().read_bytes()
    return files("nearsql.datasette_plugins.static").joinpath(name).read_bytes()


def _version(name: str) -> str:
    if name == "plotly.min.js":
        return distribution("plotly").version
    return _digest(name)


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_read(name)).hexdigest()[:16]


@cache
def _plotly_path() -> Path:
    # By its metadata, because importing plotly takes longer than the page does.
    return Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
