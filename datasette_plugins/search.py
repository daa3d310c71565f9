"""Search: by text, by full text, by an image, by examples; what is found as a contact sheet."""

import json
import re
from dataclasses import replace
from typing import Any

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.pages import Page, Problem, Row, page, sql
from nearsql.datasette_plugins.search_request import K_CHOICES, K_MOST, Asked, read_request
from nearsql.datasette_plugins.search_words import match_expression
from nearsql.udfs import dbapi

LABELS_OFFERED = 200
SELECTIONS_OFFERED = 200
STARTS_SHOWN = 14  # of each collection

# The signs that search_words.sql puts around each word that was found.
FOUND = re.compile("\x02([^\x03]*)\x03")


@page
async def search(current: Page) -> Response:
    """The search, what it found, and the way to more of it."""
    asked = read_request(current.request.args)
    offers = await current.one("search_offers") or {}
    spaces = await current.rows("search_spaces")
    asked = replace(asked, space=_space(asked, spaces, offers))
    context: Row = {
        "asked": asked,
        "offers": offers,
        "spaces": spaces,
        "space": next((s for s in spaces if s["space"] == asked.space), None),
        "image_spaces": [s for s in spaces if s["takes_images"]],
        "labels": await current.rows("search_labels", limit=LABELS_OFFERED),
        "selections": await current.rows("search_selections", limit=SELECTIONS_OFFERED),
        "k_choices": sorted({*K_CHOICES, asked.k}),
        "starts": [],
        "starts_shown": STARTS_SHOWN,
        "problem": None,
        "status": 200,
    }
    if asked.is_empty:
        context["starts"] = await current.rows("search_start", each=STARTS_SHOWN)
    else:
        try:
            context |= await _found(current, asked, offers)
        except Problem as problem:
            context |= {"problem": problem.sentence, "status": problem.status}
        except dbapi.OperationalError as error:
            context |= {"problem": str(error), "status": 400}
    status = context.pop("status")
    return await current.html("nearsql_search.html", status, **context)


def _space(asked: Asked, spaces: list[Row], offers: Row) -> str:
    """Where to search: as asked, else where such a question is answered best; "" is full text."""
    if asked.space is not None and (asked.space or not asked.has_examples):
        return asked.space
    best = spaces[0] if spaces else None
    if asked.has_examples:
        if best is None:
            raise Problem(
                "No space holds a vector yet: `nearsql embed FILE --model MODEL` gives each item one.",
                404,
            )
        return str(best["space"])
    # Images are found by what they show; texts by their words, where there is an index of them.
    if best and best["takes_texts"] and (best["takes_images"] or not offers.get("tokenizer")):
        return str(best["space"])
    return "" if offers.get("tokenizer") or best is None else str(best["space"])


async def _found(current: Page, asked: Asked, offers: Row) -> Row:
    """What is found, the SQL that found it, and whether there may be more."""
    if not asked.space:
        return await _by_words(current, asked, offers)
    examples = {
        name: await _examples(current, asked, items)
        for name, items in (("like", asked.like), ("unlike", asked.unlike))
    }
    if not (asked.text or asked.image or asked.like):
        raise Problem("Say also what it should be like: a text, an image, or an item.")
    name, parameters = _question(asked)
    parameters |= {"space": asked.space, "within": await _within(current, asked), "k": asked.k}
    if asked.text:
        await _load_text_side(current, asked)
    items = await current.rows(name, **parameters)
    return {
        **examples,
        "items": items,
        "is_more": len(items) == asked.k,
        "next_k": min(2 * asked.k, K_MOST) if asked.k < K_MOST else None,
        "sql_url": current.sql_url(name, **parameters),
        "ids_sql": filled(name, parameters),
        "question": name,
    }


def _question(asked: Asked) -> tuple[str, Row]:
    """The simplest of the questions that answers it, by its name in sql/, and its parameters."""
    if not asked.has_examples:
        return "search_text", {"text": asked.text}
    if not (asked.text or asked.unlike):
        if asked.image and not asked.like:
            return "search_image", {"image": asked.image}
        if not asked.image and len(asked.like) == 1:
            return "search_item", {"item": asked.like[0]}
    return "search_several", {
        "text": asked.text,
        "image": asked.image,
        "like": json.dumps(asked.like),
        "unlike": json.dumps(asked.unlike),
    }


