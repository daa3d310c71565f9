"""`nearsql failures`: where a detector fails."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nearsql.pipeline.console import UserError, command_line, summary
from nearsql.pipeline.output import write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.pipeline.failures import FailuresResult
    from nearsql.pipeline.failures.findings import Finding

_COLUMNS = ("kind", "item_id", "score", "decision", "uri", "page", "evidence")


@click.command("failures")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--run",
    "detector_run",
    metavar="RUN",
    type=click.IntRange(min=1),
    help="Of the detector and settings of this run; default: the newest with ground truth.",
)
@click.option(
    "--worst",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many images of each loss; and lines of each table.",
)
@click.option(
    "--space",
    metavar="SPACE",
    help="Compare images with their neighbours here; default: MODEL/gap/p5.",
)
@click.option(
    "--metric",
    type=click.Choice(["mean_iou_gt", "mean_iou", "hit_freq", "dice_score", "mean_conf"]),
    default="mean_iou_gt",
    show_default=True,
    help="What images are compared with their neighbours by.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many neighbours.",
)
@click.option(
    "--cluster",
    is_flag=True,
    help="Cluster the images by losses and metrics, and name the failures.",
)
@click.option(
    "--min-cluster-size",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="--cluster: the fewest images of a cluster.",
)
@click.option(
    "--url",
    metavar="URL",
    default="http://127.0.0.1:8001",
    show_default=True,
    help="Where the pages are served; the default is that of `nearsql serve`.",
)
@click.option("--json", "format_", flag_value="json", type=str, help="The findings: a JSON array.")
@click.option("--nl", "format_", flag_value="nl", help="The findings: JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="The findings: CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="Tables (the default)."
)
@click.pass_context
def command(
    ctx: click.Context, file: str, url: str, format_: str, worst: int, **options: Any
) -> None:
    """Say where a detector fails on the images of FILE, and store it as findings with their evidence.

    The images with the largest losses, objects missed and false alarms by class and size and why, images
    that do badly while their neighbours do well, and with --cluster groups of images that fail alike. The
    run stands for all images that the detector judged with its settings. Each image has a page that shows
    it with the boxes of both: start `nearsql serve FILE`, and open the links.

    \b
      nearsql failures photos.db
      nearsql failures photos.db --cluster --worst 20
      nearsql failures photos.db --nl | jq -c 'select(.kind == "false_alarm") | [.score, .page]'
    """
    from nearsql.pipeline.failures import failures

    is_given = ctx.get_parameter_source("min_cluster_size") is not ParameterSource.DEFAULT
    if is_given and not options["cluster"]:
        raise UserError("--min-cluster-size belongs to --cluster: give that, too")
    with closing(open_database(file)) as db:
        result = failures(db, worst=worst, quiet=False, **options)
        pages = f"{url.rstrip('/')}/-/nearsql/{_route(file)}/items"
        if format_ == "table":
            _print_tables(db, result, worst, pages)
        else:
            write_rows(format_, _COLUMNS, _rows(db, result.run_id, pages, format_))
        _sum_up(file, result)


def _route(file: str) -> str:
    """How the file is called in the addresses of its pages."""
    from datasette.utils import tilde_encode

    return str(tilde_encode(Path(file).stem))


def _rows(db: dbapi.Connection, run: int, pages: str, format_: str) -> Iterator[tuple[Any, ...]]:
    """The findings as they are stored; the evidence as an object, but in CSV as text."""
    for kind, item, score, decision, uri, evidence in db.execute(
        "select f.kind, f.item_id, f.score, f.decision, i.uri, f.evidence_json"
        " from findings f join items i on i.id = f.item_id where f.run_id = ?"
        " order by f.kind, f.score desc, f.item_id",
        (run,),
    ):
        shown = evidence if format_ == "csv" else json.loads(evidence)
        yield kind, item, score, decision, uri, f"{pages}/{item}", shown


def _print_tables(db: dbapi.Connection, result: "FailuresResult", worst: int, pages: str) -> None:
    from nearsql.pipeline.failures.findings import CLUSTER, LONELY, WORST_LOSS

    kinds = dict.fromkeys(e.kind for e in result.findings if e.kind.startswith(WORST_LOSS))
    for kind in kinds:
        found = result.of_kind(kind)
        component = kind.removeprefix(WORST_LOSS)
        _print(
            f"the largest {component} losses, of {found[0].evidence['of_images']:,} images"
            f" (median {found[0].evidence['median']:.4g})",
            ("loss", "objects", "found", "false alarms", "page"),
            [(f"{e.score:.4f}", *_in_brief(e), f"{pages}/{e.item_id}") for e in found],
        )
    table = result.mistakes.table
    of_all = f", the worst {worst} of {len(table)} lines" if len(table) > worst else ""
    _print(
        f"mistakes by class and size{of_all}",
        ("class", "size", "objects", "missed", "false alarms"),
        table[:worst],
    )
    if lonely := result.of_kind(LONELY):
        _print(
            f"images that do badly while their neighbours in {result.space} do well",
            (str(lonely[0].evidence["metric"]), "of neighbours", "objects", "found", "page"),
            [
                (
                    f"{e.evidence['value']:.3f}",
                    f"{e.evidence['expected']:.3f}",
                    *_in_brief(e)[:2],
                    f"{pages}/{e.item_id}",
                )
                for e in lonely[:worst]
            ],
        )
    if clusters := result.of_kind(CLUSTER):
        _print(
            f"clusters of failures, of run {result.cluster_run}",
            ("cluster", "predicted there", "images", "worse by", *_losses(clusters), "page"),
            [_cluster_line(e, _losses(clusters), pages) for e in clusters[:worst]],
        )


def _print(title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    click.echo(f"{title}\n")
    write_rows("table", headers, rows)
    click.echo()


def _in_brief(finding: "Finding") -> tuple[int, int, int]:
    told = finding.evidence
    return told["objects"], told["found"], told["false_alarms"]


def _losses(clusters: Sequence["Finding"]) -> list[str]:
    """What is told of each cluster."""
    return [name for name in clusters[0].evidence["means_of_all"] if name != "mean_conf"]


def _cluster_line(finding: "Finding", losses: Sequence[str], pages: str) -> tuple[Any, ...]:
    told = finding.evidence
    name = told["name"] or "nothing"
    values = [told["means"][name] for name in losses]
    return (
        told["cluster"],
        name,
        told["images"],
        f"{finding.score:.2f} sd",
        *("" if value is None else f"{value:.3f}" for value in values),
        f"{pages}/{finding.item_id}",
    )


def _sum_up(file: str, result: "FailuresResult") -> None:
    from nearsql.pipeline.failures.findings import CLUSTER, LONELY

    counts, mistakes = result.counts, result.mistakes
    runs = ", ".join(map(str, result.detector.runs))
    facts: dict[str, Any] = {"images": counts["judged"]}
    if counts["left_out"]:
        facts["left out"] = f"{counts['left_out']:,}, whose annotations have changed since"
    facts["objects missed"] = _why(counts["missed_objects"], mistakes.why_missed)
    facts["false alarms"] = _why(counts["false_alarms"], mistakes.why_false)
    if result.lonely is not None:
        facts["lonely failures"] = _lonely(result, counts.get(LONELY, 0))
    if result.cluster_run is not None:
        facts["clusters of failures"] = counts.get(CLUSTER, 0)
    if counts["decided"]:
        facts["decided before"] = counts["decided"]
    summary(
        f"run {result.run_id}: failures of {result.detector.model}, run {runs}",
        facts,
        next_step=command_line("nearsql", "serve", file),
    )


def _why(total: float, why: Any) -> str:
    if not total:
        return "none"
    return f"{total:,}: " + ", ".join(f"{n:,} {reason}" for reason, n in why.items())


def _lonely(result: "FailuresResult", n: float) -> str:
    lonely = result.lonely
    assert lonely is not None
    if lonely.low is None or lonely.high is None:
        return f"not told apart: only {len(lonely.compared)} images to compare"
    r2 = "not defined" if lonely.r2 is None else f"{lonely.r2:.3f}"
    return (
        f"{n:,} of {len(lonely.compared):,} (by chance {lonely.by_chance:.1f}): below {lonely.low:.3f}, with"
        f" neighbours above {lonely.high:.3f}; R2 of what neighbours foretell: {r2}"
    )
