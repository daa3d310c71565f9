"""The runs of a file: which there are, and of one all that it recorded, read and wrote."""

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.lineage import SHOWN_AT_MOST, picture
from nearsql.datasette_plugins.pages import Page, Problem, Row, page

RUNS_SHOWN = 50
ERRORS_SHOWN = 60
PEERS_SHOWN = 8
STATUSES = ("running", "finished", "failed", "interrupted")
# Runs of these kinds can be compared with each other.
COMPARABLE = ("cluster", "evaluate", "detect")
LONGEST_VALUE = 120  # in letters; a longer parameter is folded


@page
async def runs(current: Page) -> Response:
    """The table of runs, the newest first, of one kind or status if that is asked for."""
    arguments = current.request.args
    kind, status = arguments.get("kind") or "", arguments.get("status") or ""
    counts = await current.rows("run_kinds")
    kinds = {row["kind"]: 0 for row in counts}
    if kind and kind not in kinds:
        there = ", ".join(kinds) or "none"
        raise Problem(
            f"There is no run of kind {kind!r} in this file. The kinds are: {there}.", 404
        )
    if status and status not in STATUSES:
        raise Problem(f"status must be one of {', '.join(STATUSES)}, not {status!r}.")
    for row in counts:
        kinds[row["kind"]] += row["runs"] if status in ("", row["status"]) else 0
    statuses = {
        name: sum(
            row["runs"] for row in counts if row["status"] == name and kind in ("", row["kind"])
        )
        for name in STATUSES
    }
    number = page_number(arguments.get("page"))
    total = statuses[status] if status else sum(statuses.values())
    asked = {"kind": kind, "status": status}
    found = await current.rows("runs", **asked, limit=RUNS_SHOWN, offset=RUNS_SHOWN * (number - 1))
    return await current.html(
        "nearsql_runs.html",
        runs=found,
        kinds=kinds,
        statuses={name: n for name, n in statuses.items() if n or name == status},
        all_kinds=sum(kinds.values()),
        asked=asked,
        number=number,
        pages=max(1, -(-total // RUNS_SHOWN)),
        can_compare=any(r["kind"] in COMPARABLE and r["status"] == "finished" for r in found),
        comparable=COMPARABLE,
        sql_url=current.sql_url("runs", **asked, limit=1000, offset=0),
        address=lambda **changed: _address(asked | changed),
    )


def page_number(text: str | None) -> int:
    """The number of a page of a list, from 1. Raises Problem for what is none."""
    number = text or "1"
    if not (number.isascii() and number.isdigit() and 1 <= len(number) <= 7 and int(number)):
        raise Problem(f"page must be a whole number from 1, not {number!r}.")
    return int(number)


def _address(parameters: Row) -> str:
    """The same page with other parameters."""
    return "?" + urlencode({name: value for name, value in parameters.items() if value})


@page
async def run(current: Page) -> Response:
    """One run: how it went, what it was asked, read and wrote, where it stands, how to do it again."""
    number = current.number("run")
    record = await current.one("run_record", run=number)
    if record is None:
        raise Problem(f"There is no run {number} in this database.", 404)
    graph = await current.rows("run_graph", run=number)
    is_whole = current.request.args.get("lineage") == "all"
    return await current.html(
        "nearsql_run.html",
        run=record,
        counts=json.loads(record["counts_json"]),
        timings=_timings(json.loads(record["timings_json"]), record["duration_ms"]),
        versions=json.loads(record["versions_json"]),
        parameters=await current.rows("run_parameters", run=number),
        longest=LONGEST_VALUE,
        reads=await current.rows("run_reads", run=number),
        wrote=await current.rows("run_wrote", run=number),
        replays=await current.rows("run_replays", run=number),
        peers=await current.rows("run_peers", run=number, limit=PEERS_SHOWN),
        stages=await current.rows("run_error_stages", run=number),
        errors=await current.rows("run_errors", run=number, limit=ERRORS_SHOWN),
        errors_shown=ERRORS_SHOWN,
        command=_replay_command(current, record),
        graph=picture(graph, SHOWN_AT_MOST) if is_whole else picture(graph),
        is_whole=is_whole,
    )


def _timings(steps: dict[str, Any], whole_ms: float | None) -> list[Row]:
    """The steps in the order they were recorded, each with its share of the whole run's time."""
    rows = []
    for name, ms in steps.items():
        if isinstance(ms, int | float):
            share = min(1.0, max(0.0, ms / whole_ms)) if whole_ms else 0.0
            rows.append({"name": name, "ms": ms, "share": share})
    return rows


def _replay_command(current: Page, record: Row) -> str | None:
    """What computes the run again; None where there is nothing to compare the result with."""
    if record["status"] != "finished" or not record["result_sha256"] or record["kind"] == "replay":
        return None
    name = Path(current.db.path).name if current.db.path else "FILE"
    return shlex.join(["nearsql", "replay", name, str(record["run_id"])])
