"""Findings: worklists of what a run found, one kind at a time, and what a person decides on each."""

import csv
import io
import json
from typing import Any
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.actions import Action, action
from nearsql.datasette_plugins.evidence import Evidence, evidence_of, kind_title
from nearsql.datasette_plugins.pages import Page, Problem, Row, page, sql
from nearsql.udfs import dbapi

RUNS_SHOWN = 200
FINDINGS_SHOWN = 20  # of a page
NEIGHBOURS_SHOWN = 10  # of a finding's evidence

DECISIONS = ("keep", "dismiss", "")
FILTERS = {
    "all": "all",
    "undecided": "undecided",
    "keep": "kept",
    "dismiss": "dismissed",
}


@page
async def findings(current: Page) -> Response:
    """Every run that looked for findings, and how much of it is decided."""
    return await current.html(
        "nearsql_findings.html",
        runs=await current.rows("finding_runs", limit=RUNS_SHOWN),
        shown=RUNS_SHOWN,
    )


@page
async def findings_of_run(current: Page) -> Response:
    """The worklist of one kind of findings of a run, a page at a time."""
    run = await _run(current)
    kinds = await current.rows("finding_kinds", run=run["run_id"])
    if not kinds:
        return await current.html("nearsql_finding_list.html", run=run, kinds=[], kind=None)
    kind, decision = _filter(current, kinds)
    after = current.request.args.get("after") or "0"
    if not after.isdecimal() or int(after) >= 2**63:
        raise Problem(f"after must be the number of a finding, not {after!r}.")
    names = {"run": run["run_id"], "kind": kind, "decision": decision, "after": int(after)}
    rows = await current.rows("finding_list", **names, limit=FINDINGS_SHOWN + 1)
    has_more, rows = len(rows) > FINDINGS_SHOWN, rows[:FINDINGS_SHOWN]
    await _add_evidence(current, rows)
    return await current.html(
        "nearsql_finding_list.html",
        run=run,
        kinds=kinds,
        kind=kind,
        of_kind=next(row for row in kinds if row["kind"] == kind),
        title=kind_title,
        decision=decision,
        filters=FILTERS,
        findings=rows,
        after=int(after),
        last=rows[-1]["id"] if has_more else None,
        at=lambda *parts, **fields: _address(current, run["run_id"], *parts, **fields),
        sql_url=current.sql_url("finding_list", **names, limit=1000),
        kept_sql=(
            f"select item_id from findings where run_id = {run['run_id']} and kind = {_quoted(kind)}"
            " and decision = 'keep'"
        ),
    )


@page
async def download(current: Page) -> Response:
    """The findings of a run with their decisions and evidence, as CSV or JSON."""
    run = await _run(current)
    asked = current.request.args
    kind, decision, form = (asked.get(n) or "" for n in ("kind", "decision", "format"))
    if decision not in ("", *FILTERS):
        raise Problem(f"decision must be one of {', '.join(FILTERS)}, not {decision!r}.")
    if form not in ("csv", "json"):
        raise Problem(f"format must be csv or json, not {form!r}.")
    rows = await current.rows("finding_export", run=run["run_id"], kind=kind, decision=decision)
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, _EXPORTED)
        writer.writeheader()
        writer.writerows(rows)
        body, content_type = text.getvalue(), "text/csv; charset=utf-8"
    else:
        for row in rows:
            row["evidence"] = _read(row["id"], row.pop("evidence_json"))
        body, content_type = json.dumps(rows, indent=1), "application/json; charset=utf-8"
    return Response(
        body,
        headers={
            "content-disposition": f'attachment; filename="findings-{run["run_id"]}.{form}"',
            "x-content-type-options": "nosniff",
        },
        content_type=content_type,
    )


_EXPORTED = (
    *("id", "kind", "item_id", "other_item_id", "score", "decision", "decided_at"),
    *("uri", "other_uri", "evidence_json"),
)


