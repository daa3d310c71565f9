"""The loss-distance run: how well each image's forward pass fits the predictions of the others.

    loss_distance(db, 3)                                      # all pairs of the images of detect run 3
    loss_distance(db, 3, pairs="landmarks", landmarks=100)    # every image against 100 of them

distance(target, image) is a component of the detector's loss on the image when the predictions that the
detect run stored for the target are taken as the truth. One forward pass an image, however many targets;
an image's distances are one short transaction, so that a killed run loses at most the image under way,
and the next one goes on where it stopped.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.engines import Engine, Workers
from nearsql.pipeline.engines.local import LocalEngine, LocalWorkers
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.pipeline.item_contents import CannotRead, read_items
from nearsql.pipeline.loss_distance.detect_run import DetectRun, checked_conf, read_detect_run
from nearsql.pipeline.loss_distance.pairs import Pairs, checked_choice
from nearsql.pipeline.loss_distance.rows import (
    COLUMNS,
    images_done,
    insert_rows,
    rows_sha256,
    stored_rows,
)
from nearsql.pipeline.loss_distance.work import (
    Held,
    Work,
    checked_components,
    held_items,
    load_recorded,
    prepare_work,
    run_inputs,
)
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.run_spaces import space_read_by
from nearsql.pipeline.runs import Run, immediate, run
from nearsql.udfs import dbapi

KIND = "loss-distance"
PACKAGES = ("torch", "ultralytics", "opencv-python", "pillow", "pycocotools")

# More rows than this, some 800 MB, are only written by who says --yes.
ROWS_WORTH_ASKING = 10_000_000

# What a row and its places in two indexes take in the file.
_BYTES_A_ROW = 80

# Shorter work needs no forecast.
_SECONDS_WORTH_SAYING = 5.0


@dataclass(frozen=True, slots=True)
class LossDistanceResult:
    """How a run went. is_new: False when an earlier run had done all of it, whose id this is.

    counts: images, targets, pairs, rows, undefined (rows without a distance), forward_images, errors.
    """

    run_id: int
    is_new: bool
    model: str
    components: Sequence[str]
    counts: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


def loss_distance(
    db: dbapi.Connection,
    detect_run: int,
    *,
    pairs: str = "all",
    components: Sequence[str] | None = None,
    space: str | None = None,
    k: int | None = None,
    landmarks: int | None = None,
    seed: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    conf: float | None = None,
    device: str = "auto",
    engine: Engine | None = None,
    yes: bool = False,
    quiet: bool = True,
) -> LossDistanceResult:
    """Stores the loss distances between images of a finished detect run.

    pairs: `all`; `candidates`, neighbours by k in a space, both ways; or `landmarks`, that many
    targets drawn with a seed, for every image. components: of the detector's loss; default, all it
    has. weights: where its checkpoint lies now; default, where it lay then. conf: from which confidence
    predictions are targets; default 0.25, or what the detect run stored if that is more. engine: where it
    is computed, which makes no difference to the rows; default, here. yes: also write very many rows.

    Where a run of the same parameters has finished, nothing is done; one that was interrupted goes
    on. An image that cannot be read becomes an `item_errors` row, and has no distances, though its
    predictions are a target to the others. Raises UserError for what cannot be done.
    """
    source = read_detect_run(db, detect_run)
    choice = checked_choice(pairs, space=space, k=k, landmarks=landmarks, seed=seed)
    conf = checked_conf(source, conf)
    engine = engine or LocalEngine()
    # Of work that is done elsewhere only the checkpoint is looked at here.
    chosen_device = devices.pick(device) if engine.is_here else "cpu"
    detector = load_recorded(source, weights or source.weights, chosen_device)
    work = prepare_work(
        db, source, detector, checked_components(detector, components), choice, conf
    )
    name, model_id = source.model, source.model_id
    done = _finished(db, model_id, work.parameters, choice.seed)
    if done is not None:
        return LossDistanceResult(done[0], False, name, work.components, done[1])
    n_rows = work.pairs.n_pairs * len(work.components)
    _refuse_too_many(work.pairs, n_rows, yes)
    if not quiet:
        say(
            f"{len(source.item_ids):,} images against {len(work.pairs.targets):,} targets,"
            f" {work.pairs.n_pairs:,} pairs: {n_rows:,} rows, about"
            f" {size_in_words(n_rows * _BYTES_A_ROW)} in the file"
        )
    task = work.task(device, engine.is_here)
    with (
        engine.workers(task) as workers,
        run(
            db,
            KIND,
            parameters=work.parameters,
            seed=choice.seed,
            model_id=model_id,
            inputs=run_inputs(db, work, choice),
            packages=PACKAGES,
            device=workers.facts.device,
            resume=True,
        ) as current,
    ):
        with images.quiet_decoders():
            _fill(current, work, workers, quiet)
        _count(current, work.pairs)
        with current.timed("hash"):
            current.result_sha256 = rows_sha256(stored_rows(db, current.id))
        workers.record(current)
    return LossDistanceResult(
        current.id, True, name, work.components, current.counts, current.timings
    )


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """The distances of the images that the recorded run wrote, computed again."""
    then = recorded.parameters
    try:
        source = read_detect_run(db, then["run"])
        # On the same kind of device: another one gives other last bits.
        device = devices.pick(recorded.device_kind)
        detector = load_recorded(source, _weights_of(db, recorded, source), device)
        choice = checked_choice(
            then["pairs"],
            # It may be called otherwise by now.
            space=space_read_by(db, recorded) if "space" in then else None,
            k=then.get("k"),
            landmarks=then.get("landmarks"),
            seed=recorded.seed,
        )
        work = prepare_work(db, source, detector, tuple(then["components"]), choice, then["conf"])
    except UserError as error:
        raise CannotReplay(f"run {recorded.id}: {error}") from error
    for key, what in (
        ("predictions_sha256", "predictions"),
        ("pairs_sha256", "pairs"),
        ("imgsz", "image size and predictions"),
        ("checkpoint_sha256", "weights"),
    ):
        if work.parameters[key] != then[key]:
            raise CannotReplay(f"the {what} that run {recorded.id} was made with have changed")
    workers = LocalWorkers(work.task(device, is_here=True).load())

    def again() -> Iterator[tuple[Any, ...]]:
        with images.quiet_decoders():
            for one in held_items(workers, db, work, images_done(db, recorded.id)):
                if one.problem:
                    raise CannotReplay(f"item {one.item_id} ({one.uri}): {one.problem}")
                for row in one.rows:
                    yield one.item_id, *row

    stored = ((item, *row) for item, rows in stored_rows(db, recorded.id) for row in rows)
    table = ResultTable("loss_distances", COLUMNS, 3, stored, again())
    return Again([table], device=devices.describe(device))


def _weights_of(db: dbapi.Connection, recorded: RecordedRun, source: DetectRun) -> str:
    """Where the recorded run's checkpoint lay."""
    row = db.execute(
        "select name from run_inputs where run_id = ? and kind = 'file'", (recorded.id,)
    ).fetchone()
    return str(row[0]) if row else source.weights


