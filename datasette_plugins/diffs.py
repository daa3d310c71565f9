"""What changed between two runs of one kind, or between two spaces: which are compared, and which cannot be."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from datasette.utils.asgi import Response

from nearsql.datasette_plugins import diff_clusterings, diff_judged, diff_spaces
from nearsql.datasette_plugins.pages import Page, Problem, Row, page
from nearsql.datasette_plugins.runs import COMPARABLE
from nearsql.udfs import dbapi

CHOICES_SHOWN = 300
PAIRS_SHOWN = 8
_NEWEST = 5  # runs of a kind that a sentence names

_COMPARE: dict[str, Callable[[Page, Row, Row], Awaitable[Response]]] = {
    "cluster": diff_clusterings.compare,
    "evaluate": diff_judged.compare_evaluations,
    "detect": diff_judged.compare_detectors,
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the form asks for: two runs by number or two spaces by name, as the visitor wrote them."""

    a: str
    b: str
    are_spaces: bool


@page
async def diff(current: Page) -> Response:
    """Two runs or spaces beside each other; the form to choose them, while or where that cannot be."""
    arguments = current.request.args
    a, b = arguments.get("a") or "", arguments.get("b") or ""
    kind = arguments.get("kind") or ""
    chosen = Chosen(a, b, kind == "spaces" or (kind == "" and not (_is_number(a) or _is_number(b))))
    if not a and not b:
        return await _choose(current, replace(chosen, are_spaces=kind == "spaces"), None)
    try:
        if kind not in ("", "runs", "spaces", *COMPARABLE):
            there = ", ".join(("runs", "spaces", *COMPARABLE))
            raise Problem(f"kind must be one of {there}, not {kind!r}.")
        if not a or not b:
            what = "space" if chosen.are_spaces else "run"
            raise Problem(f"Choose a second {what} to compare {a or b} with.")
        if chosen.are_spaces:
            return await diff_spaces.compare(current, a, b)
        one, other = await _run(current, a, b), await _run(current, b, a)
        await _refuse_pair(current, one, other)
        return await _COMPARE[one["kind"]](current, one, other)
    except Problem as problem:
        return await _choose(current, chosen, problem)
    except dbapi.OperationalError as error:
        # What the SQL functions refuse, in their words.
        return await _choose(current, chosen, Problem(str(error)))


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


async def _choose(current: Page, chosen: Chosen, problem: Problem | None) -> Response:
    choices = await current.rows("diff_choices", limit=CHOICES_SHOWN)
    return await current.html(
        "nearsql_diff.html",
        problem.status if problem else 200,
        problem=problem,
        chosen=chosen,
        choices={kind: [c for c in choices if c["kind"] == kind] for kind in COMPARABLE},
        pairs=await current.rows("diff_pairs", limit=PAIRS_SHOWN),
        pairs_url=current.sql_url("diff_pairs", limit=100),
        spaces=await current.rows("diff_space_names"),
    )


async def _run(current: Page, word: str, other: str) -> Row:
    """The record of a run that is named by its number. Raises Problem."""
    if not _is_number(word):
        raise Problem(
            f"{other} is the number of a run and {word!r} is none: name two runs by their numbers, or"
            " two spaces by their names."
        )
    found = await current.one("run_record", run=int(word)) if len(word) < 19 else None
    if found is None:
        raise Problem(f"There is no run {word} in this database.", 404)
    return found


async def _refuse_pair(current: Page, one: Row, other: Row) -> None:
    """Raises Problem for runs that cannot be compared with each other; it names some that can."""
    for run in (one, other):
        if run["kind"] not in COMPARABLE:
            raise Problem(
                f"Run {run['run_id']} is of kind {run['kind']!r}, which cannot be compared"
                + await _comparable(current)
            )
        if run["status"] != "finished":
            raise Problem(
                f"Run {run['run_id']} is {run['status']}: only a finished run can be compared."
            )
    if one["kind"] != other["kind"]:
        raise Problem(
            f"Run {one['run_id']} is of kind {one['kind']!r} and run {other['run_id']} of kind"
            f" {other['kind']!r}: only runs of one kind can be compared"
            + await _comparable(current)
        )


async def _comparable(current: Page) -> str:
    """The end of a sentence: the runs that would work."""
    choices = await current.rows("diff_choices", limit=CHOICES_SHOWN)
    there = []
    for kind in COMPARABLE:
        some = [str(c["run_id"]) for c in choices if c["kind"] == kind][:_NEWEST]
        if some:
            there.append(f"{', '.join(some)} ({kind})")
    return ", and the newest that can be are " + "; ".join(there) + "." if there else "."