async def _by_words(current: Page, asked: Asked, offers: Row) -> Row:
    if not offers.get("tokenizer"):
        return {"items": [], "is_without_index": True}
    name, _, value = await _label(current, asked)
    parameters: Row = {
        "match": match_expression(asked.text),
        "selection": await _selection(current, asked),
        "label": name,
        "value": value,
    }
    counted = await current.one("search_words_count", **parameters)
    items = await current.rows("search_words", **parameters, k=asked.k)
    for item in items:
        item["parts"] = [
            (part, bool(number % 2)) for number, part in enumerate(FOUND.split(item["snippet"]))
        ]
    parameters["k"] = asked.k
    return {
        "items": items,
        "total": counted["items"] if counted else 0,
        "is_more": len(items) == asked.k,
        "next_k": min(2 * asked.k, K_MOST) if asked.k < K_MOST else None,
        "sql_url": current.sql_url("search_words", **parameters),
        "ids_sql": filled("search_words", parameters),
        "question": "search_words",
    }


async def _examples(current: Page, asked: Asked, items: tuple[int, ...]) -> list[Row]:
    """The rows of the example items. Raises Problem for one that is not there, or not in the space."""
    if not items:
        return []
    rows = await current.rows("search_examples", space=asked.space, items=json.dumps(items))
    there = {row["id"]: row for row in rows}
    for item in items:
        if item not in there:
            raise Problem(f"There is no item {item} in this database.", 404)
        if not there[item]["is_in_space"]:
            raise Problem(f"Item {item} has no vector in the space {asked.space!r}.")
    return rows


async def _load_text_side(current: Page, asked: Asked) -> None:
    """Embeds the text once without a time limit, which may load the model; the question finds it made.

    Loading is done once a process: to stop it would only make the next visitor wait for all of it.
    """
    await current.db.execute_fn(
        lambda connection: connection.execute(
            "select embed_text(?, ?)", (asked.space, asked.text)
        ).fetchone()
    )


async def _within(current: Page, asked: Asked) -> str:
    """The items to search among as a SELECT, which knn takes; empty for all."""
    parts = []
    if selection := await _selection(current, asked):
        parts.append(
            "select item_id from selection_items where selection_id ="
            f" (select id from selections where name = {literal(selection)})"
        )
    name, is_label, value = await _label(current, asked)
    if is_label:
        parts.append(
            f"select item_id from item_labels where name = {literal(name)} and value = {literal(value)}"
        )
    return "\nintersect\n".join(parts)


async def _selection(current: Page, asked: Asked) -> str:
    """The selection's name, once it is certain that there is one."""
    if asked.selection:
        exists = "select exists (select 1 from selections where name = ?)"
        (is_there,) = await current.read(
            lambda db: db.execute(exists, (asked.selection,)).fetchone()
        )
        if not is_there:
            raise Problem(f"There is no selection {asked.selection!r} in this database.", 404)
    return asked.selection


async def _label(current: Page, asked: Asked) -> tuple[str, bool, str]:
    """The label `name=value` in its parts. A name may have a = in it: the longest that is one counts."""
    if not asked.label:
        return "", False, ""
    cuts = [at for at, sign in enumerate(asked.label) if sign == "="]
    if not cuts:
        raise Problem(f"A label is written name=value, such as topic=weather, not {asked.label!r}.")
    names = {row["name"] for row in await current.rows("label_names")}
    for at in reversed(cuts):
        name = asked.label[:at].strip()
        if name in names:
            return name, True, asked.label[at + 1 :].strip()
    raise Problem(f"No item has a label {asked.label[: cuts[0]].strip()!r}.", 404)


def literal(value: Any) -> str:
    """A value as SQL writes it."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def filled(name: str, parameters: Row) -> str:
    """`sql/<name>.sql` with its parameters written in: a question that stands by itself."""
    pattern = re.compile(r"--[^\n]*|'(?:[^']|'')*'|:(\w+)")
    return pattern.sub(
        lambda found: literal(parameters[found[1]]) if found[1] else found[0], sql(name)
    )
