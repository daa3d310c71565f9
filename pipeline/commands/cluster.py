"""`nearsql cluster`: the groups of each space."""

import importlib
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from nearsql.pipeline.commands.ingest import show_problems
from nearsql.pipeline.console import UserError, command_line, summary
from nearsql.pipeline.tracking.option import add_track
from nearsql.pipeline.within import add_within
from nearsql.udfs.clustering.approximations import NEIGHBORS
from nearsql.udfs.connection import open_database


class Way(NamedTuple):
    """One way to cluster: how its flag reads, the function that does it, and the options it takes."""

    flag: str
    module: str
    function: str
    options: frozenset[str]


_TREE = frozenset({"min_samples", "selection", "epsilon"})
_SAMPLE = frozenset({"downsample", "within", "neighbors"})

WAYS = {
    "hdbscan": Way(
        "--method hdbscan",
        "nearsql.pipeline.cluster.run",
        "cluster_spaces",
        _TREE | _SAMPLE | {"min_cluster_size"},
    ),
    "levels": Way(
        "--levels",
        "nearsql.pipeline.cluster.levels",
        "cluster_levels",
        _SAMPLE | {"levels", "seed_rules"},
    ),
    "topics": Way(
        "--method topics",
        "nearsql.pipeline.cluster.topics",
        "cluster_topics",
        frozenset({"downsample", "within", "min_cluster_size", "seed"}),
    ),
    "sweep": Way(
        "--sweep",
        "nearsql.pipeline.cluster.sweep",
        "sweep",
        _TREE | _SAMPLE | {"sizes"},
    ),
    "losses": Way(
        "--loss-distance",
        "nearsql.pipeline.cluster.losses",
        "cluster_losses",
        _TREE | {"min_cluster_size", "component", "symmetrize"},
    ),
}
# Options that are no parameters of the function.
_SHOWN = {"sweep": {"plot", "format_"}}