def _refuse_too_many(pairs: Pairs, n_rows: int, yes: bool) -> None:
    if n_rows > ROWS_WORTH_ASKING and not yes:
        raise UserError(
            f"{pairs.n_pairs:,} pairs are {n_rows:,} rows, about"
            f" {size_in_words(n_rows * _BYTES_A_ROW)} in the file: choose fewer with --pairs"
            " landmarks or --pairs candidates, or say --yes"
        )


def _finished(
    db: dbapi.Connection, model_id: int, parameters: dict[str, Any], seed: int | None
) -> tuple[int, dict[str, int | float]] | None:
    """The id and counts of a finished run with these parameters that cannot be bettered, or None."""
    row = db.execute(
        "select id, counts_json from runs where kind = ? and status = 'finished' and model_id = ?"
        " and parameters_json = ? and seed is ? order by id desc limit 1",
        (KIND, model_id, json.dumps(parameters, sort_keys=True), seed),
    ).fetchone()
    if row is None or _is_readable_now(db, row[0]):
        return None
    return row[0], json.loads(row[1])


def _is_readable_now(db: dbapi.Connection, run_id: int) -> bool:
    """Whether an image whose file the run could not read can be read by now."""
    unread = [
        item_id
        for (item_id,) in db.execute(
            "select item_id from item_errors where run_id = ? and stage = 'read'"
            " and item_id is not null order by item_id",
            (run_id,),
        )
    ]
    for item in read_items(db, unread, "image"):
        with suppress(CannotRead):
            item.read()
            return True
    return False


def _fill(current: Run, work: Work, workers: Workers, quiet: bool) -> None:
    """Writes the distances of the images that have none yet, each in a transaction of its own."""
    db, source = current.db, work.source
    done = set(images_done(db, current.id))
    to_do = [i for i in source.item_ids if i not in done and len(work.targets_of(i))]
    if current.is_resumed:
        _forget_errors(current)
        if not quiet:
            say(f"going on with run {current.id}: {len(done):,} images are done")
    before = dict(current.timings)
    started, is_said = time.perf_counter(), quiet
    try:
        with progress("images", len(to_do), quiet=quiet) as bar:
            for n_done, one in enumerate(held_items(workers, db, work, to_do), 1):
                _write(current, one)
                bar.advance()
                seconds = (time.perf_counter() - started) / n_done * (len(to_do) - n_done)
                if not is_said and seconds > _SECONDS_WORTH_SAYING:
                    say(f"that takes about {duration_in_words(seconds)} here")
                is_said = True
    finally:
        for step, milliseconds in workers.timings.items():
            current.timings[step] = round(before.get(step, 0.0) + milliseconds, 3)


def _write(current: Run, one: Held) -> None:
    """One image, in one transaction."""
    if not one.problem:
        current.counts["forward_images"] = current.counts.get("forward_images", 0) + 1
    with current.timed("write"), immediate(current.db):
        if one.problem:
            current.item_error(one.stage, one.problem, item_id=one.item_id, uri=one.uri)
        insert_rows(current.db, current.id, one.item_id, one.rows)
        # With each image, so that a killed run's counts are those of what it wrote.
        current.db.execute(
            "update runs set counts_json = ? where id = ?",
            (json.dumps(current.counts), current.id),
        )


def _forget_errors(current: Run) -> None:
    """What could not be read before is tried again."""
    with immediate(current.db):
        current.db.execute("delete from item_errors where run_id = ?", (current.id,))
    current.counts.pop("errors", None)


def _count(current: Run, pairs: Pairs) -> None:
    """The run's counts, asked of the file, so that they hold for all its processes together."""
    rows, undefined = current.db.execute(
        "select count(*), count(*) filter (where distance is null) from loss_distances"
        " where run_id = ?",
        (current.id,),
    ).fetchone()
    current.counts |= {
        "images": len(images_done(current.db, current.id)),
        "targets": len(pairs.targets),
        "pairs": pairs.n_pairs,
        "rows": rows,
        "undefined": undefined,
    }
