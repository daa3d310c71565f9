"""Clustering one space after the other: which, how many items of each, and what is recorded of it.

All methods share this loop. A method says what it will compute with (its effective parameters) and
computes; everything else is here: spaces that are skipped and why, forecast, run, the one atomic write,
and counts before and after.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline.cluster.forecast import tell
from nearsql.pipeline.cluster.results import FoundClusters, hash_result, write_result
from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.run_spaces import add_runs_read, refuse_if_changed
from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.pipeline.within import Within, argument_of, within_ids, within_parameters
from nearsql.udfs import dbapi
from nearsql.udfs.clustering.approximations import Approximation, is_graph, noting_approximations
from nearsql.udfs.search.stored_graph import noting_graph_runs
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class Group:
    """The vectors of a space: how many there are, how many are taken by a downsample and `within`, why
    they cannot be clustered.
    """

    space: str
    total: int
    sampled: int
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """How a space's clustering went; run_id is None when it was skipped, for the reason given.

    counts: total and sampled items, clusters, noise, noise_share (of a run with levels: of the first),
    and what its method adds; where spanning trees came from neighbour graphs: approximated (how many),
    graph_k and graph_probes of the largest, graph_recall and graph_agreement, the least of all (see
    Approximation). graph_run: whose stored neighbours were read, None when they were computed.
    """

    space: str
    run_id: int | None
    counts: dict[str, int | float] = field(default_factory=dict)
    skipped: str | None = None
    graph_run: int | None = None


# The effective parameters of a group, as they are recorded: `method` and `space` among them, and all
# that `compute` needs to give the same again.
Parameters = Callable[[Group], dict[str, Any]]
# compute(db, space, parameters): the space may be renamed when a run is replayed; `within` are the items
# themselves, as SQL takes them, where a run records the text that names them.
Compute = Callable[[dbapi.Connection, str, dict[str, Any]], FoundClusters]


def cluster_groups(
    db: dbapi.Connection,
    spaces: Sequence[str] | None,
    downsample: int,
    parameters: Parameters,
    compute: Compute,
    *,
    packages: Sequence[str],
    seed: int | None = None,
    within: str | None = None,
    quiet: bool = True,
) -> list[ClusterResult]:
    """Clusters the named spaces, or all there are, each as a run of its own; gives a result for each.

    packages: those whose versions the result depends on. within: the items that all are limited to, as
    `--within` has them. A space that cannot be clustered is skipped,
    and the reason is said. Raises LookupError for a space that is not there, before any work, and
    UserError when one changes while it is clustered: of that one nothing is written, and those before it
    stay complete.
    """
    only = within_ids(db, within)
    groups = find_groups(db, spaces, downsample, only)
    results = []
    with progress("spaces clustered", len(groups), quiet=quiet) as bar:
        for group in groups:
            if group.skipped is not None:
                say(f"skipped {group.space}: {group.skipped}")
                counts: dict[str, int | float] = {"total": group.total, "sampled": group.sampled}
                results.append(ClusterResult(group.space, None, counts, group.skipped))
            else:
                effective = {**parameters(group), **within_parameters(only)}
                if not quiet:
                    tell(db, group.space, group.total, group.sampled, effective)
                result = _cluster(db, group, effective, compute, packages, seed, only)
                results.append(result)
                if not quiet and len(groups) > 1:
                    say(f"{group.space}: {in_words(result)}")
            bar.advance()
    return results


def find_groups(
    db: dbapi.Connection,
    spaces: Sequence[str] | None,
    downsample: int,
    within: Within | None = None,
) -> list[Group]:
    """The spaces asked for, in their order, or all by name.

    Raises LookupError for one that is not there, UserError when there is none at all.
    """
    rows = db.execute(
        read_sql(__package__, "groups"), {"downsample": downsample, "within": argument_of(within)}
    ).fetchall()
    found = {
        name: Group(
            name, total, sampled, _reason(total, sampled, downsample, metric, within is not None)
        )
        for name, total, sampled, metric in rows
    }
    names = list(found) if spaces is None else list(dict.fromkeys(spaces))
    if not names:
        raise UserError("this file has no spaces to cluster: run `nearsql embed` first")
    for name in names:
        if name not in found:
            there_are = ", ".join(found) or "none; run `nearsql embed` first"
            raise LookupError(f"there is no space {name!r}: the spaces are {there_are}")
    return [found[name] for name in names]


def effective_neighbors(neighbors: str, sampled: int) -> str:
    """What a run records of `neighbors`: exact or graph, as 'auto' is decided for so many items."""
    return "graph" if is_graph(neighbors, sampled) else "exact"


def in_words(result: ClusterResult) -> str:
    """What came of a run, for its log line."""
    counts = result.counts
    return (
        f"run {result.run_id}: {counts['clusters']:,} clusters of {counts['sampled']:,} items,"
        f" {counts['noise']:,} noise ({100 * counts['noise_share']:.1f}%)"
    )


def _reason(total: int, sampled: int, downsample: int, metric: str, is_limited: bool) -> str | None:
    if sampled < 2:
        by = "--within" if is_limited else f"a downsample by {downsample}"
        if is_limited and downsample > 1:
            by += f" and a downsample by {downsample}"
        return f"{by} leaves {sampled} of {total} items, and 2 are needed"
    if metric == "ip":
        return "inner products are not distances; store the vectors with metric cosine or l2"
    return None


def _cluster(
    db: dbapi.Connection,
    group: Group,
    parameters: dict[str, Any],
    compute: Compute,
    packages: Sequence[str],
    seed: int | None,
    within: Within | None,
) -> ClusterResult:
    source = space_input(db, group.space)
    with run(
        db, "cluster", parameters=parameters, seed=seed, inputs=[source], packages=packages
    ) as current:
        with (
            current.timed("compute"),
            noting_graph_runs() as graphs,
            noting_approximations() as approximations,
        ):
            found = compute(db, group.space, {**parameters, "within": argument_of(within)})
        current.result_sha256 = hash_result(found.clusters, found.members)
        current.counts |= {
            "total": group.total,
            **_counts(found),
            **_quality(approximations),
            **found.counts,
        }
        with immediate(db):
            with current.timed("write"):
                refuse_if_changed(db, source)
                add_runs_read(current, graphs, "neighbors")
                write_result(db, current.id, found.clusters, found.members)
            current.finish()
    return ClusterResult(
        group.space, current.id, dict(current.counts), graph_run=max(graphs, default=None)
    )


def _counts(found: FoundClusters) -> dict[str, int | float]:
    """Those of the first level, and its share of noise."""
    members = [row for row in found.members if row.level == 1]
    noise = sum(row.label is None for row in members)
    return {
        "sampled": len(members),
        "clusters": sum(row.level == 1 for row in found.clusters),
        "noise": noise,
        "noise_share": round(noise / len(members), 4),
    }


def _quality(approximations: Sequence[Approximation]) -> dict[str, int | float]:
    if not approximations:
        return {}
    largest = max(approximations, key=lambda a: a.n)
    return {
        "approximated": len(approximations),
        "graph_k": largest.k,
        "graph_probes": largest.probes,
        "graph_recall": round(min(a.recall for a in approximations), 4),
        "graph_agreement": round(min(a.agreement for a in approximations), 4),
    }
