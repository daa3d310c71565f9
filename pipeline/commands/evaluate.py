"""`nearsql evaluate`: how well neighbours predict a label or a number, in each space."""

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import UserError, command_line, sql_text, summary
from nearsql.pipeline.output import write_rows
from nearsql.pipeline.tracking.option import add_track
from nearsql.pipeline.within import add_within
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.pipeline.evaluate import Evaluation
    from nearsql.pipeline.evaluate.metrics import MetricRow


class _List(click.ParamType):
    """Values separated by commas."""

    def __init__(self, name: str, of: type[int] | type[str]) -> None:
        self.name, self._of = name, of

    def convert(self, value: Any, param: Any, ctx: Any) -> list[Any]:
        if isinstance(value, list):
            return value
        try:
            return [self._of(part.strip()) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not {self.name}", param, ctx)


@click.command("evaluate")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("spaces", metavar="SPACE...", nargs=-1, required=True)
@click.option("--label", metavar="NAME", help="The label to predict.")
@click.option(
    "--target",
    metavar="NUMBER",
    help="The number to predict: mean_iou or another column of image_metrics, loss:COMPONENT, or"
    " label:NAME where the label's values are numbers.",
)
@click.option(
    "-k",
    "ks",
    type=_List("K,K,...", int),
    default="1,3,5,10,20,100,200",
    show_default=True,
    help="How many neighbours vote.",
)
@click.option(
    "--weighting",
    "weightings",
    type=_List("W,W,...", str),
    default="uniform,distance,softmax",
    show_default=True,
    help="How their votes count: as those of the SQL function vote, or loss:COMPONENT, by"
    " 1 / (1 + the neighbour's loss).",
)
@click.option(
    "--temperature", type=float, default=0.07, show_default=True, help="Of --weighting softmax."
)
@click.option("--folds", type=int, default=5, show_default=True, help="Into how many parts.")
@click.option(
    "--group-by",
    metavar="GROUP",
    help="What stays in one fold: duplicates (items near each other), a column of items,"
    " label:NAME or metadata:KEY.",
)
@click.option(
    "--detect-run",
    type=click.IntRange(min=1),
    metavar="RUN",
    help="Whose metrics and losses; the newest by default.",
)
@add_within
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@click.option("--json", "format_", flag_value="json", type=str, help="A JSON array of objects.")
@click.option("--nl", "format_", flag_value="nl", help="JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="A table (the default)."
)
@add_track
def command(file: str, spaces: tuple[str, ...], format_: str, **options: Any) -> None:
    """Predict the label or number of each item from its neighbours in each SPACE, and say how well.

    Items are divided into folds, and an item's neighbours are those of the other folds: none votes for
    one of its own fold. Folds, voters, predictions and metrics are rows (folds, cv_neighbors,
    cv_predictions, cv_metrics), found by one search for every k and weighting. Several spaces are judged
    over the items that all of them have, in one run.

    Of labels: accuracy, macro_f1, top_5_accuracy (the true label is among the five with the most weight)
    and retrieval_map (how high items of the same label rank; it depends on k alone). Of numbers: mae, r2,
    spearman. A k larger than an item has others in other folds is left out.

    \b
      nearsql evaluate photos.db clip dino --label species
      nearsql evaluate photos.db clip --label species --group-by duplicates -k 1,10 --json
      nearsql evaluate photos.db yolov8n/gap/p5 --target mean_iou
    """
    from nearsql.pipeline.evaluate import evaluate

    if (options["label"] is None) == (options["target"] is None):
        raise UserError("give either --label NAME or --target NUMBER, what is to be predicted")
    with closing(open_database(file)) as db:
        found = evaluate(db, spaces, **options, quiet=False)
        write_rows(format_, *_table(found))
        _summarize(file, found)


def _table(found: "Evaluation") -> tuple[list[str], list[list[Any]]]:
    """A row for each space, k and weighting, with all metrics over all folds."""
    names = list(dict.fromkeys(row.metric for rows in found.metrics.values() for row in rows))
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    for space, rows in found.metrics.items():
        for row in rows:
            if row.fold is None:
                table.setdefault((space, row.k, row.weighting), {})[row.metric] = row.value
    return (
        ["space", "k", "weighting", *names],
        [[*key, *(values[name] for name in names)] for key, values in table.items()],
    )


def _summarize(file: str, found: "Evaluation") -> None:
    facts: dict[str, Any] = dict(found.counts)
    best = {space: _best(found, space) for space in found.spaces}
    for space, row in best.items():
        facts[f"best of {space}"] = _in_words(found, space, row)
    reasons = {row.reason for rows in found.metrics.values() for row in rows if row.fold is None}
    for reason in sorted(reasons - {None}, key=str):
        facts["undefined"] = reason
    if found.graph_run is not None:
        facts["neighbours"] = f"stored by run {found.graph_run}"
    summary(f"run {found.run_id}", facts, next_step=_next_step(file, found, best))


def _best(found: "Evaluation", space: str) -> "MetricRow | None":
    """The k and weighting with the most accuracy or R2 in a space; None where it is not defined."""
    metric = "accuracy" if "labels" in found.counts else "r2"
    rows = [
        row
        for row in found.metrics[space]
        if row.metric == metric and row.fold is None and row.value is not None
    ]
    return max(rows, key=lambda row: row.value or 0.0, default=None)


def _in_words(found: "Evaluation", space: str, best: "MetricRow | None") -> str:
    """The best of a space, with how much it differs between folds."""
    if best is None:
        return "not defined"
    of_folds = [
        row.value
        for row in found.metrics[space]
        if (row.k, row.weighting, row.metric) == (best.k, best.weighting, best.metric)
        and row.fold is not None
        and row.value is not None
    ]
    spread = f" (folds {min(of_folds):.4f} to {max(of_folds):.4f})" if of_folds else ""
    return f"{best.metric} {best.value:.4f}{spread} with k {best.k}, {best.weighting}"


def _next_step(file: str, found: "Evaluation", best: "dict[str, MetricRow | None]") -> str:
    """What the best space confuses; of numbers, where it is wrong the most."""
    space, row = max(
        best.items(), key=lambda one: -math.inf if one[1] is None else one[1].value or 0.0
    )
    row = row or found.metrics[space][0]
    where = (
        f"run_id = {found.run_id} and space_id = (select id from spaces where name ="
        f" {sql_text(space)}) and k = {row.k} and weighting = {sql_text(row.weighting)}"
    )
    if "labels" in found.counts:
        sql = (
            f"select y_true, y_pred, n from cv_confusion where {where} and y_pred is not y_true"
            " order by n desc limit 10"
        )
    else:
        sql = (
            f"select item_id, y_true, y_pred from cv_predictions where {where}"
            " order by abs(y_true - y_pred) desc limit 10"
        )
    return command_line("nearsql", "sql", file, sql)
