"""`nearsql cluster --sweep`: what each minimum cluster size would find, as a table, data and drawing."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsql.pipeline.console import command_line, say
from nearsql.pipeline.output import write_rows
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.udfs.clustering.sweep import SweepRow


def sweep_and_show(
    file: str, space: str, options: Mapping[str, Any], *, plot: str | None, format_: str
) -> None:
    """Sweeps one space and prints the rows. options: those of pipeline.cluster.sweep.sweep.

    plot: where to draw them, too. format_: one of output.FORMATS.
    """
    from nearsql.pipeline.cluster.sweep import MIN_SAMPLES, sweep
    from nearsql.udfs.clustering.sweep import suggested_size

    if plot is not None:
        from nearsql.pipeline.plots.look import refuse_target, refuse_without_matplotlib
        from nearsql.pipeline.plots.sweeps import sweep_plot

        refuse_target(Path(plot), replace=True, option="--plot")
        refuse_without_matplotlib()
    with closing(open_database(file, read_only=True)) as db:
        rows = sweep(db, space, quiet=False, **options)
    if format_ == "table":
        write_rows("table", _HEADERS, (_for_people(row) for row in rows))
    else:
        values = [asdict(row) | {"is_cliff": int(row.is_cliff)} for row in rows]
        write_rows(format_, list(values[0]), (list(of_row.values()) for of_row in values))
    min_samples = options.get("min_samples") or MIN_SAMPLES
    if plot is not None:
        drawn = sweep_plot(rows, space, min_samples, options.get("downsample") or 1)
        for problem in drawn.save(plot, replace=True):
            say(problem)
        say(f"drawn: {plot}")
    size = suggested_size(rows)
    if size is None:
        say("no size finds two clusters: try fewer --min-samples, or smaller --sizes")
        return
    say(f"the clusters of size {size} last longest, away from cliffs")
    words = ["nearsql", "cluster", file, space, "--min-cluster-size", size]
    words += ["--min-samples", min_samples, *_repeated(options)]
    say(f"  next: {command_line(*words)}")


_HEADERS = ("min_cluster_size", "clusters", "noise", "", "largest", "", "persistence", "")


def _for_people(row: "SweepRow") -> Sequence[Any]:
    return (
        row.min_cluster_size,
        row.clusters,
        row.noise,
        f"{100 * row.noise_share:.1f}%",
        row.largest,
        f"{100 * row.largest_share:.1f}%",
        "" if row.persistence is None else f"{row.persistence:.3f}",
        "cliff" if row.is_cliff else "",
    )


_DEFAULTS = {"downsample": 1, "selection": "eom", "epsilon": 0.0, "neighbors": "auto"}


def _repeated(options: Mapping[str, Any]) -> list[Any]:
    """The options that a clustering like this sweep needs, too."""
    words: list[Any] = []
    for name, default in _DEFAULTS.items():
        if options.get(name, default) != default:
            words += [f"--{name}", options[name]]
    return words
