"""`nearsql embed`: a vector for every item, in a space."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.commands.ingest import show_problems
from nearsql.pipeline.console import command_line, sql_text, summary
from nearsql.pipeline.engines.options import add_engine
from nearsql.pipeline.tracking.option import add_track
from nearsql.udfs.connection import open_database


@click.command("embed")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--model",
    required=True,
    help="pixels, clip:NAME[/TAG], dino:NAME or timm:NAME (images); text:FOLDER, text:NAME, llm:NAME or"
    " tfidf (texts).",
)
@click.option("--collection", metavar="NAME", help="Only the items of this one.")
@click.option(
    "--space", metavar="NAME", help="Default: COLLECTION/MODEL, or MODEL without a collection."
)
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="clip, dino, timm: a local file of weights, text: a model's folder; without it they come from"
    " the hub.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="clip, dino, timm, text: auto, cpu, cuda or mps.",
)
@click.option(
    "--title",
    metavar="NAME",
    help="text, llm: what titles are called in the items' metadata, to be read before the texts; '' for"
    " none. Default: title.",
)
@click.option(
    "--size",
    type=int,
    help="Width and height that images are scaled to. pixels: 16; dino, timm: the model's own.",
)
@click.option("--dimensions", type=int, help="tfidf: at most that many; 128.")
@click.option("--max-features", type=int, help="tfidf: the most frequent words to keep; 20000.")
@click.option("--seed", type=int, help="tfidf: of the randomised decomposition; 0.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Default: 256; clip, dino, timm and text: 32; llm: 100.",
)
@add_track
@add_engine()
def command(file: str, model: str, **options: Any) -> None:
    """Give every image or text of FILE a vector in a space, which is made when it is not there.

    Only items without a vector are encoded, so that an interrupted run is finished by running it
    again, and new items are measured with the same ruler as the old ones.

    clip, dino and timm give the network's raw features, compared by cosine. Their weights are read
    as tensors and nothing else; the hash is recorded, and a space keeps to the weights it was made
    with.

    text is any model of sentence-transformers, by its local folder or its name on the hub. llm is any
    embedding model of the llm library (`llm embed-models`): the texts are sent to whoever runs it. What
    a model left unread of a long text is counted, and told text by text in item_errors.

    \b
      nearsql embed photos.db --model clip:ViT-B-32
      nearsql embed photos.db --model dino --checkpoint dinov2_vits14.safetensors --size 224
      nearsql embed photos.db --model pixels --collection birds
      nearsql embed reviews.db --model tfidf --dimensions 64
      nearsql embed reviews.db --model text:models/all-MiniLM-L6-v2
      nearsql embed reviews.db --model llm:text-embedding-3-large --title headline
    """
    from nearsql.pipeline.embed import embed

    with closing(open_database(file)) as db:
        result = embed(db, model, **options, quiet=False)
        counts = result.counts
        facts: dict[str, object] = {name.replace("_", " "): n for name, n in counts.items() if n}
        first = db.execute(
            "select v.item_id from vectors v join spaces s on s.id = v.space_id"
            " where s.name = ? order by v.item_id limit 1",
            (result.space,),
        ).fetchone()
        knn = f"select * from knn({sql_text(result.space)}, {first[0]}, 10)" if first else None
        next_step = command_line("nearsql", "sql", file, knn) if knn else None
        if result.run_id is None:
            title = f"nothing to do: the space {result.space!r} has a vector of every item"
            if counts["left_out"]:
                title += " that the model can do anything with"
            summary(title, facts, next_step=next_step)
            return
        facts["besides the model"] = besides_the_model(result.timings)
        show_problems(db, file, result.run_id)
        summary(
            f"run {result.run_id}: the space {result.space!r} has {result.dimensions} dimensions",
            facts,
            next_step=next_step,
        )


def besides_the_model(timings: Mapping[str, float]) -> str:
    """How much of the time went into what is not the model: `12% of 40 s (waiting 9%, writing 3%)`."""
    wait, model, write = (timings.get(step, 0.0) for step in ("wait", "model", "write"))
    total = wait + model + write
    if total <= 0:
        return "none"
    return (
        f"{(wait + write) / total:.0%} of {total / 1000:,.1f} s"
        f" (waiting for items {wait / total:.0%}, writing {write / total:.0%})"
    )
