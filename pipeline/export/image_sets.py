"""Exports of images: COCO and YOLO data sets, with ground truth or predictions; and folders of links."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import drawn, rows
from nearsql.pipeline.export.categories import Found, categories
from nearsql.pipeline.export.coco_files import CocoWriter
from nearsql.pipeline.export.file_names import Named, file_names
from nearsql.pipeline.export.files import ImageBatch, Source, WrittenFile, written
from nearsql.pipeline.export.folder import LISTING
from nearsql.pipeline.export.item_files import ItemFiles, named
from nearsql.pipeline.export.rows import Item
from nearsql.pipeline.export.yolo_files import SPLITS, YoloWriter

FORMATS = ("coco", "yolo", "yolo-seg", "links")

# The folder of an image whose split is none of those that YOLO knows.
_NO_SPLIT = "unsplit"
_SPLIT = re.compile(r"(?P<train>train|training)\d*|(?P<test>test|test-dev)\d*")
_VAL = re.compile(r"(val|valid|validation|minival|dev)\d*")


@dataclass(frozen=True, slots=True)
class Written:
    """What an export of images left: its files (those in folders stand in the listing), items, and counts.

    problems: a sentence for each item whose file could not be had.
    """

    files: list[WrittenFile]
    items: int
    counts: dict[str, int]
    problems: list[str]


def write_links(folder: Path, source: Source, images: str) -> Written:
    """items/: a link or a file for each item, texts among them. images: `link` or `copy`."""
    names = file_names([one for batch in _unseen(source) for one in named(source, batch)])
    n = 0
    with ItemFiles(folder, source, images) as files:
        for batch in source.batches():
            for kind in ("image", "text"):
                places = {item.id: f"items/{names[item.id]}" for item in batch if item.kind == kind}
                n += len(files.add(kind, places))
    _refuse_none(files)
    return Written([_listing(folder, files)], n, files.counts(), files.problems)


def write_image_set(
    folder: Path, source: Source, format_: str, *, predicted_by: int | None, images: str
) -> Written:
    """images/ and, as `coco`, instances.json and predictions.json; as `yolo`, data.yaml and labels/.

    The images are those whose ground truth is known; with predicted_by, those that this run looked at.
    images: `link` or `copy` them into images/, which leaves out those that cannot be had; or `none`.
    """
    if predicted_by is not None:
        drawn.require_detector_run(source.db, predicted_by)
    found, names, splits, left_out = _look(source, predicted_by)
    if not names:
        raise UserError(_nothing(source, predicted_by))
    is_yolo = format_ != "coco"
    known = categories(source.db, found, from_zero=is_yolo)
    if is_yolo and not known.numbers:
        raise UserError("no class is known of these images, and YOLO needs the names of some")
    has_splits = is_yolo and bool(splits & set(SPLITS))
    n_items, folders = 0, set()
    with ExitStack() as stack:
        files = stack.enter_context(ItemFiles(folder, source, images))
        writer: CocoWriter | YoloWriter
        if is_yolo:
            writer = YoloWriter(source, files, known, predicted_by, format_ == "yolo-seg")
        else:
            writer = stack.enter_context(CocoWriter(source, folder, known, predicted_by))
        for batch in source.batches():
            items = _going_out(source, batch, predicted_by)
            places = {
                item.id: f"images/{f'{_split(item)}/' if has_splits else ''}{names[item.id]}"
                for item in items
            }
            there = files.add("image", places)
            items = [item for item in items if item.id in there]
            if not items:
                continue
            made = ImageBatch(items, {item.id: places[item.id] for item in items})
            folders |= {str(PurePosixPath(place).parent) for place in made.places.values()}
            n_items += len(items)
            writer.add(made)
        _refuse_none(files)
        data = writer.finish(folders, n_items)
    counts = {"classes": len(known.numbers), **writer.counts}
    counts |= files.counts() | {name: n for name, n in left_out.items() if n}
    if known.is_renumbered:
        counts["classes with new numbers"] = len(known.numbers)
    return Written([*data, _listing(folder, files)], n_items, counts, files.problems)


def _look(
    source: Source, predicted_by: int | None
) -> tuple[Found, dict[int, str], set[str], Counter[str]]:
    """The classes and splits of the images that go out, their file names, and what stays behind."""
    found, splits, left_out = Found(), set(), Counter[str]()
    to_name: list[Named] = []
    for batch in _unseen(source):
        items = _going_out(source, batch, predicted_by)
        n_images = sum(item.kind == "image" for item in batch)
        left_out["texts left out"] += len(batch) - n_images
        why = (
            "without ground truth, left out" if predicted_by is None else "not looked at, left out"
        )
        left_out[why] += n_images - len(items)
        if items:
            found.add(source.db, items, predicted_by)
            splits |= {_split(item) for item in items}
            to_name += named(source, items)
    return found, file_names(to_name), splits, left_out


def _going_out(source: Source, batch: Sequence[Item], predicted_by: int | None) -> list[Item]:
    ids = [item.id for item in batch if item.kind == "image"]
    known = (
        drawn.annotated(source.db, ids)
        if predicted_by is None
        else drawn.looked_at(source.db, predicted_by, ids)
    )
    return [item for item in batch if item.id in known]


def _unseen(source: Source) -> Iterable[list[Item]]:
    """The batches, before the progress bar counts them."""
    return rows.batches(source.db, source.chosen)


def _split(item: Item) -> str:
    """train, val or test, as the item's label `split` says in whatever words."""
    word = item.labels.get("split", "").lower()
    if _VAL.fullmatch(word):
        return "val"
    match = _SPLIT.fullmatch(word)
    return _NO_SPLIT if match is None else str(match.lastgroup)


def _nothing(source: Source, predicted_by: int | None) -> str:
    if predicted_by is None:
        return (
            f"none of the {source.n_items:,} items is an image whose ground truth is known: bring it by"
            " `nearsql ingest --annotations`, or export what a detector run saw with --predictions RUN"
        )
    return f"none of the {source.n_items:,} items is an image that run {predicted_by} looked at"


def _refuse_none(files: ItemFiles) -> None:
    if files.problems and not files.n_links and not files.n_written:
        raise UserError(
            f"no item's file could be had, and nothing was written: {files.problems[0]}"
        )


def _listing(folder: Path, files: ItemFiles) -> WrittenFile:
    return written(folder / LISTING, files.n_files)
