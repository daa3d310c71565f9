"""The folder of an export: it appears whole or not at all, and never in place of anything else."""

import csv
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from nearsql.pipeline.console import UserError

# Says what the other files of an export are. Written last.
INDEX = "index.json"
FORMAT = "nearsql export"
# Lists the files in the folders of an export, by their places in the first column.
LISTING = "files.csv"


@contextmanager
def new_folder(to: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside `to`, to be filled; it takes the place of `to` when the block ends well.

    After an exception, Ctrl-C included, it is gone, and `to` is as it was. Raises UserError when `to` is a
    file, or has something in it; with overwrite, only when that is anything but an earlier export.
    """
    place = Path(os.path.realpath(to))
    _refuse(place, to, overwrite)
    place.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    made = place.with_name(f".{place.name}.partial-{mark}")
    made.mkdir()
    try:
        yield made
        _refuse(place, to, overwrite)  # something may have come in the meantime
        _put(made, place, place.with_name(f".{place.name}.replaced-{mark}"))
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_index(folder: Path, contents: dict[str, Any]) -> None:
    """Writes the index; what is in it besides the format belongs to the writer."""
    text = json.dumps({"format": FORMAT, "version": 1, **contents}, ensure_ascii=False, indent=1)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def _put(made: Path, place: Path, aside: Path) -> None:
    """Moves `made` to `place`; an earlier export goes aside first, and comes back if that fails."""
    if not place.exists():
        made.rename(place)
        return
    place.rename(aside)
    try:
        made.rename(place)
    except BaseException:
        aside.rename(place)
        raise
    shutil.rmtree(aside)


def _refuse(place: Path, name: Path, overwrite: bool) -> None:
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{name} is a file: name a folder that does not exist yet")
    if not any(place.iterdir()):
        return
    if not overwrite:
        raise UserError(
            f"{name} is not empty: name another folder, or replace an earlier export with --overwrite"
        )
    # The whole folder goes: nothing may be in it but what an export put there.
    strange = next(_strangers(place, _files_of_export(place)), None)
    if strange is not None:
        raise UserError(
            f"{name} holds {strange!r}, which no export put there, and --overwrite would remove it:"
            " name another folder, or take that file away"
        )


def _strangers(place: Path, files: set[str]) -> Iterator[str]:
    """What is in the folder and neither one of these files nor a folder that one of them is in."""
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    for at, folders_there, files_there in os.walk(place):
        for entry in sorted(folders_there + files_there):
            path = Path(at, entry)
            is_folder = entry in folders_there and not path.is_symlink()
            found = path.relative_to(place).as_posix()
            if found not in (folders if is_folder else files):
                yield found


def _files_of_export(place: Path) -> set[str]:
    """The files that an earlier export says it wrote; none for a folder that is not one."""
    try:
        index = json.loads((place / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            return set()
        files = {INDEX, *(str(file["name"]) for file in index["files"])}
        if LISTING in files:
            with (place / LISTING).open(encoding="utf-8", newline="") as listing:
                files.update(row[0] for row in csv.reader(listing) if row)
        return files
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error):
        return set()
