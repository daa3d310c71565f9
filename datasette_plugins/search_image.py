"""Search by an image that is sent: it is given its place in a space, and forgotten.

It is a POST that only reads. What it answers is the address of a search near the image's vector, which can
be kept and sent to somebody, as any other.
"""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from datasette import Forbidden, hookimpl
from datasette.utils.asgi import Request, Response

from nearsql.datasette_plugins.actions import Action
from nearsql.datasette_plugins.pages import Problem, found_database
from nearsql.datasette_plugins.permissions import may_write
from nearsql.datasette_plugins.search_request import DIMENSIONS_MOST, read_request
from nearsql.udfs import dbapi

IMAGE_LIMIT = 32 * 2**20

_PATH = re.compile(r"/-/nearsql/[^/]+/search$")


@hookimpl(optionalhook=True)
def skip_csrf(scope: dict[str, Any]) -> bool:
    """Takes this one address out of Datasette 0.65's check, which fails at forms with files.

    The parser that it was written for has changed since. The browser's own headers are looked at instead,
    as Datasette 1.0 does for every POST.
    """
    return _PATH.search(scope["path"]) is not None


def _refuse_other_sites(request: Request) -> None:
    """Raises Forbidden for what a browser sends on behalf of another site's page."""
    sent_by = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if sent_by is not None:
        is_own = sent_by in ("same-origin", "none")
    else:  # an older browser, or no browser at all
        is_own = origin is None or urlsplit(origin).netloc == request.host
    if not is_own:
        raise Forbidden("Another site's page may not search here")


async def search_by_image(request: Request, datasette: Any) -> Response:
    """Embeds the image that was sent, and answers with where to find what is near it.

    The image is the body, or the field `file` of a form; the rest of the search is in the address, for a
    form in its fields. Asks for the same right as the page: to run SQL, which can do this as well.
    """
    _refuse_other_sites(request)
    db = await found_database(datasette, request)
    writable = await may_write(datasette, db, request.actor)
    current = Action(datasette, request, db, may_write=writable)
    try:
        await current.refuse_other_files()
        url = await _near_image(current)
    except Problem as found:
        problem = found
    except dbapi.OperationalError as error:
        problem = Problem(str(error))
    else:
        if current.wants_json:
            return Response.json({"ok": True, "url": url})
        return Response.redirect(url, status=303)
    if current.wants_json:
        return Response.json({"ok": False, "error": problem.sentence}, status=problem.status)
    return await current.html("nearsql_problem.html", problem.status, problem=problem)


async def _near_image(current: Action) -> str:
    fields: dict[str, str] = {name: current.request.args[name] for name in current.request.args}
    image = await current.body(IMAGE_LIMIT)
    kind = current.request.headers.get("content-type") or ""
    if kind.partition(";")[0].strip() == "multipart/form-data":
        sent = multipart_fields(kind, image)
        image = sent.pop("file", b"")
        fields |= {name: value.decode("utf-8", "replace") for name, value in sent.items()}
    if not image:
        raise Problem("Choose an image first: nothing was sent.")
    asked = read_request(fields)
    if not asked.space:
        raise Problem("Say in which space to search for the image.")
    embed = "select hex(embed_image(?, ?)), length(embed_image(?, ?)) / 4"
    both = (asked.space, image)
    # Without a time limit: the first image of a space loads its model, once a process.
    vector, dimensions = await current.db.execute_fn(
        lambda connection: connection.execute(embed, both + both).fetchone()
    )
    if dimensions > DIMENSIONS_MOST:
        raise Problem(
            f"The space {asked.space!r} has {dimensions:,} dimensions, and the address of a page has room"
            f" for {DIMENSIONS_MOST:,}: ask in SQL, knn({asked.space!r}, embed_image({asked.space!r}, ?))."
        )
    return f"{current.url('search')}?{replace(asked, image=vector).address()}"


def multipart_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form with a file, by name. Raises Problem for what is no such form."""
    boundary = ""
    for parameter in content_type.split(";")[1:]:
        name, _, quoted = parameter.strip().partition("=")
        if name.lower() == "boundary":
            boundary = quoted.strip('"')
    if not boundary:
        raise Problem("What was sent is not a form: it has no boundary.")
    fields: dict[str, bytes] = {}
    # The first line has no line end before its boundary.
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))[1:-1]:
        head, found, value = part.partition(b"\r\n\r\n")
        if not found:
            raise Problem("What was sent is not a form: one of its parts has no head.")
        fields[_field_name(head.decode("utf-8", "replace"))] = value
    return fields


def _field_name(head: str) -> str:
    """The name of the field that a part's head gives; empty when it gives none."""
    for line in head.split("\r\n"):
        header, _, rest = line.partition(":")
        if header.strip().lower() == "content-disposition":
            for parameter in rest.split(";"):
                key, _, quoted = parameter.strip().partition("=")
                if key == "name":
                    return quoted.strip('"')
    return ""
