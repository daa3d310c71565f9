"""What a space's clusters would be at many minimum sizes: to be looked at before one is chosen.

    rows = sweep(db, "digits/pixels")

The SQL function `cluster_sweep` computes; nothing is stored, so that there is no run.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from nearsql.pipeline.cluster.forecast import tell
from nearsql.pipeline.cluster.groups import effective_neighbors, find_groups
from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.within import argument_of, within_ids
from nearsql.udfs import dbapi
from nearsql.udfs.clustering.approximations import noting_approximations
from nearsql.udfs.clustering.sweep import SweepRow, default_sizes
from nearsql.udfs.sql_files import read_sql

# What one tree is made with: the default of the minimum size, where each size has its own.
MIN_SAMPLES = 5


def sweep(
    db: dbapi.Connection,
    space: str,
    *,
    sizes: Sequence[int] | None = None,
    min_samples: int | None = None,
    selection: str = "eom",
    epsilon: float = 0.0,
    downsample: int = 1,
    neighbors: str = "auto",
    within: str | None = None,
    quiet: bool = True,
) -> list[SweepRow]:
    """Clusters, noise and cliffs at each of the sizes, ascending; None: those that suit so many items.

    The parameters are those of the SQL function `cluster_sweep`, min_samples None its default, within
    as `--within` has it. Raises
    LookupError for a space that is not there, and UserError for one that cannot be clustered.
    """
    only = within_ids(db, within)
    (group,) = find_groups(db, [space], downsample, only)
    if group.skipped is not None:
        raise UserError(f"{space} cannot be clustered: {group.skipped}")
    parameters = {
        "method": "sweep",
        "space": space,
        "sizes": None if sizes is None else json.dumps(list(sizes)),
        "min_samples": max(1, min(min_samples or MIN_SAMPLES, group.sampled - 1)),
        "downsample": downsample,
        "within": argument_of(only),
        "selection": selection,
        "epsilon": epsilon,
        "neighbors": effective_neighbors(neighbors, group.sampled),
    }
    if not quiet:
        tell(db, space, group.total, group.sampled, parameters)
    n_sizes = len(default_sizes(group.sampled) if sizes is None else sizes)
    rows = []
    # The first comes when the tree is made.
    with (
        noting_approximations() as approximations,
        progress("sizes cut", n_sizes, quiet=quiet) as bar,
    ):
        for row in db.execute(read_sql(__package__, "sweep_of_space"), parameters):
            rows.append(replace(SweepRow(*row), is_cliff=bool(row[-1])))
            bar.advance()
    for made in approximations if not quiet else ():
        say(
            f"{space}: from a graph of {made.k:,} neighbours, {100 * made.recall:.1f}% of them the"
            f" nearest; agreement with exact clusters {made.agreement:.3f}"
        )
    return rows
