"""The overview of a file: its spaces, collections, clusterings, maps and runs, and what to ask of them."""

import json

from datasette.utils.asgi import Response

from nearsql.datasette_plugins import questions
from nearsql.datasette_plugins.pages import Page, page

# The newest of each. The pages of the tabs show them all: each more has its items to count.
SOME = {"limit": 5}
RUNS = {"kind": "", "status": "", "limit": 8, "offset": 0}


@page
async def overview(current: Page) -> Response:
    """Everything in the file, each block with the SQL behind it."""
    collections = await current.rows("collections")
    for collection in collections:
        collection["some"] = json.loads(collection["some_json"])
    defaults = await current.one("defaults")
    return await current.html(
        "nearsql_overview.html",
        spaces=await current.rows("spaces"),
        collections=collections,
        clusterings=await current.rows("overview_clusterings", **SOME),
        maps=await current.rows("overview_maps", **SOME),
        some=SOME,
        runs=await current.rows("runs", **RUNS),
        runs_asked=RUNS,
        questions=[
            (question.title, current.query_url(question.sql, question.filled(defaults or {})))
            for question in questions.all_questions()
        ],
    )
