"""Evaluations: how well the neighbours tell a label or a number, by space, k and weighting.

A page shows one setting at a time, by default the best; the address names it: `?space=&k=&weighting=`.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.confusion import matrix
from nearsql.datasette_plugins.line_plots import Line, line_plot
from nearsql.datasette_plugins.pages import Page, Problem, Row, page
from nearsql.datasette_plugins.scatter_plots import scatter_plot
from nearsql.udfs import dbapi

RUNS_SHOWN = 200
ITEMS_SHOWN = 60  # of a contact sheet's page
HARDEST_SHOWN = 16
LABELS_SHOWN = 2_000
CELLS_SHOWN = 3_000
MISTAKES_SHOWN = 15  # of the list beside the matrix
POINTS_SHOWN = 1_000
VOTERS_SHOWN = 60
BEYOND_SHOWN = 8  # of those who come after the voters

# What is shown of labels and of numbers: the first decides which setting is the best.
OF_LABELS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "top_5_accuracy": "top-5 accuracy",
    "retrieval_map": "retrieval mAP",
}
OF_NUMBERS = {"r2": "R\N{SUPERSCRIPT TWO}", "mae": "mean error", "spearman": "Spearman"}
LESS_IS_BETTER = ("mae",)

# Which items a contact sheet shows, and the fields of the address that it needs.
SHEETS = {
    "cell": ("label", "predicted"),
    "nobody": ("label",),
    "label": ("label",),
    "missed": ("label",),
    "mistaken": ("predicted",),
    "wrong": (),
    "right": (),
}

# The questions behind the blocks of a page, and how much they show.
_OF_LABELS: dict[str, dict[str, int]] = {
    "eval_cells": {"limit": CELLS_SHOWN},
    "eval_classes": {"limit": LABELS_SHOWN},
    "eval_hardest": {"limit": HARDEST_SHOWN},
}
_OF_NUMBERS: dict[str, dict[str, int]] = {
    "eval_scatter": {"limit": POINTS_SHOWN},
    "eval_errors": {"limit": HARDEST_SHOWN, "offset": 0},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What one prediction of every item is made by."""

    space: str
    k: int
    weighting: str

    @property
    def names(self) -> dict[str, Any]:
        """As parameters of the SQL and fields of an address."""
        return {"space": self.space, "k": self.k, "weighting": self.weighting}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation, and the setting of it that is shown.

    settings: all that it has, with the row of each metric. metrics: those that it has, by name.
    """

    run: Row
    settings: dict[Setting, dict[str, Row]]
    metrics: dict[str, str]
    shown: Setting

    @property
    def is_of_labels(self) -> bool:
        """Whether labels were predicted, and not numbers."""
        return self.run["label"] is not None

    @property
    def main(self) -> str:
        """The metric that decides which setting is the best."""
        return next(iter(self.metrics))

    def values_of(self, name: str) -> list[Any]:
        """The distinct values of space, k or weighting, in order."""
        return sorted({getattr(setting, name) for setting in self.settings})


@page
async def evaluations(current: Page) -> Response:
    """Every evaluation of the file, with its best figure."""
    return await current.html(
        "nearsql_evaluations.html",
        runs=await current.rows("eval_runs", limit=RUNS_SHOWN),
        shown=RUNS_SHOWN,
        names=OF_LABELS | OF_NUMBERS,
        at=lambda run, **fields: _address(current, run, **fields),
    )


@page
async def evaluation(current: Page) -> Response:
    """One evaluation: all its settings as a plot and a table, and what one of them gets wrong."""
    found = await _evaluated(current)
    wanted = current.request.args.get("metric") or found.main
    if wanted not in found.metrics:
        raise Problem(f"metric must be one of {', '.join(found.metrics)}, not {wanted!r}.")
    run_id, names = found.run["run_id"], found.shown.names
    blocks = _OF_LABELS if found.is_of_labels else _OF_NUMBERS
    # At once: each has a thread, and SQLite computes beside Python.
    answers = await asyncio.gather(
        current.rows("eval_folds", run=run_id, **names),
        *(current.rows(name, run=run_id, **names, **more) for name, more in blocks.items()),
    )
    folds, rows = answers[0], dict(zip(blocks, answers[1:], strict=True))
    context: dict[str, Any] = {"limits": {name: more["limit"] for name, more in blocks.items()}}
    if found.is_of_labels:
        cells, classes = rows["eval_cells"], rows["eval_classes"]
        mistakes = [row for row in cells if row["predicted"] != row["label"]]
        context |= {
            "classes": classes,
            "matrix": matrix(cells, classes, is_whole=len(cells) < CELLS_SHOWN),
            "mistakes": mistakes[:MISTAKES_SHOWN],
            "hardest": rows["eval_hardest"],
        }
    else:
        points = rows["eval_scatter"]
        context |= {
            "scatter": scatter_plot(points),
            "total": points[0]["total"] if points else 0,
            "errors": rows["eval_errors"],
        }
    return await current.html(
        "nearsql_evaluation.html",
        found=found,
        metric=wanted,
        less_is_better=LESS_IS_BETTER,
        plot=line_plot(_lines(found, wanted), found.values_of("k")),
        table=_ranked(found, wanted),
        best=_bests(found),
        folds=_by_fold(folds),
        at=_addresses(current, found),
        names={"run": run_id, **names},
        **context,
    )


@page
async def evaluation_items(current: Page) -> Response:
    """A contact sheet of items by what was said of them: one cell of the matrix, or all that is wrong."""
    found = await _evaluated(current)
    asked = current.request.args
    shown = asked.get("shown") or "wrong"
    if not found.is_of_labels:
        raise Problem("This evaluation is of numbers, and has no labels to be taken for others.")
    if shown not in SHEETS:
        raise Problem(f"shown must be one of {', '.join(SHEETS)}, not {shown!r}.")
    fields = {name: asked.get(name) for name in SHEETS[shown]}
    for name, value in fields.items():
        if value is None:
            raise Problem(f"shown={shown} needs {name}= in the address.")
    number = asked.get("page") or "1"
    if not number.isdecimal() or not 1 <= int(number) <= 1_000_000:
        raise Problem(f"page must be a whole number from 1, not {number!r}.")
    run_id = found.run["run_id"]
    parameters = {
        "run": run_id,
        **found.shown.names,
        "shown": shown,
        "label": fields.get("label"),
        "predicted": fields.get("predicted"),
    }
    offset = (int(number) - 1) * ITEMS_SHOWN
    items = await current.rows("eval_items", **parameters, limit=ITEMS_SHOWN, offset=offset)
    if not items and int(number) > 1:
        raise Problem(f"There is no page {number} of these items.", 404)
    total = items[0]["total"] if items else 0
    return await current.html(
        "nearsql_evaluation_items.html",
        found=found,
        shown=shown,
        fields=fields,
        items=items,
        total=total,
        number=int(number),
        pages=max(1, -(-total // ITEMS_SHOWN)),
        at=_addresses(current, found),
        sql_url=current.sql_url("eval_items", **parameters, limit=1000, offset=0),
    )


@page
async def voters(current: Page) -> Response:
    """One item of an evaluation: what every setting says of it, and who voted in the one shown."""
    run_id, item_id = current.number("run"), current.number("item")
    said = await current.rows("eval_item", run=run_id, item=item_id)
    found = await _evaluated(current)
    item = await current.one("item", item=item_id)
    if item is None or not said:
        raise Problem(f"Run {run_id} did not evaluate item {item_id}.", 404)
    own = [row for row in said if Setting(row["space"], row["k"], row["weighting"]) == found.shown]
    if not own:
        raise Problem(f"Run {run_id} says nothing of item {item_id} by this setting.", 404)
    names = {"run": run_id, **found.shown.names, "item": item_id}
    limit = min(found.shown.k + BEYOND_SHOWN, VOTERS_SHOWN)
    who, votes, problem = [], [], None
    try:
        who = await current.rows("eval_voters", **names, limit=limit)
        votes = await current.rows("eval_votes", **names) if found.is_of_labels else []
    except dbapi.OperationalError as error:
        problem = str(error)
    return await current.html(
        "nearsql_voters.html",
        found=found,
        item=item,
        own=own[0],
        said={Setting(row["space"], row["k"], row["weighting"]): row for row in said},
        voters=who,
        votes=votes,
        problem=problem,
        limit=limit,
        names=names,
        at=_addresses(current, found),
        setting_of=Setting,
    )


def _address(current: Page, run: int, *parts: str | int, **fields: Any) -> str:
    address = current.url("evaluations", run, *parts)
    filled = {name: value for name, value in fields.items() if value is not None}
    return f"{address}?{urlencode(filled)}" if filled else address


def _addresses(current: Page, found: Evaluated) -> Callable[..., str]:
    """For templates: the address of a page of this evaluation, in the setting shown or another."""

    def at(*parts: str | int, setting: Setting | None = None, **fields: Any) -> str:
        return _address(
            current, found.run["run_id"], *parts, **(setting or found.shown).names, **fields
        )

    return at


async def _evaluated(current: Page) -> Evaluated:
    """The evaluation of the address, and the setting that it names or the best one."""
    run_id = current.number("run")
    run = await current.one("eval_run", run=run_id)
    rows = await current.rows("eval_metrics", run=run_id) if run else []
    if run is None or not rows:
        raise Problem(
            f"Run {run_id} is no evaluation with results: `nearsql evaluate FILE SPACE --label NAME` "
            "makes one.",
            404,
        )
    settings: dict[Setting, dict[str, Row]] = {}
    for row in rows:
        setting = Setting(row["space"], row["k"], row["weighting"])
        settings.setdefault(setting, {})[row["metric"]] = row
    there = {row["metric"] for row in rows}
    known = OF_LABELS if run["label"] is not None else OF_NUMBERS
    metrics = {name: title for name, title in known.items() if name in there}
    metrics |= {name: name for name in sorted(there - metrics.keys())}
    shown = _chosen(current, run_id, settings, next(iter(metrics)))
    return Evaluated(run, settings, metrics, shown)


def _chosen(
    current: Page, run_id: int, settings: dict[Setting, dict[str, Row]], main: str
) -> Setting:
    """The best of the settings that fit the address."""
    asked, fitting = current.request.args, list(settings)
    for name in ("space", "k", "weighting"):
        wanted = asked.get(name)
        if not wanted:
            continue
        there = {str(getattr(setting, name)): None for setting in fitting}
        fitting = [setting for setting in fitting if str(getattr(setting, name)) == wanted]
        if not fitting:
            raise Problem(
                f"Run {run_id} has nothing by {name} {wanted!r}: it has {', '.join(there)}.", 404
            )
    return min(fitting, key=lambda setting: _badness(settings[setting].get(main), setting))


def _badness(row: Row | None, setting: Setting) -> tuple[Any, ...]:
    """Sorts the best first, the smaller k before the larger; a setting without the metric comes last."""
    value = row["value"] if row else None
    if value is None:
        return (True, 0.0, setting.k, setting.weighting, setting.space)
    sign = 1 if row is not None and row["metric"] in LESS_IS_BETTER else -1
    return (False, sign * value, setting.k, setting.weighting, setting.space)


def _ranked(found: Evaluated, metric: str) -> list[Setting]:
    settings = found.settings
    return sorted(settings, key=lambda setting: _badness(settings[setting].get(metric), setting))


def _bests(found: Evaluated) -> dict[str, float]:
    """The best value of each metric, to be told from the others."""
    bests = {}
    for metric in found.metrics:
        rows = [rows[metric] for rows in found.settings.values() if metric in rows]
        values = [row["value"] for row in rows if row["value"] is not None]
        if values:
            bests[metric] = min(values) if metric in LESS_IS_BETTER else max(values)
    return bests


def _lines(found: Evaluated, metric: str) -> list[Line]:
    """A line for each space and weighting, by k."""
    spaces = found.values_of("space")
    lines: dict[tuple[str, str], Line] = {}
    for setting, rows in found.settings.items():
        row = rows.get(metric)
        if row is None or row["value"] is None:
            continue
        name = f"{setting.space}, {setting.weighting}" if len(spaces) > 1 else setting.weighting
        line = lines.setdefault((setting.space, setting.weighting), Line(name))
        line.points.append((setting, setting.k, row["value"], row["worst_fold"], row["best_fold"]))
    return list(lines.values())


def _by_fold(rows: Iterable[Row]) -> list[Row]:
    """A row for each fold, with its metrics by name; the last is over all."""
    folds: dict[int | None, Row] = {}
    for row in rows:
        fold = folds.setdefault(
            row["fold"], {"fold": row["fold"], "items": row["items"], "metrics": {}}
        )
        fold["metrics"][row["metric"]] = row
    return list(folds.values())
