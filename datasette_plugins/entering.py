"""The link by which `nearsql serve` lets the person who started it write, once.

Whoever starts the server signs the link with the server's secret, which is new at each start and told to
nobody. A link works once, and not for long; what it gives is Datasette's own cookie of the actor root.
"""

import time
from typing import Any
from weakref import WeakKeyDictionary

from datasette import Forbidden
from datasette.utils.asgi import Request, Response
from itsdangerous import BadSignature

NAMESPACE = "nearsql-enter"

# Of each server the links that have been used.
_used: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


async def enter(request: Request, datasette: Any) -> Response:
    """Sets the cookie and leads to the page that the link is for; refuses a link that is not one."""
    if request.method != "GET":
        return Response.text("This address only reads: use GET.", status=405)
    try:
        said = datasette.unsign(request.args.get("token") or "", NAMESPACE)
    except BadSignature:
        raise Forbidden("This link was not made by this server") from None
    used = _used.setdefault(datasette, set())
    is_root = request.actor is not None and request.actor.get("id") == "root"
    if not is_root and (said["once"] in used or time.time() > said["until"]):
        raise Forbidden("This link has been used, or is too old: start `nearsql serve` again")
    used.add(said["once"])
    response = Response.redirect(said["to"])
    response.headers |= {"cache-control": "no-store", "referrer-policy": "no-referrer"}
    response.set_cookie(
        "ds_actor", datasette.sign({"a": {"id": "root"}}, "actor"), httponly=True, samesite="lax"
    )
    return response