@action
async def decide(current: Action) -> Response:
    """Stores what a person says of one finding: keep, dismiss, or nothing yet."""
    form, run_id = await current.form(), current.number("run")
    decision, finding = form.get("decision"), str(form.get("finding", ""))
    if decision not in DECISIONS:
        raise Problem(f"decision must be keep, dismiss or empty, not {str(decision)[:40]!r}.")
    if not finding.isdecimal() or int(finding) >= 2**63:
        raise Problem(f"finding must be the number of a finding, not {finding[:40]!r}.")

    def write(connection: dbapi.Connection) -> list[Row]:
        names = {"run": run_id, "finding": int(finding), "decision": decision}
        if not connection.execute(sql("finding_decide"), names).fetchall():
            raise Problem(f"Run {run_id} has no finding {finding}.", 404)
        rows = connection.execute(sql("finding_kinds"), {"run": run_id})
        columns = [column[0] for column in rows.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in rows.fetchall()]

    kinds = await current.write(write)
    return current.done(
        form,
        finding=int(finding),
        decision=decision,
        kinds=kinds,
        url=current.url("findings", run_id),
    )


def _read(finding: int, evidence_json: str) -> Any:
    try:
        return json.loads(evidence_json)
    except (ValueError, RecursionError):
        raise Problem(f"The evidence of finding {finding} is damaged.") from None


async def _run(current: Page) -> Row:
    """The run of the address, if it is one that looks for findings."""
    number = current.number("run")
    run = await current.one("finding_run", run=number)
    if run is None:
        raise Problem(
            f"Run {number} did not look for findings: `nearsql find FILE SPACE` and "
            "`nearsql failures FILE` do.",
            404,
        )
    return run


def _filter(current: Page, kinds: list[Row]) -> tuple[str, str]:
    """The kind and the decisions that the address asks for; the first kind that is not done by default."""
    asked = current.request.args
    there = [row["kind"] for row in kinds]
    undone = [row["kind"] for row in kinds if row["undecided"]]
    kind = asked.get("kind") or (undone or there)[0]
    if kind not in there:
        raise Problem(f"This run has no findings of kind {kind!r}: it has {', '.join(there)}.", 404)
    decision = asked.get("decision") or "all"
    if decision not in FILTERS:
        raise Problem(f"decision must be one of {', '.join(FILTERS)}, not {decision!r}.")
    return kind, decision


async def _add_evidence(current: Page, rows: list[Row]) -> None:
    """Puts into each row its evidence in words, the items that it is about, and the boxes to draw on them."""
    for row in rows:
        row["evidence"] = evidence_of(row["kind"], row["evidence_json"])
    told: list[Evidence] = [row["evidence"] for row in rows]
    ids = {row[name] for row in rows for name in ("item_id", "other_item_id")} - {None}
    ids |= {n.item for e in told for n in e.neighbours[:NEIGHBOURS_SHOWN]}
    items = {
        row["id"]: row for row in await current.rows("finding_items", ids=json.dumps(sorted(ids)))
    }
    boxes: list[Row] = []
    annotations = sorted({i for e in told for i in e.annotations})
    predictions = sorted({i for e in told for i in e.predictions})
    if annotations or predictions:
        boxes = await current.rows(
            "finding_boxes",
            annotations=json.dumps(annotations),
            predictions=json.dumps(predictions),
        )
    for row in rows:
        evidence: Evidence = row["evidence"]
        # A box of another image, which a file might name, is not drawn on this one.
        row["boxes"] = [
            box
            for box in boxes
            if box["item_id"] == row["item_id"]
            and box["id"]
            in (evidence.annotations if box["state"] == "missed" else evidence.predictions)
        ]
        row["item"], row["other"] = items.get(row["item_id"]), items.get(row["other_item_id"])
        row["neighbours"] = [
            {**items[n.item], "note": n.note, "agrees": n.agrees}
            for n in evidence.neighbours[:NEIGHBOURS_SHOWN]
            if n.item in items
        ]


def _address(current: Page, run: int, *parts: str | int, **fields: Any) -> str:
    address = current.url("findings", run, *parts)
    filled = {name: value for name, value in fields.items() if value is not None}
    return f"{address}?{urlencode(filled)}" if filled else address


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
