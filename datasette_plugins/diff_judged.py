"""Two evaluations or two detector runs: which is better, and of which items."""

from typing import Any
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.pages import Page, Problem, Row
from nearsql.datasette_plugins.runs import page_number
from nearsql.udfs import dbapi

ITEMS_SHOWN = 60

# What a setting of an evaluation is called in the address, and in SQL.
SETTINGS = {
    "k": "k",
    "weighting": "weighting",
    "space": "space",
    "k_b": "other_k",
    "weighting_b": "other_weighting",
    "space_b": "other_space",
}
OF_LABELS = ("lost", "gained", "still wrong")
OF_NUMBERS = ("farther", "closer", "as far")
# What counts both the objects that are missed and how well the others are met.
METRIC = "mean_iou_gt"


async def compare_evaluations(current: Page, one: Row, other: Row) -> Response:
    """Which of two evaluations predicts better by each setting; of one setting, the items that flipped."""
    runs = {"run_a": one["run_id"], "run_b": other["run_id"]}
    wanted = _wanted(current)
    rows, reason = [], None
    try:
        rows = await current.rows("diff_evaluations", **runs, **wanted)
    except dbapi.OperationalError as error:
        reason = str(error)
    context = {
        "a": one,
        "b": other,
        "parameters": await current.rows("diff_parameters", **runs),
        "vectors": await current.rows("diff_vectors", **runs),
        "rows": rows,
        "rows_url": current.sql_url("diff_evaluations", **runs, **wanted),
        "settings": _choices(await current.rows("diff_settings", **runs), one, other),
        "asked": current.request.args,
    }
    if reason is not None:
        return await current.html("nearsql_diff_evaluations.html", 400, reason=reason, **context)
    setting = _setting(current, rows)
    is_label = setting["metric"] == "accuracy"
    changes = OF_LABELS if is_label else OF_NUMBERS
    change = _one_of(current, "change", changes)
    asked = {**runs, **{sql: setting[_column(name)] for name, sql in SETTINGS.items()}}
    sheet = await _sheet(current, "diff_evaluations_flips", {**asked, "change": change})
    lost, gained = setting["lost"], setting["gained"]
    return await current.html(
        "nearsql_diff_evaluations.html",
        **context,
        reason=None,
        setting=setting,
        is_label=is_label,
        counts=dict(zip(changes, (lost, gained, setting["other"]), strict=True)),
        change=change,
        sheet=sheet,
        has_spaces=any(row["space_a"] != row["space_b"] for row in rows),
        address=lambda row, **changed: _address(
            one, other, {name: row[_column(name)] for name in SETTINGS} | changed
        ),
    )


def _wanted(current: Page) -> Row:
    """What SQL is asked for: every setting that both have, unless the address crosses two of them.

    By default k is compared with the same k, and a weighting with the same weighting.
    """
    arguments = current.request.args
    named = {name: arguments.get(name) or "" for name in SETTINGS}
    crosses = any(named[f"{name}_b"] not in ("", named[name]) for name in ("k", "weighting"))
    for name in ("k", "k_b"):
        if named[name] and not (named[name].isascii() and named[name].isdigit()):
            raise Problem(f"{name} must be a whole number, not {named[name]!r}.")
    return {sql: named[name] if crosses else "" for name, sql in SETTINGS.items()}


def _choices(rows: list[Row], one: Row, other: Row) -> list[dict[str, list[Any]]]:
    """For each of both runs the spaces, ks and weightings that a form offers."""
    return [
        {
            name: sorted({row[name] for row in rows if row["run_id"] == run["run_id"]})
            for name in ("space", "k", "weighting")
        }
        for run in (one, other)
    ]


def _column(name: str) -> str:
    """The column of evaluation_agreement for a name of the address: k is k_a, k_b is k_b."""
    return name if name.endswith("_b") else f"{name}_a"


def _setting(current: Page, rows: list[Row]) -> Row:
    """The row that the address names; otherwise the one by which the second run is best."""
    arguments = current.request.args
    named = {_column(name): arguments.get(name) for name in SETTINGS if arguments.get(name)}
    found = [row for row in rows if all(str(row[name]) == value for name, value in named.items())]
    if not found:
        raise Problem(
            "These runs have no setting "
            + ", ".join(f"{name} = {value}" for name, value in named.items())
            + " in common: see the table of what they have."
        )
    sign = 1 if rows[0]["metric"] == "accuracy" else -1
    defined = [row for row in found if row["value_b"] is not None]
    best: Row = max(defined or found, key=lambda row: sign * (row["value_b"] or 0))
    return best


async def compare_detectors(current: Page, one: Row, other: Row) -> Response:
    """Which of two detector runs is better by each metric; of one metric, the images that changed."""
    runs = {"run_a": one["run_id"], "run_b": other["run_id"]}
    rows = await current.rows("diff_detectors", **runs)
    names = [row["metric"] for row in rows]
    differing = [row["metric"] for row in rows if row["same"] < row["images"]] or names
    default = METRIC if METRIC in differing else differing[0]
    metric = current.request.args.get("metric") or default
    if metric not in names:
        raise Problem(f"These runs have no metric {metric!r}: they have {', '.join(names)}.")
    chosen = rows[names.index(metric)]
    changes = ("regressed", "improved") if chosen["better"] else ("lower", "higher")
    change = _one_of(current, "change", changes)
    sheet = await _sheet(
        current, "diff_detectors_images", {**runs, "metric": metric, "change": change}
    )
    return await current.html(
        "nearsql_diff_detectors.html",
        a=one,
        b=other,
        parameters=await current.rows("diff_parameters", **runs),
        vectors=await current.rows("diff_vectors", **runs),
        rows=rows,
        rows_url=current.sql_url("diff_detectors", **runs),
        chosen=chosen,
        metric=metric,
        changes=changes,
        change=change,
        sheet=sheet,
        address=lambda **changed: _address(one, other, {"metric": metric} | changed),
    )


async def _sheet(current: Page, name: str, parameters: Row) -> Row:
    """One page of the items of `sql/<name>.sql`."""
    number = page_number(current.request.args.get("page"))
    items = await current.rows(
        name, **parameters, limit=ITEMS_SHOWN + 1, offset=ITEMS_SHOWN * (number - 1)
    )
    return {
        "items": items[:ITEMS_SHOWN],
        "has_more": len(items) > ITEMS_SHOWN,
        "number": number,
        "sql_url": current.sql_url(name, **parameters, limit=1000, offset=0),
    }


def _one_of(current: Page, name: str, values: tuple[str, ...]) -> str:
    """An argument that is one of these, or '' for all of them. Raises Problem."""
    value = current.request.args.get(name) or ""
    if value and value not in values:
        raise Problem(f"{name} must be one of {', '.join(values)}, not {value!r}.")
    return value


def _address(one: Row, other: Row, parameters: dict[str, Any]) -> str:
    runs = {"a": one["run_id"], "b": other["run_id"]}
    return "?" + urlencode(runs | {k: v for k, v in parameters.items() if v not in (None, "")})
