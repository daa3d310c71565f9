"""What other minimum cluster sizes would find in the space of a clustering: computed only when asked for."""

import json
import shlex
from importlib import import_module
from pathlib import Path

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.clusters import run_and_levels
from nearsql.datasette_plugins.pages import Page, Problem, Row, TooLong, page
from nearsql.datasette_plugins.sweep_plots import plot_sweep

SIZES_SWEPT = 100
MIN_SAMPLES = 5  # the default of the SQL function cluster_sweep


@page
async def sweep(current: Page) -> Response:
    """The clusters, noise and cliffs at each minimum size as a plot and a table, and the size of the run."""
    run, levels = await run_and_levels(current, current.number("run"))
    arguments = current.request.args
    space = run["space_that_is_there"]
    min_samples = _min_samples(arguments.get("min_samples"), run)
    sizes = _sizes(arguments.get("sizes"))
    asked = {
        "space": space,
        "sizes": json.dumps(sizes) if sizes else None,
        "min_samples": min_samples,
        "downsample": run["downsample"],
        "within": _within(run, levels[0]),
        "selection": run["selection"],
        "epsilon": run["epsilon"],
    }
    is_asked = bool(space) and arguments.get("go") is not None
    rows: list[Row] = []
    too_long = None
    if is_asked:
        # The first time in a process this takes seconds, which are not the question's.
        await current.db.execute_fn(lambda _: import_module("nearsql.udfs.clustering.space_tree"))
        try:
            rows = await current.rows("cluster_sweep", **asked)
        except TooLong as problem:
            too_long = problem
    chosen = run["min_cluster_size"] if run["method"] == "hdbscan" else None
    return await current.html(
        "nearsql_sweep.html",
        run=run,
        n=levels[0]["items"] - (levels[0]["assigned"] or 0),
        is_asked=is_asked,
        too_long=too_long,
        rows=rows,
        plot=plot_sweep(rows, chosen) if rows else None,
        chosen=chosen,
        min_samples=min_samples,
        sizes=", ".join(map(str, sizes)),
        longest=_longest(rows),
        command=_command(current, run, min_samples, sizes),
        cluster_command=_command(current, run, min_samples, []).removesuffix(" --sweep"),
        sql_url=current.sql_url("cluster_sweep", **asked) if space else None,
    )


def _min_samples(text: str | None, run: Row) -> int:
    """How many neighbours make an item's surroundings dense: as asked, or as the run had it."""
    if not text:
        return run["min_samples"] or MIN_SAMPLES
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:10]) < 10**9:
        raise Problem(f"min_samples must be a whole number from 1, not {text!r:.40}.")
    return int(text)


def _sizes(text: str | None) -> list[int]:
    """The sizes of a list such as "5, 10, 20", ascending, each once; none where none are named."""
    words = (text or "").replace(",", " ").split()
    for word in words:
        if not (word.isascii() and word.isdecimal()) or not 2 <= int(word[:10]) < 10**9:
            raise Problem(
                f"sizes must be whole numbers from 2, such as 5, 10, 20; not {word!r:.40}."
            )
    if len(words) > SIZES_SWEPT:
        raise Problem(f"At most {SIZES_SWEPT} sizes can be swept at once; these are {len(words)}.")
    return sorted({int(word) for word in words})


def _within(run: Row, level: Row) -> str | None:
    """The items that the run was limited to, if it was: those that it clustered."""
    if run["within"] is None:
        return None
    return (
        f"select item_id from memberships where run_id = {run['run_id']:d}"
        f" and level = {level['level']:d} and is_assigned = 0"
    )


def _longest(rows: list[Row]) -> int | None:
    """The size whose clusters persist longest, away from cliffs."""
    from nearsql.udfs.clustering.sweep import SweepRow, suggested_size

    return suggested_size([SweepRow(**{**row, "is_cliff": bool(row["is_cliff"])}) for row in rows])


def _command(current: Page, run: Row, min_samples: int, sizes: list[int]) -> str:
    """What sweeps the same on the command line, where no time is too long."""
    file = Path(current.db.path).name if current.db.path else "FILE"
    words = ["nearsql", "cluster", file, run["space"] or "SPACE"]
    for name, default in (
        ("downsample", 1),
        ("within", None),
        ("selection", "eom"),
        ("epsilon", 0.0),
    ):
        if run[name] != default:
            words += [f"--{name}", str(run[name])]
    words += ["--min-samples", str(min_samples)]
    if sizes:
        words += ["--sizes", ",".join(map(str, sizes))]
    return shlex.join([*words, "--sweep"])
