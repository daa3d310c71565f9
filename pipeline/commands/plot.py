"""`nearsql plot`: maps, sweeps, evaluations, confusions and losses as PNG or SVG."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nearsql.pipeline.console import UserError, command_line, say, summary
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.pipeline.plots.look import Plot

# What can be drawn, and the options that belong to each.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "map": ("clustering", "level", "label"),
    "sweep": ("sizes", "min_samples", "downsample"),
    "evaluation": ("metrics",),
    "confusion": ("space", "k", "weighting"),
    "losses": (),
}
_OF_A_SPACE = ("sweep",)


class _Sizes(click.ParamType):
    name = "sizes"

    def convert(self, value: object, param: object, ctx: object) -> list[int]:
        if isinstance(value, list):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise UserError(f"--sizes must be whole numbers, such as 5,10,20, not {value!r:.60}")
        return [int(word) for word in words]


@click.command("plot")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("what", type=click.Choice(list(_OPTIONS)))
@click.argument("of", metavar="RUN|SPACE")
@click.option(
    "--to",
    "to",
    metavar="PLOT.svg",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write: .svg, whose letters stay letters, or .png.",
)
@click.option("--replace", is_flag=True, help="Write over a file that is there already.")
@click.option(
    "--clusters",
    "clustering",
    metavar="RUN",
    type=click.IntRange(min=1),
    help="map: colours and names; default: the newest clustering of its space, if there is one.",
)
@click.option(
    "--level",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="map: of the clustering, 1 the coarsest.",
)
@click.option("--label", metavar="NAME", help="map: colour by the values of this label instead.")
@click.option("--sizes", metavar="N,N,...", type=_Sizes(), help="sweep: the sizes to try.")
@click.option(
    "--min-samples", type=click.IntRange(min=1), help="sweep: as `nearsql cluster` has it."
)
@click.option(
    "--downsample",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="sweep: of every N-th item.",
)
@click.option(
    "--metric",
    "metrics",
    metavar="METRIC",
    multiple=True,
    help="evaluation: accuracy, macro_f1, ...; may be given several times. Default: all.",
)
@click.option("--space", metavar="SPACE", help="confusion: in this space.")
@click.option(
    "-k", metavar="K", type=click.IntRange(min=1), help="confusion: of so many neighbours."
)
@click.option(
    "--weighting",
    metavar="WEIGHTING",
    help="confusion: with this one. What is not given is that of the best accuracy.",
)
@click.pass_context
def command(
    ctx: click.Context, file: str, what: str, of: str, to: Path, replace: bool, **options: Any
) -> None:
    """Draw what is in FILE: the map, evaluation, confusion or losses of a RUN, or a sweep of a SPACE.

    Colours are told apart by every kind of sight, titles say which run and how it was made, and the same
    input gives the same bytes. FILE is only read. See docs/plots.md.

    \b
      nearsql plot photos.db map 4 --to map.svg
      nearsql plot photos.db map 4 --label species --to species.png
      nearsql plot photos.db sweep clip:ViT-B-32 --to sweep.svg
      nearsql plot photos.db evaluation 9 --metric accuracy --to accuracy.svg
      nearsql plot photos.db confusion 9 -k 5 --to confusion.png
      nearsql plot street.db losses 3 --to losses.png
    """
    from nearsql.pipeline.plots.look import refuse_target, refuse_without_matplotlib

    for name in options:
        is_given = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if is_given and name not in _OPTIONS[what]:
            whose = next(other for other, names in _OPTIONS.items() if name in names)
            flag = {"clustering": "clusters", "metrics": "metric"}.get(name, name)
            dashes = "-" if len(flag) == 1 else "--"
            shown = dashes + flag.replace("_", "-")
            raise UserError(f"{shown} belongs to `plot {whose}`, not to `plot {what}`")
    refuse_target(to, replace=replace)
    refuse_without_matplotlib()
    own = {name: options[name] for name in _OPTIONS[what]}
    with closing(open_database(file, read_only=True)) as db:
        plot = _drawn(db, what, of, own)
    for problem in plot.save(to, replace=replace):
        say(problem)
    summary(f"{to}: {what} of {of}", plot.facts, next_step=_next_step(file, what, of, to))


def _drawn(db: dbapi.Connection, what: str, of: str, options: Mapping[str, Any]) -> "Plot":
    if what == "sweep":
        return _sweep(db, of, options)
    if not (of.isascii() and of.isdecimal()) or int(of) > 2**63 - 1:
        raise UserError(
            f"`plot {what}` is of a run, by its number: see `nearsql runs`; not {of!r:.60}"
        )
    run = int(of)
    if what == "map":
        from nearsql.pipeline.plots.maps import map_plot

        if options["label"] is None:
            say("loading DataMapPlot, which places the names, takes a while")
        return map_plot(db, run, **options)
    if what == "evaluation":
        from nearsql.pipeline.plots.evaluation import evaluation_plot

        return evaluation_plot(db, run, metrics=options["metrics"] or None)
    if what == "confusion":
        from nearsql.pipeline.plots.confusion import confusion_plot

        return confusion_plot(db, run, **options)
    from nearsql.pipeline.plots.losses import losses_plot

    return losses_plot(db, run)


def _sweep(db: dbapi.Connection, space: str, options: Mapping[str, Any]) -> "Plot":
    from nearsql.pipeline.cluster.sweep import MIN_SAMPLES, sweep
    from nearsql.pipeline.plots.sweeps import sweep_plot

    rows = sweep(db, space, quiet=False, **options)
    min_samples = options["min_samples"] or MIN_SAMPLES
    return sweep_plot(rows, space, min_samples, options["downsample"])


def _next_step(file: str, what: str, of: str, to: Path) -> str:
    """The next plot to look at, beside this one."""
    if what == "sweep":
        return command_line("nearsql", "cluster", file, of, "--sweep")
    if what == "evaluation":
        beside = to.with_name(f"confusion{to.suffix}")
        return command_line("nearsql", "plot", file, "confusion", of, "--to", beside)
    if what == "losses":
        return command_line("nearsql", "failures", file, "--run", of)
    return command_line("nearsql", "serve", file)
