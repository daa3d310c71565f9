"""`nearsql cluster`: the groups of each space."""

from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.console import UserError, summary
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
def command(file: str, spaces: tuple[str, ...], **options: Any) -> None:
    """Find the clusters of each SPACE of FILE (all, if none is named), by HDBSCAN.

    Every space is a run of its own: earlier runs stay as they are. What belongs to no cluster is noise,
    and counted. A space with fewer than two sampled items is skipped.

    \b
      nearsql cluster photos.db
      nearsql cluster photos.db birds/pixels --min-cluster-size 20 --min-samples 5
    """
    from nearsql.pipeline.cluster import cluster_spaces

    with closing(open_database(file)) as db:
        results = cluster_spaces(db, list(spaces) or None, quiet=False, **options)
    made = [result for result in results if result.run_id is not None]
    if not made:
        raise UserError("no space was clustered: see above for the reasons")
    for result in made:
        counts = result.counts
        share = f"{100 * counts['noise_share']:.1f}% of what was clustered"
        summary(
            f"run {result.run_id}: {result.space}",
            {
                "items": counts["total"],
                "sampled": counts["sampled"],
                "clusters": counts["clusters"],
                "noise": f"{counts['noise']:,}, {share}",
            },
            next_step=_next_step(file, result.run_id, int(counts["clusters"]), options)
            if result is made[-1]
            else None,
        )


def _next_step(file: str, run: int | None, clusters: int, options: dict[str, Any]) -> str:
    if clusters == 0 and options["min_cluster_size"] > 2:
        fewer = max(2, options["min_cluster_size"] // 2)
        return f"nearsql cluster {file} --min-cluster-size {fewer} --min-samples 1"
    return (
        f'nearsql sql {file} "select label, size, exemplar_item_id from clusters'
        f' where run_id = {run} order by size desc"'
    )
