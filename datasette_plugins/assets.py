"""Scripts and styles, all of them our own, served from this package.

An address holds a version, so that browsers may keep what it gives for good. The files share one, made
of all of them, so that a script may import another by its name.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from datasette.utils.asgi import Request, Response

CONTENT_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

# How one of our scripts imports another: a line of its own, or the end of several.
_IMPORT = re.compile(r'^(?:import|}) .*?from "\./([a-z-]+\.js)";$', re.MULTILINE)

_STATIC = files("nearsql.datasette_plugins.static")


def asset_url(datasette: Any, name: str) -> str:
    """The address of an asset, with Datasette's base_url in front."""
    return str(datasette.urls.path(f"/-/nearsql-assets/{_version()}/{name}"))


async def asset(request: Request) -> Response:
    """One asset; an address of an older version gives 404, never another version's bytes."""
    name, version = request.url_vars["name"], request.url_vars["version"]
    if name not in _names() or version != _version():
        return Response.text("There is no such asset.", status=404)
    return Response(
        _read(name),
        headers={
            "cache-control": "public, max-age=31536000, immutable",
            "x-content-type-options": "nosniff",
        },
        content_type=CONTENT_TYPES[Path(name).suffix],
    )


@cache
def modules(name: str) -> tuple[str, ...]:
    """The scripts that a module needs, and theirs: a page that names them has them come at once."""
    found: list[str] = []
    waiting = [name]
    for script in waiting:
        for imported in _IMPORT.findall(_read(script).decode()):
            if imported not in found:
                found.append(imported)
                waiting.append(imported)
    return tuple(found)


def _read(name: str) -> bytes:
    return _STATIC.joinpath(name).read_bytes()


@cache
def _names() -> tuple[str, ...]:
    """What is in static/: every script and style there, and nothing else."""
    names = (entry.name for entry in _STATIC.iterdir())
    return tuple(sorted(name for name in names if Path(name).suffix in CONTENT_TYPES))


@cache
def _version() -> str:
    digest = hashlib.sha256()
    for name in _names():
        digest.update(hashlib.sha256(_read(name)).digest())
    return digest.hexdigest()[:16]
