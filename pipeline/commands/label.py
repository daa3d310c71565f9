"""`nearsql label`: names for the clusters of a run."""

from contextlib import closing
from typing import Any

import click
from click.core import ParameterSource

from nearsql.pipeline.commands.ingest import show_problems
from nearsql.pipeline.console import UserError, command_line, say, summary
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

# Of --method llm alone.
_OF_A_MODEL = {
    "model": "--model",
    "options": "--option",
    "shown": "--shown",
    "shown_characters": "--shown-characters",
    "images": "--images",
    "timeout": "--timeout",
    "retries": "--retries",
    "backoff": "--backoff",
    "max_errors": "--max-errors",
    "ask_again": "--ask-again",
    "dry_run": "--dry-run",
}

# Characters of English in a token, roughly.
_CHARACTERS_A_TOKEN = 4


@click.command("label")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("run", type=click.IntRange(min=1))
@click.option(
    "--method",
    type=click.Choice(["keywords", "llm"]),
    default="keywords",
    show_default=True,
    help="keywords: the words that set a cluster apart. llm: ask a language model.",
)
@click.option("--level", type=click.IntRange(min=1), help="Only this one; default: all.")
@click.option(
    "--min-size",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Only clusters of so many members.",
)
@click.option(
    "--label",
    "labels",
    metavar="NAME",
    multiple=True,
    help="Of images, only labels of this name; may be repeated. Default: all labels.",
)
@click.option(
    "--read",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="Members of a cluster that keywords are found in, at most; drawn at random.",
)
@click.option(
    "--characters",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Of each text that are read for keywords.",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Members of a cluster that its name is not made from, but judged by; a quarter at most.",
)
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True)
@click.option("--model", metavar="NAME", help="llm: a model or alias that `llm models` lists.")
@click.option(
    "-o",
    "--option",
    "options",
    type=(str, str),
    metavar="NAME VALUE",
    multiple=True,
    help="llm: an option of the model, such as `-o temperature 0`; may be repeated.",
)
@click.option(
    "--shown",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="llm: items of a cluster that the model is shown: half the surest, half at random.",
)
@click.option(
    "--shown-characters",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="llm: of each text.",
)
@click.option("--images", is_flag=True, help="llm: show the images themselves, scaled down.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="llm: seconds to wait for an answer.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="llm: how often a question is asked again when it got no answer of use.",
)
@click.option(
    "--backoff",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="llm: seconds before it is asked again, doubled each time; longer if the provider says so.",
)
@click.option(
    "--max-errors",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="llm: stop after so many clusters in a row without an answer.",
)
@click.option("--ask-again", is_flag=True, help="llm: ask also what an earlier run was answered.")
@click.option("--dry-run", is_flag=True, help="llm: print the questions, and ask nobody.")
@click.pass_context
def command(ctx: click.Context, file: str, run: int, method: str, **options: Any) -> None:
    """Name the clusters that RUN found. Clusters beside each other never share a name.

    Keywords come from the members' texts; from the labels and predicted classes of images. A language
    model is asked through the llm library, by any provider or on this machine: texts, labels and, with
    --images, images of some members are sent to it. What it was asked and answered is stored, and not
    asked a second time. Stopped, the same command goes on where it was.

    Some members are held out of whatever makes a name, and mixed with as many of other clusters:
    precision says how many of those that the name fits are members, recall how many of the members it
    fits.

    \b
      nearsql label reviews.db 3
      nearsql label reviews.db 3 --method llm --model gpt-4o-mini --dry-run
      nearsql label photos.db 5 --method llm --model llava --images -o temperature 0
    """
    _refuse_useless(ctx, method, options)
    from nearsql.pipeline.label import Asking, label_clusters
    from nearsql.pipeline.label.asking import Showing
    from nearsql.pipeline.label.levels import Reading

    asking = None
    if method == "llm":
        asking = Asking(
            model=options["model"],
            options=dict(options["options"]),
            showing=Showing(options["shown"], options["shown_characters"], options["images"]),
            timeout=options["timeout"],
            retries=options["retries"],
            backoff=options["backoff"],
            max_errors=options["max_errors"],
            ask_again=options["ask_again"],
        )
    how: dict[str, Any] = {
        "level": options["level"],
        "min_size": options["min_size"],
        "reading": Reading(
            options["seed"],
            options["read"],
            options["held_out"],
            options["characters"],
            tuple(options["labels"]) or None,
        ),
        "quiet": False,
    }
    with closing(open_database(file)) as db:
        if options["dry_run"]:
            assert asking is not None
            _print_questions(db, run, asking, how)
            return
        result = label_clusters(db, run, asking=asking, **how)
        show_problems(db, file, result.run_id)
    counts = result.counts
    facts: dict[str, Any] = {
        "named": f"{counts['named']:,} of {counts['clusters']:,} clusters",
        **({"too small": counts["too_small"]} if counts["too_small"] else {}),
        "held out": _held_out(result.precision, result.recall),
    }
    if asking is not None:
        facts["answers"] = f"{counts['answers']:,} new, {counts['answers_of_earlier_runs']:,} known"
        if counts["retries"]:
            facts["retries"] = counts["retries"]
        facts["tokens"] = (
            f"{counts['prompt_tokens']:,} asked, {counts['completion_tokens']:,} answered"
        )
    sql = (
        "select c.level, c.label, c.size, l.name, l.held_out_precision from cluster_labels l"
        f" join clusters c on c.id = l.cluster_id where l.run_id = {result.run_id}"
    )
    summary(
        f"run {result.run_id}: names of run {run}, by {asking.model if asking else 'keywords'}",
        facts,
        next_step=command_line("nearsql", "sql", file, f"{sql} order by c.level, c.size desc"),
    )


def _refuse_useless(ctx: click.Context, method: str, options: dict[str, Any]) -> None:
    """An option that would change nothing is a mistake, and a model has to be named."""
    if method == "keywords":
        for name, flag in _OF_A_MODEL.items():
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise UserError(f"{flag} belongs to --method llm: give that, too")
    elif options["model"] is None:
        raise UserError("--method llm needs --model NAME: `llm models` lists those there are")


def _print_questions(db: dbapi.Connection, run: int, asking: Any, how: dict[str, Any]) -> None:
    from nearsql.pipeline.label import questions

    characters = asked = 0
    for cluster, question in questions(db, run, asking, **how):
        click.echo(f"=== {cluster}, {cluster.size:,} members ===")
        if isinstance(question, str):
            click.echo(f"(no question: {question})\n")
            continue
        click.echo(f"[system] {question.system}\n\n{question.prompt}\n")
        asked += 1
        characters += len(question.system) + len(question.prompt)
    judged = f", and {asked:,} more for the members held out" if how["reading"].held_out else ""
    tokens = f"about {characters // _CHARACTERS_A_TOKEN:,} tokens"
    say(f"{asked:,} questions of {tokens} for the names{judged}; nobody was asked")


def _held_out(precision: float | None, recall: float | None) -> str:
    if precision is None:
        return "none was judged" if recall is None else "no item was said to belong"
    return f"precision {precision:.3f}, recall {recall:.3f}"
