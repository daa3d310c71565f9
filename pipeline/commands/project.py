"""`nearsql project`: a map of a space."""

from contextlib import closing
from typing import Any

import click
from click.core import ParameterSource

from nearsql.pipeline.console import UserError, command_line, summary
from nearsql.pipeline.tracking.option import add_track
from nearsql.pipeline.within import add_within
from nearsql.udfs.connection import open_database


@click.command("project")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("space")
@click.option(
    "--method", type=click.Choice(["umap", "tsne", "pca"]), default="umap", show_default=True
)
@click.option(
    "--n-components",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="More than 2 make a space, too, to be searched and clustered.",
)
@click.option(
    "--n-neighbors",
    type=click.IntRange(min=2),
    default=15,
    show_default=True,
    help="umap: few show fine structure, many the whole.",
)
@click.option(
    "--min-dist",
    type=click.FloatRange(min=0, max=1),
    default=0.1,
    show_default=True,
    help="umap: how closely points may be packed.",
)
@click.option(
    "--perplexity",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="tsne: how many neighbours count.",
)
@click.option(
    "--neighbors",
    type=click.Choice(["auto", "exact", "graph"]),
    default="auto",
    show_default=True,
    help="umap and tsne: true neighbours, or most of them in far less time. auto: exact up to 30,000 items"
    " or where they are stored.",
)
@click.option("--seed", "random_state", type=click.IntRange(min=0), default=42, show_default=True)
@click.option(
    "--no-seed",
    is_flag=True,
    help="umap and tsne in all threads: sooner, but no map can be made a second time.",
)
@add_within
@click.option("--name", metavar="NAME", help="Of the new space; default SPACE/METHOD-Nd.")
@click.option(
    "--into",
    type=click.IntRange(min=1),
    metavar="RUN",
    help="Make no new map: place the items that this map has not seen on it.",
)
@add_track
@click.pass_context
def command(
    context: click.Context,
    file: str,
    space: str,
    into: int | None,
    no_seed: bool,
    **options: Any,
) -> None:
    """Lay the items of SPACE out as a map: two coordinates each, near what they are near to.

    Every map is a run of its own: earlier ones stay as they are. The same seed gives the same map.
    Items that came after it are placed among its own by --into, which moves none of them; stopped, it
    goes on where it was.

    \b
      nearsql project photos.db birds/pixels
      nearsql project photos.db birds/pixels --method umap --n-components 5
      nearsql project photos.db birds/pixels --within "red birds"
      nearsql project photos.db birds/pixels --into 4
    """
    if into is not None:
        _refuse_options_of_a_new_map(context)
        _place(file, space, into)
        return
    if no_seed:
        _refuse_a_seed_as_well(context)
        options["random_state"] = None
    from nearsql.pipeline.project import project_space

    with closing(open_database(file)) as db:
        result = project_space(db, space, quiet=False, **options)
    facts: dict[str, Any] = {"items": result.counts["items"]}
    facts |= {
        name: value
        for name, value in result.parameters.items()
        if name not in ("space", "name", "within_items", "within_sha256") and value is not None
    }
    if "variance_share" in result.counts:
        facts["variance"] = f"{100 * result.counts['variance_share']:.1f}% of it is on the map"
    if "graph_recall" in result.counts:
        facts["neighbours"] = f"{100 * result.counts['graph_recall']:.1f}% of the true ones"
    if result.graph_run is not None:
        facts["neighbours"] = f"stored by run {result.graph_run}"
    if result.made_space is not None:
        facts["new space"] = result.made_space
        next_step = command_line("nearsql", "cluster", file, result.made_space)
    else:
        sql = f"select * from projection_points where run_id = {result.run_id} limit 5"
        next_step = command_line("nearsql", "sql", file, sql)
    summary(f"run {result.run_id}: a map of {space}", facts, next_step=next_step)


def _refuse_options_of_a_new_map(context: click.Context) -> None:
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE
        if is_given and parameter.name not in ("file", "space", "into", "track"):
            raise UserError(
                f"{parameter.opts[0]} is for a new map: --into places items on one that is there"
            )


def _refuse_a_seed_as_well(context: click.Context) -> None:
    if context.get_parameter_source("random_state") == ParameterSource.COMMANDLINE:
        raise UserError("--seed and --no-seed exclude each other: choose one of them")


def _place(file: str, space: str, into: int) -> None:
    from nearsql.pipeline.place import place

    with closing(open_database(file)) as db:
        result = place(db, into, space=space, quiet=False)
    if result.run_id is None:
        summary(f"nothing to place: run {into} has all items of {result.space}", {})
        return
    sql = f"select * from projection_points where placed_by_run_id = {result.run_id} limit 5"
    summary(
        f"run {result.run_id}: {result.space} into the map of run {into}",
        {"placed": result.counts["placed"]},
        next_step=command_line("nearsql", "sql", file, sql),
    )
