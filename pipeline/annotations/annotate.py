"""Ground truth into a collection that has its images: from YOLO label files or a COCO file."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nearsql.pipeline.annotations.again import Brought, truth_again
from nearsql.pipeline.annotations.coco import open_coco
from nearsql.pipeline.annotations.files import sha256_of
from nearsql.pipeline.annotations.objects import ImageTruth, LabelSource, truth_sha256
from nearsql.pipeline.annotations.writer import Item, TruthWriter, rows_of
from nearsql.pipeline.annotations.yolo import open_yolo
from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.ingest.folders import resolved_folder, uri_of
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.runs import RunInput, immediate, run
from nearsql.udfs import dbapi

Format = Literal["yolo", "coco"]
FORMATS: tuple[Format, ...] = ("yolo", "coco")

_PACKAGES = ("pycocotools", "pyyaml")


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """How it went: the run, and how many items or objects went which way.

    counts: items (of the collection, in the folder) = annotated + incomplete + unlabelled. annotated =
    new + changed + unchanged; of them background have no label file, and empty have one without
    objects. objects were written; clipped ones reached over the border, duplicates were left out.
    """

    run_id: int
    counts: dict[str, int | float]


@dataclass(frozen=True, slots=True)
class Labels:
    """Opened labels, and what they were opened by: `close` them, or hand them to `annotate_with`."""

    source: LabelSource
    root: Path
    inputs: tuple[RunInput, ...]
    parameters: dict[str, Any]

    def close(self) -> None:
        """Closes the files."""
        self.source.close()


def annotate(
    db: dbapi.Connection,
    collection: str,
    format: Format,
    folder: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    split: str | None = None,
    quiet: bool = True,
) -> AnnotateResult:
    """Gives those images of a collection that lie in a folder the ground truth that labels say.

    format: yolo (a text file an image) or coco (one JSON file). labels: the folder of label files, or
    the COCO file; by default looked for in the folder. classes: for yolo, the dataset's YAML file or a
    list of names. split: the split of all these images, instead of what the labels or folders say.

    What is wrong in a label becomes an `item_errors` row (stage `annotation`), and its image counts as
    not annotated, since part of its truth is missing. The files are only read, and nothing outside the
    folder and the paths given. Doing it again writes only what has changed. Raises UserError when there
    are no labels, or none of the images of the collection.
    """
    opened = open_labels(format, folder, labels=labels, classes=classes, split=split, quiet=quiet)
    with closing(opened):
        return annotate_with(db, collection, opened, quiet=quiet)


def open_labels(
    format: Format,
    folder: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | None = None,
    split: str | None = None,
    quiet: bool = True,
) -> Labels:
    """The labels, found and as far as possible checked, before anything is written. As `annotate`."""
    root = resolved_folder(folder)
    source: LabelSource
    inputs = []
    if format == "yolo":
        source = open_yolo(root, _path(labels), _path(classes), split)
        dataset = source.dataset
        inputs.append(RunInput("file", uri_of(source.labels_root), rows=source.n_files))
        if dataset is not None:
            inputs.append(RunInput("file", uri_of(dataset.path), sha256=sha256_of(dataset.path)))
    elif format == "coco":
        if classes is not None:
            raise UserError("--classes is for yolo: a COCO file brings its own names")
        source = open_coco(root, _path(labels), split, quiet=quiet)
        inputs.append(RunInput("file", uri_of(source.path), sha256=sha256_of(source.path)))
    else:
        raise UserError(f"labels are read as {' or '.join(FORMATS)}, not {format!r}")
    parameters = {
        "source": str(root),
        "format": format,
        "labels": None if labels is None else str(_path(labels)),
        "classes": None if classes is None else str(_path(classes)),
        "split": split or None,
    }
    return Labels(source, root, tuple(inputs), parameters)


def annotate_with(
    db: dbapi.Connection, collection: str, labels: Labels, *, quiet: bool = True
) -> AnnotateResult:
    """`annotate` with labels that are open."""
    source = labels.source
    items = _items(db, collection, labels.root)
    source.match([place for item in items for place in item.places])
    _refuse_other_numbers(db, collection, source)
    parameters = {"collection": collection, **labels.parameters}
    inputs = (RunInput("collection", collection, rows=len(items)), *labels.inputs)
    with run(db, "annotate", parameters=parameters, inputs=inputs, packages=_PACKAGES) as current:
        current.counts["items"] = len(items)
        writer = TruthWriter(current, source.format)
        n_classes = _write_classes(db, collection, source)
        with progress("reading the labels", len(items), quiet=quiet) as bar:
            # One after the other: parsing holds the GIL, and threads that read ahead only wait for it.
            for item in items:
                with current.timed("read"):
                    truth = _truth(source, item)
                writer.add(item, truth, source.split(item.places[0]))
                current.counts["unlabelled"] = current.counts.get("unlabelled", 0) + (truth is None)
                bar.advance()
        writer.finish()
        with immediate(db):
            for uri, problem in source.general_problems():
                current.item_error("annotation", problem, uri=uri)
        current.counts["classes"] = n_classes
        current.counts.update(source.counts())
    return AnnotateResult(current.id, current.counts)


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """What the recorded run would bring now: reads the labels of its items again; for `nearsql replay`.

    Raises CannotReplay when the labels are gone, or when a later run has replaced what it brought.
    """
    parameters = recorded.parameters
    brought = _brought(db, recorded)
    try:
        labels = open_labels(
            parameters["format"],
            parameters["source"],
            labels=parameters["labels"],
            classes=parameters["classes"],
            split=parameters["split"],
        )
        with closing(labels):
            items = _items(db, parameters["collection"], labels.root)
            labels.source.match([place for item in items for place in item.places])
            again = [item for item in items if item.id in brought]
            found = list(_brought_again(recorded, labels.source, again, brought))
            splits = [(item.id, labels.source.split(item.places[0])) for item in again]
    except UserError as error:
        raise CannotReplay(f"the labels of run {recorded.id} are gone: {error}") from error
    return truth_again(db, recorded.id, found, splits)


def _brought(db: dbapi.Connection, recorded: RecordedRun) -> dict[int, bool]:
    """The items whose truth is from this run, and whether it has objects."""
    rows = db.execute(
        "select item_id, max(has_objects) from ("
        "select item_id, 0 as has_objects from annotated_items where run_id = ?1"
        " union all select item_id, 1 from annotations where run_id = ?1) group by item_id",
        (recorded.id,),
    )
    brought = {item_id: bool(has_objects) for item_id, has_objects in rows}
    (then,) = db.execute(
        "select coalesce(sum(value), 0) from json_each((select counts_json from runs where id = ?))"
        " where key in ('new', 'changed', 'partial')",
        (recorded.id,),
    ).fetchone()
    if len(brought) != then:
        raise CannotReplay(
            f"of the {then:,} items whose ground truth run {recorded.id} brought, it is still that of"
            f" {len(brought):,}: later runs have replaced it, or items were deleted"
        )
    return brought


def _brought_again(
    recorded: RecordedRun, source: LabelSource, items: Sequence[Item], brought: dict[int, bool]
) -> Iterator[Brought]:
    if len(items) != len(brought):
        raise CannotReplay(
            f"{len(brought) - len(items):,} of the images of run {recorded.id} were moved elsewhere"
        )
    for item in items:
        truth = _truth(source, item)
        if truth is None or (truth.is_background and brought[item.id]):
            raise CannotReplay(
                f"the labels of {item.places[0]}, that run {recorded.id} read, are gone"
            )
        yield Brought(item, truth, rows_of(item, truth))


def _items(db: dbapi.Connection, collection: str, root: Path) -> list[Item]:
    """The collection's images that lie in the folder, in their order."""
    start = str(root) if str(root).endswith(os.sep) else str(root) + os.sep
    also_at = defaultdict(list)
    for item_id, uri in db.execute(
        "select e.item_id, e.uri from item_errors e join items i on i.id = e.item_id"
        " where e.stage = 'duplicate' and i.collection = ? order by e.id",
        (collection,),
    ):
        if os.path.lexists(uri):
            also_at[item_id].append(uri)
    items = []
    for item_id, sha256, uri, width, height in db.execute(
        "select id, sha256, uri, width, height from items"
        " where collection = ? and kind = 'image' and uri is not null order by sequence_number, id",
        (collection,),
    ):
        uris = dict.fromkeys([uri, *also_at[item_id]] if item_id in also_at else [uri])
        places = tuple(u[len(start) :].replace(os.sep, "/") for u in uris if u.startswith(start))
        if places:
            items.append(Item(item_id, sha256, width, height, places))
    if not items:
        raise UserError(
            f"the collection {collection!r} has no images from {root}: ingest them first"
        )
    return items


