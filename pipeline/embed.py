"""Embed: a vector for every item, by a model, into a space.

    embed(db, "pixels", collection="digits")        # fills the space digits/pixels

Work to do is a query: the items that have no vector in the space yet. Each batch is written in one
transaction, so that a killed run loses at most the batch under way and the next one does the rest.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline import images
from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.embed_spaces import (
    Target,
    check_same,
    create_space,
    find_target,
    load_encoder,
    move_checkpoint,
    read_model,
    same_parameters,
    save_model,
)
from nearsql.pipeline.encode_items import (
    Encoded,
    EncoderFacts,
    EncodeTask,
    EncodeWork,
    encode_items,
)
from nearsql.pipeline.encoders import (
    DEFAULTS,
    EncoderModule,
    Option,
    check_device,
    check_options,
    find_module,
)
from nearsql.pipeline.engines import Engine, Workers
from nearsql.pipeline.engines.local import LocalEngine, LocalWorkers
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.pipeline.item_contents import Items
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable, stored_by_item
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.runs import Run, RunInput, immediate, run
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Shorter work needs no forecast.
_SECONDS_WORTH_SAYING = 5.0

# The stage of `item_errors` rows of items that have a vector, of which the model read only a part.
TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """How an embedding went. run_id is None when there was nothing to do: then no run was made.

    counts: vectors written and errors, in this run; truncated: items of which the model read a part;
    requests and retries, of a provider; already: items that had a vector before;
    left_out: items that the model could do nothing with in an earlier run, and that were not retried.
    timings: milliseconds of the steps, as the run has them: waiting for items, model, write.
    """

    run_id: int | None
    space: str
    dimensions: int
    counts: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


def embed(
    db: dbapi.Connection,
    model: str,
    *,
    collection: str | None = None,
    space: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    title: str | None = None,
    size: int | None = None,
    dimensions: int | None = None,
    max_features: int | None = None,
    seed: int | None = None,
    engine: Engine | None = None,
    quiet: bool = True,
) -> EmbedResult:
    """Gives every item of the model's kind a vector in a space, which is made when it is not there.

    model: a name in `encoders.MODULES`, with a network's behind a colon where there are several, as in
    `clip:ViT-B-32`, `text:FOLDER` or `llm:text-embedding-3-large`. collection: default, all. space: default, the model's name, behind that of the
    collection if one is given. batch_size: default, the model's own. device: auto, cpu, cuda or mps.
    checkpoint (clip, dino, timm, text), title (text, llm), size (pixels, dino, timm), dimensions,
    max_features and seed (tfidf) are the models' options; one that is None takes the space's own, or the
    model's default. engine: where it is computed, which makes no difference to the vectors; default, here.

    An item that cannot be read or encoded becomes an `item_errors` row. Content that the model can do
    nothing with is not tried again; a file that cannot be read is, by the next run. Raises UserError
    when there is nothing to embed, or the space was made in another way.
    """
    model = DEFAULTS.get(model, model)
    module = find_module(model)
    engine = engine or LocalEngine()
    if not engine.is_here and model.partition(":")[0] == "llm":
        raise UserError("llm: leaves the work to a provider: --engine ray has none to share out")
    if checkpoint is None and hasattr(module, "split_path"):
        model, checkpoint = module.split_path(model)
    full_name = module.full_name(model)
    given: dict[str, Option] = {
        "checkpoint": None if checkpoint is None else os.fspath(checkpoint),
        "title": title,
        "size": size,
        "dimensions": dimensions,
        "max_features": max_features,
        "seed": seed,
    }
    asked = check_options(model, module, given)
    check_device(model, module, device)
    batch_size = module.BATCH_SIZE if batch_size is None else batch_size
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, not {batch_size}")
    items = Items(db, module.KIND, collection)
    items.require(model)
    space = space or (f"{collection}/{model}" if collection else model)

    target = find_target(db, space)
    item_ids = _items_to_do(db, module.KIND, collection, target)
    counts: dict[str, int | float] = {"vectors": 0, "errors": 0}
    started = time.perf_counter()
    with ExitStack() as stack:
        if target is None:
            options = {**module.OPTIONS, **asked}
            module.check(options)
            if not quiet and getattr(module, "LEARNS", False):
                say(f"fitting {model} to {len(items):,} texts")
            fitted = module.fit(full_name, space, options, items)
            workers = stack.enter_context(engine.workers(EncodeTask(model, fitted, device)))
            model_id = save_model(db, fitted)
        else:
            target = _as_asked(db, target, module, full_name, asked)
            counts |= _counts_before(db, items, collection, target, len(item_ids))
            if not item_ids:
                return EmbedResult(None, space, target.dimensions, counts)
            fitted, model_id = target.model, target.model_id
            workers = stack.enter_context(engine.workers(EncodeTask(model, fitted, device)))
            target.check(_facts(workers).dimensions, _facts(workers).metric)
        facts = _facts(workers)
        fit_ms = (time.perf_counter() - started) * 1000
        parameters = {
            "model": full_name,
            "space": space,
            "collection": collection,
            "batch_size": batch_size,
            "model_parameters": fitted.parameters,
            "computation": dict(facts.computation),
        }
        current = stack.enter_context(
            run(
                db,
                "embed",
                parameters=parameters,
                seed=fitted.parameters.get("options", {}).get("seed"),
                model_id=model_id,
                inputs=[
                    RunInput("collection", name, rows=n)
                    for name, n in items.by_collection().items()
                ],
                packages=module.PACKAGES,
                device=facts.device,
            )
        )
        current.counts.update(counts)
        current.timings["fit" if target is None else "load"] = round(fit_ms, 3)
        if target is None:
            target = create_space(current, space, model_id, fitted, facts.dimensions, facts.metric)
        try:
            with images.quiet_decoders():
                _fill(current, target, workers, item_ids, module.KIND, batch_size, quiet)
        finally:
            current.counts.update(getattr(_encoder_here(workers), "spent", {}))
            for step, milliseconds in workers.timings.items():
                current.timings[step] = round(milliseconds, 3)
        workers.record(current)
        current.result_sha256 = hash_rows(
            db.execute(
                "select item_id, vector from vectors where run_id = ? and space_id = ?"
                " order by item_id",
                (current.id, target.space_id),
            )
        )
    return EmbedResult(current.id, space, target.dimensions, current.counts, current.timings)


def _facts(workers: Workers) -> EncoderFacts:
    facts = workers.facts
    assert isinstance(facts, EncoderFacts)  # of an EncodeTask
    return facts


def _encoder_here(workers: Workers) -> Any:
    """The encoder itself, when it is in this process; else None."""
    work = getattr(workers, "work", None)
    return work.encoder if isinstance(work, EncodeWork) else None


def _as_asked(
    db: dbapi.Connection,
    target: Target,
    module: EncoderModule,
    full_name: str,
    asked: Mapping[str, Option],
) -> Target:
    """The space, if it was made as is asked now; its checkpoint lies where it is said to lie.

    Raises UserError when it was made in another way.
    """
    options: dict[str, Any] = dict(asked)
    path = options.pop("checkpoint", None)
    if path is None:
        check_same(target, full_name, options)
        return target
    if hasattr(module, "find_checkpoint"):
        checkpoint = module.find_checkpoint(path)
    else:
        from nearsql.pipeline.encoders.checkpoints import find_checkpoint

        checkpoint = find_checkpoint(path)
    check_same(target, full_name, {**options, "checkpoint_sha256": checkpoint.sha256})
    return move_checkpoint(db, target, checkpoint.as_parameter())


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """The vectors of the items that the recorded run wrote, encoded again."""
    assert recorded.model_id is not None  # embed runs have one
    model = read_model(db, recorded.model_id)
    try:
        module = find_module(recorded.parameters["model"])
        # On the same kind of device: another one gives other last bits.
        device = recorded.parameters.get("computation", {}).get("device", "cpu")
        encoder = load_encoder(module, model, device)
    except UserError as error:
        raise CannotReplay(f"run {recorded.id}: {error}") from error
    if not same_parameters(model.parameters, recorded.parameters["model_parameters"]):
        raise CannotReplay(
            f"run {recorded.id} was made with other parameters of the model {model.name!r} than it has"
        )
    ids = _items_written(db, recorded)

    def again() -> Iterator[tuple[int, bytes]]:
        batch_size = recorded.parameters["batch_size"]
        workers = LocalWorkers(EncodeWork(encoder))
        with images.quiet_decoders():
            for batch in encode_items(db, workers, ids, module.KIND, batch_size):
                for item in batch:
                    if item.problem is not None:
                        raise CannotReplay(f"item {item.item_id} ({item.uri}): {item.problem}")
                    yield item.item_id, item.vector

    stored = stored_by_item(db, read_sql(__package__, "vectors_of_run"), recorded.id, ids)
    table = ResultTable("vectors", ("item_id", "vector"), 1, stored, again(), {"vector": "<f4"})
    return Again([table], device=encoder.device, computation=encoder.computation)


def _items_written(db: dbapi.Connection, recorded: RecordedRun) -> list[int]:
    """The items that have their vectors from a run. Raises CannotReplay when others were asked for."""
    collection = recorded.parameters["collection"]
    found = db.execute(
        "select v.item_id, i.collection from vectors v join items i on i.id = v.item_id"
        " where v.run_id = ? order by v.item_id",
        (recorded.id,),
    ).fetchall()
    for item_id, of_item in found:
        if collection is not None and of_item != collection:
            raise CannotReplay(
                f"run {recorded.id} read the collection {collection!r}, and item {item_id}, to which"
                f" it gave a vector, is of {of_item!r}"
            )
    return [item_id for item_id, _ in found]


def _items_to_do(
    db: dbapi.Connection, kind: str, collection: str | None, target: Target | None
) -> list[int]:
    """The ids of the items that the space lacks: all of them, while there is no space."""
    sql = read_sql(__package__, "items_to_embed")
    values = {
        "kind": kind,
        "collection": collection,
        "space_id": target.space_id if target else None,
        "space": target.name if target else None,
    }
    return [item_id for (item_id,) in db.execute(sql, values)]


def _counts_before(
    db: dbapi.Connection, items: Items, collection: str | None, target: Target, n_to_do: int
) -> dict[str, int | float]:
    """How the items stand to a space that was there before the run."""
    (already,) = db.execute(
        "select count(*) from vectors v join items i on i.id = v.item_id"
        " where v.space_id = ? and (? is null or i.collection = ?)",
        (target.space_id, collection, collection),
    ).fetchone()
    return {"already": already, "left_out": len(items) - already - n_to_do}


def _fill(
    current: Run,
    target: Target,
    workers: Workers,
    item_ids: list[int],
    kind: str,
    batch_size: int,
    quiet: bool,
) -> None:
    """Encodes the items and writes each batch in a transaction of its own."""
    if not quiet:
        size = 4 * target.dimensions * len(item_ids)
        weights = target.model.parameters.get("checkpoint", {}).get("bytes")
        and_weights = (
            f", {size_in_words(weights)} of weights on {workers.facts.device}" if weights else ""
        )
        say(f"embedding {len(item_ids):,} {kind}s: {size_in_words(size)} of vectors{and_weights}")
        encoder = _encoder_here(workers)
        if hasattr(encoder, "forecast"):
            say(encoder.forecast(len(item_ids), _bytes_of_texts(current.db, item_ids)))
    batches = encode_items(current.db, workers, item_ids, kind, batch_size)
    started = time.perf_counter()
    first = next(batches, [])
    _write(current, target, first)
    seconds = (time.perf_counter() - started) * (len(item_ids) / max(1, len(first)) - 1)
    if not quiet and seconds > _SECONDS_WORTH_SAYING:
        say(f"that takes about {duration_in_words(seconds)} here")
    with progress("embedding", len(item_ids), quiet=quiet) as bar:
        bar.advance(len(first))
        for batch in batches:
            _write(current, target, batch)
            bar.advance(len(batch))


def _bytes_of_texts(db: dbapi.Connection, item_ids: list[int]) -> int:
    """How long the items' texts are together, in UTF-8, their titles left out."""
    sql = (
        "select ifnull(sum(octet_length(content)), 0) from items"
        " where id in (select value from json_each(?))"
    )
    (length,) = db.execute(sql, (json.dumps(item_ids),)).fetchone()
    return int(length)


def _write(current: Run, target: Target, batch: list[Encoded]) -> None:
    with current.timed("write"), immediate(current.db):
        for item in batch:
            if item.problem is not None:
                current.item_error(item.stage, item.problem, item_id=item.item_id, uri=item.uri)
            elif item.truncated is not None:
                current.item_error(
                    TRUNCATED, item.truncated, item_id=item.item_id, uri=item.uri, count="truncated"
                )
        # Another process may have filled the same space meanwhile: what is there stays.
        current.counts["vectors"] += insert_vectors(
            current.db,
            target.space_id,
            current.id,
            [(item.item_id, item.vector) for item in batch if item.problem is None],
        )
