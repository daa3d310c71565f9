"""`nearsql project`: a map of a space."""

from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.console import command_line, summary
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
@click.option("--seed", "random_state", type=click.IntRange(min=0), default=42, show_default=True)
@click.option("--name", metavar="NAME", help="Of the new space; default SPACE/METHOD-Nd.")
def command(file: str, space: str, **options: Any) -> None:
    """Lay the items of SPACE out as a map: two coordinates each, near what they are near to.

    Every map is a run of its own: earlier ones stay as they are. The same seed gives the same map.

    \b
      nearsql project photos.db birds/pixels
      nearsql project photos.db birds/pixels --method umap --n-components 5
    """
    from nearsql.pipeline.project import project_space

    with closing(open_database(file)) as db:
        result = project_space(db, space, **options)
    facts: dict[str, Any] = {"items": result.counts["items"]}
    facts |= {name: value for name, value in result.parameters.items() if name != "space"}
    if result.graph_run is not None:
        facts["neighbours"] = f"stored by run {result.graph_run}"
    if result.made_space is not None:
        facts["new space"] = result.made_space
        next_step = command_line("nearsql", "cluster", file, result.made_space)
    else:
        sql = f"select * from projection_points where run_id = {result.run_id} limit 5"
        next_step = command_line("nearsql", "sql", file, sql)
    summary(f"run {result.run_id}: a map of {space}", facts, next_step=next_step)