def _truth(source: LabelSource, item: Item) -> ImageTruth | None:
    """What the labels say of an item, wherever it lies: at each of its places it must be the same."""
    found = []
    for place in item.places:
        truth = source.truth(place, item.width, item.height)
        if truth is not None:
            found.append((place, truth))
    if not found:
        return None
    first_place, first = found[0]
    for place, other in found[1:]:
        if truth_sha256(other.objects) != truth_sha256(first.objects):
            first.problems.append(
                f"the same image lies at {first_place} and at {place}, and their labels differ"
            )
    return first


def _refuse_other_numbers(db: dbapi.Connection, collection: str, source: LabelSource) -> None:
    """Raises UserError when other labels of the collection count its classes in another way.

    COCO's own numbers go to 90, and its 80 classes have others in YOLO files: side by side, the same
    number would mean two things.
    """
    for class_id, name in db.execute(
        "select class_id, name from classes where collection = ? order by class_id", (collection,)
    ).fetchall():
        here = source.classes.get(class_id)
        if here is None or here.name == name:
            continue
        others = db.execute(
            "select a.source from annotations a join items i on i.id = a.item_id"
            " where i.collection = ? and a.source <> ? limit 1",
            (collection, source.format),
        ).fetchone()
        if others is not None:
            raise UserError(
                f"class {class_id} of the collection {collection!r} is {name!r} in its {others[0]}"
                f" labels, and {here.name!r} in these: give another --collection"
            )


def _write_classes(db: dbapi.Connection, collection: str, source: LabelSource) -> int:
    """Writes what the class numbers mean; gives how many of them have names."""
    rows = [(collection, n, c.name, c.supercategory) for n, c in sorted(source.classes.items())]
    with immediate(db):
        db.executemany(
            "insert into classes (collection, class_id, name, supercategory) values (?, ?, ?, ?)"
            " on conflict do update set name = excluded.name, supercategory = excluded.supercategory"
            " where (name, supercategory) is not (excluded.name, excluded.supercategory)",
            rows,
        )
    return len(rows)


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    """The path, all links followed."""
    return None if path is None else Path(path).resolve()
