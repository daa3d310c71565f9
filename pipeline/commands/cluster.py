"""`nearsql cluster`: the groups of each space."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.commands.ingest import show_problems
from nearsql.pipeline.console import UserError, command_line, summary
from nearsql.udfs.connection import open_database


@click.command("cluster")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("spaces", metavar="[SPACE]...", nargs=-1)
@click.option(
    "--min-cluster-size",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="The fewest items of a cluster.",
)
@click.option(
    "--min-samples",
    type=click.IntRange(min=1),
    help="How many neighbours make an item's surroundings dense: more give more noise. "
    "Default: the minimum cluster size.",
)
@click.option(
    "--downsample",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="N: only the items whose sequence number is divisible by N.",
)
@click.option(
    "--selection",
    type=click.Choice(["eom", "leaf"]),
    default="eom",
    show_default=True,
    help="eom: the most stable clusters. leaf: the smallest.",
)
@click.option(
    "--epsilon",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Clusters that split closer than this distance stay together.",
)
@click.option(
    "--loss-distance",
    "loss_run",
    metavar="RUN",
    type=click.IntRange(min=1),
    help="Cluster by the stored distances of this run of all pairs, and no space.",
)
@click.option("--component", metavar="NAME", help="--loss-distance: of which loss; cls.")
@click.option(
    "--symmetrize",
    type=click.Choice(["mean", "max", "min"]),
    help="--loss-distance: what is taken of a pair's two directions; mean.",
)
def command(file: str, spaces: tuple[str, ...], **options: Any) -> None:
    """Find the clusters of each SPACE of FILE (all, if none is named), by HDBSCAN.

    Every space is a run of its own: earlier runs stay as they are. What belongs to no cluster is noise,
    and counted. A space with fewer than two sampled items is skipped.

    \b
      nearsql cluster photos.db
      nearsql cluster photos.db birds/pixels --min-cluster-size 20 --min-samples 5
      nearsql cluster photos.db --loss-distance 4 --component cls --symmetrize mean
    """
    given = {name: options.pop(name) for name in ("component", "symmetrize")}
    loss_run = options.pop("loss_run")
    if loss_run is not None:
        if spaces or options["downsample"] != 1:
            raise UserError(
                "--loss-distance clusters a run's items: name no SPACE, no --downsample"
            )
        del options["downsample"]
        _cluster_losses(file, loss_run, given, options)
        return
    for name, value in given.items():
        if value is not None:
            raise UserError(f"--{name} belongs to --loss-distance: give its run, too")
    from nearsql.pipeline.cluster import cluster_spaces

    with closing(open_database(file)) as db:
        results = cluster_spaces(db, list(spaces) or None, quiet=False, **options)
    made = [result for result in results if result.run_id is not None]
    if not made:
        raise UserError("no space was clustered: see above for the reasons")
    for result in made:
        counts = result.counts
        share = f"{100 * counts['noise_share']:.1f}% of what was clustered"
        facts: dict[str, Any] = {"items": counts["total"], "sampled": counts["sampled"]}
        if result.graph_run is not None:
            facts["neighbours"] = f"stored by run {result.graph_run}"
        facts["clusters"] = counts["clusters"]
        facts["noise"] = f"{counts['noise']:,}, {share}"
        summary(
            f"run {result.run_id}: {result.space}",
            facts,
            next_step=_next_step(
                file, result.run_id, int(counts["clusters"]), options, [result.space]
            )
            if result is made[-1]
            else None,
        )


def _cluster_losses(
    file: str, loss_run: int, given: dict[str, Any], options: dict[str, Any]
) -> None:
    from nearsql.pipeline.cluster.losses import cluster_losses

    chosen: dict[str, Any] = {"component": "cls", "symmetrize": "mean"}
    chosen |= {name: value for name, value in given.items() if value is not None}
    with closing(open_database(file)) as db:
        result = cluster_losses(db, loss_run, **chosen, **options)
        show_problems(db, file, result.run_id)
    counts = result.counts
    share = f"{100 * counts['noise_share']:.1f}% of what was clustered"
    facts: dict[str, Any] = {"items": counts["total"], "clusters": counts["clusters"]}
    if counts["left_out"]:
        facts["left out"] = counts["left_out"]
    facts["noise"] = f"{counts['noise']:,}, {share}"
    summary(
        f"run {result.run_id}: {chosen['component']} of run {loss_run},"
        f" {chosen['symmetrize']} of both directions",
        facts,
        next_step=_next_step(
            file,
            result.run_id,
            int(counts["clusters"]),
            options,
            ["--loss-distance", str(loss_run)]
            + [f"--{name}={value}" for name, value in given.items() if value is not None],
        ),
    )


def _next_step(
    file: str,
    run: int | None,
    clusters: int,
    options: dict[str, Any],
    what: Sequence[str] = (),
) -> str:
    """The clusters; or, where there are none, the words for WHAT was clustered with less asked."""
    if clusters == 0 and options["min_cluster_size"] > 2:
        fewer = max(2, options["min_cluster_size"] // 2)
        less = ("--min-cluster-size", fewer, "--min-samples", 1)
        return command_line("nearsql", "cluster", file, *what, *less)
    sql = "select label, size, exemplar_item_id from clusters"
    return command_line("nearsql", "sql", file, f"{sql} where run_id = {run} order by size desc")