class Sizes(click.ParamType):
    """Whole numbers of at least 2, separated by commas."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """The sizes, ascending and distinct."""
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and int(word) >= 2 for word in words):
            self.fail(f"{value!r} is not a list of whole numbers from 2 on, such as 5,10,20")
        return sorted({int(word) for word in words})


@click.command("cluster")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("spaces", metavar="[SPACE]...", nargs=-1)
@click.option(
    "--method",
    type=click.Choice(["hdbscan", "topics"]),
    default="hdbscan",
    show_default=True,
    help="hdbscan: by density, as the library of that name. topics: EVoC's layers, with less noise.",
)
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
@add_within
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
    "--neighbors",
    type=click.Choice(NEIGHBORS),
    default="auto",
    show_default=True,
    help="exact: of all pairs. graph: from a neighbour graph, whose recall and agreement with exact "
    "clusters are recorded. auto: exact up to 30,000 items.",
)
@click.option(
    "--levels",
    type=click.IntRange(min=2, max=3),
    help="Clusters within clusters, so many levels of them, by rules of their own sizes.",
)
@click.option(
    "--seed-rules",
    is_flag=True,
    help="--levels: what a split leaves over is noise, and not in the parent.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Of --method topics."
)
@click.option(
    "--assign",
    is_flag=True,
    help="Then give the items not sampled to the clusters, as `nearsql assign` does.",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Only show clusters and noise for many minimum cluster sizes, and where they jump.",
)
@click.option("--sizes", type=Sizes(), help="--sweep: these minimum cluster sizes.")
@click.option(
    "--plot", type=click.Path(dir_okay=False), metavar="PATH", help="--sweep: to .svg or .png, too."
)
@click.option("--json", "format_", flag_value="json", type=str, help="--sweep: a JSON array.")
@click.option("--nl", "format_", flag_value="nl", help="--sweep: JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="--sweep: CSV with a header line.")
@click.option(
    "--loss-distance",
    "loss_run",
    metavar="RUN",
    type=click.IntRange(min=1),
    help="Cluster by the stored distances of this run of all pairs, and no space.",
)
@click.option(
    "--component",
    metavar="NAME",
    default="cls",
    show_default=True,
    help="--loss-distance: of which loss.",
)
@click.option(
    "--symmetrize",
    type=click.Choice(["mean", "max", "min"]),
    default="mean",
    show_default=True,
    help="--loss-distance: what is taken of a pair's two directions.",
)
@add_track
@click.pass_context
def command(
    context: click.Context,
    file: str,
    spaces: tuple[str, ...],
    method: str,
    loss_run: int | None,
    sweep: bool,
    assign: bool,
    **options: Any,
) -> None:
    """Find the clusters of each SPACE of FILE (all, if none is named).

    Every space is a run of its own: earlier runs stay as they are. What belongs to no cluster is noise,
    and counted. A space with fewer than two sampled items is skipped.

    \b
      nearsql cluster photos.db
      nearsql cluster photos.db birds/pixels --min-cluster-size 20 --min-samples 5
      nearsql cluster photos.db birds/pixels --downsample 10 --assign
      nearsql cluster photos.db birds/pixels --within "red birds"
      nearsql cluster photos.db birds/pixels --levels 3
      nearsql cluster photos.db birds/pixels --sweep
      nearsql cluster photos.db --loss-distance 4 --component cls --symmetrize mean
    """
    name = _way(method, loss_run, sweep, options["levels"])
    way = WAYS[name]
    _refuse_others(context, way, way.options | _SHOWN.get(name, set()))
    if assign and name not in ("hdbscan", "levels"):
        raise UserError(f"--assign does not go with {way.flag}: it needs core distances")
    function = getattr(importlib.import_module(way.module), way.function)
    chosen = {option: options[option] for option in way.options}
    if name == "losses":
        if spaces:
            raise UserError("--loss-distance clusters a run's items: name no SPACE")
        _cluster_losses(file, function, loss_run, chosen)
        return
    if name == "sweep":
        if len(spaces) != 1:
            raise UserError("--sweep is of one space: name it")
        if context.get_parameter_source("track") == ParameterSource.COMMANDLINE:
            raise UserError("--track is of runs, and --sweep makes none")
        from nearsql.pipeline.commands.cluster_sweep import sweep_and_show

        format_ = options["format_"] or "table"
        sweep_and_show(file, spaces[0], chosen, plot=options["plot"], format_=format_)
        return
    with closing(open_database(file)) as db:
        results = function(db, list(spaces) or None, quiet=False, **chosen)
        made = [result for result in results if result.run_id is not None]
        if not made:
            raise UserError("no space was clustered: see above for the reasons")
        for result in made:
            _show(file, result, chosen, is_last=result is made[-1] and not assign)
        if assign:
            from nearsql.pipeline.commands.assign import assign_and_show

            for result in made:
                assign_and_show(db, file, result.run_id, is_last=result is made[-1])


def _way(method: str, loss_run: int | None, sweep: bool, levels: int | None) -> str:
    flags = {
        "losses": loss_run is not None,
        "sweep": sweep,
        "levels": levels is not None,
        "topics": method == "topics",
    }
    chosen = [name for name, is_chosen in flags.items() if is_chosen]
    if len(chosen) > 1:
        first, second = (WAYS[name].flag for name in chosen[:2])
        raise UserError(f"{first} and {second} exclude each other")
    return chosen[0] if chosen else "hdbscan"


def _refuse_others(context: click.Context, way: Way, allowed: frozenset[str]) -> None:
    """Raises UserError for an option that was given and that this way to cluster does not take."""
    takers = {option: [WAYS[name].flag] for name, shown in _SHOWN.items() for option in shown}
    for other in WAYS.values():
        for option in other.options:
            takers.setdefault(option, []).append(other.flag)
    for option in takers.keys() - allowed:
        if context.get_parameter_source(option) == ParameterSource.COMMANDLINE:
            if len(takers[option]) == 1:
                raise UserError(f"{_flag(context, option)} belongs to {takers[option][0]}")
            takes = ", ".join(sorted(_flag(context, name) for name in allowed))
            raise UserError(
                f"{_flag(context, option)} does not go with {way.flag}, which takes {takes}"
            )


def _flag(context: click.Context, option: str) -> str:
    """How an option reads on the command line; of several that set the same, the one that was given."""
    of_option = [p for p in context.command.params if p.name == option]
    given = [p for p in of_option if getattr(p, "flag_value", None) == context.params.get(option)]
    return (given or of_option)[0].opts[0]


def _show(file: str, result: Any, chosen: dict[str, Any], *, is_last: bool) -> None:
    counts = result.counts
    facts: dict[str, Any] = {"items": counts["total"], "sampled": counts["sampled"]}
    if result.graph_run is not None:
        facts["neighbours"] = f"stored by run {result.graph_run}"
    if "approximated" in counts:
        facts["approximate"] = (
            f"a graph of {counts['graph_k']:,} neighbours, {100 * counts['graph_recall']:.1f}% of"
            f" them the nearest; agreement with exact clusters {counts['graph_agreement']:.3f}"
        )
    if "clusters_level_2" in counts:
        facts |= _by_level(counts)
    else:
        facts["clusters"] = counts["clusters"]
        facts["noise"] = _noise(counts)
    next_step = _next_step(file, result.run_id, counts["clusters"], chosen, [result.space])
    # What --within left out was not meant.
    is_sample = counts["sampled"] < counts["total"] and chosen.get("within") is None
    if 0 < counts["clusters"] and is_sample and "neighbors" in chosen:
        next_step = command_line("nearsql", "assign", file, result.run_id)
    summary(f"run {result.run_id}: {result.space}", facts, next_step=next_step if is_last else None)


def _by_level(counts: dict[str, Any]) -> dict[str, str]:
    """Clusters and noise of each level, the coarsest first."""
    facts = {"level 1": f"{counts['clusters']:,} clusters, noise {_noise(counts)}"}
    level = 2
    while f"clusters_level_{level}" in counts:
        of_level = {"noise": counts[f"noise_level_{level}"]}
        of_level["noise_share"] = counts[f"noise_share_level_{level}"]
        line = f"{counts[f'clusters_level_{level}']:,} clusters, noise {_noise(of_level)}"
        joined = counts.get(f"joined_level_{level}", 0)
        facts[f"level {level}"] = line + f"; {joined:,} joined with probability 0" * (joined > 0)
        level += 1
    return facts


def _noise(counts: dict[str, Any]) -> str:
    return f"{counts['noise']:,}, {100 * counts['noise_share']:.1f}% of what was clustered"


def _cluster_losses(
    file: str, cluster_losses: Any, loss_run: int | None, chosen: dict[str, Any]
) -> None:
    with closing(open_database(file)) as db:
        result = cluster_losses(db, loss_run, **chosen)
        show_problems(db, file, result.run_id)
    counts = result.counts
    facts: dict[str, Any] = {"items": counts["total"], "clusters": counts["clusters"]}
    if counts["left_out"]:
        facts["left out"] = counts["left_out"]
    facts["noise"] = _noise(counts)
    component, symmetrize = chosen["component"], chosen["symmetrize"]
    what: list[str] = ["--loss-distance", str(loss_run)]
    what += [f"--component={component}"] * (component != "cls")
    what += [f"--symmetrize={symmetrize}"] * (symmetrize != "mean")
    summary(
        f"run {result.run_id}: {component} of run {loss_run}, {symmetrize} of both directions",
        facts,
        next_step=_next_step(file, result.run_id, counts["clusters"], chosen, what),
    )


def _next_step(
    file: str, run: int | None, clusters: int, chosen: dict[str, Any], what: Sequence[str]
) -> str:
    """The clusters; or, where there are none, the words for WHAT was clustered with less asked."""
    asked = chosen.get("min_cluster_size", 2)
    if clusters == 0 and asked > 2:
        less = ["--min-cluster-size", max(2, asked // 2)]
        less += ["--min-samples", 1] if "min_samples" in chosen else []
        return command_line("nearsql", "cluster", file, *what, *less)
    if clusters == 0 and "levels" in chosen:
        return command_line("nearsql", "cluster", file, *what, "--sweep")
    sql = "select level, label, size, exemplar_item_id from clusters"
    return command_line("nearsql", "sql", file, f"{sql} where run_id = {run} order by 1, size desc")
