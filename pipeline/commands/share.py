"""`nearsql share`: one page of HTML with a map, to be sent to somebody."""

import re
from contextlib import closing
from pathlib import Path

import click

from nearsql.pipeline.console import UserError, say, summary
from nearsql.udfs.connection import open_database

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class _Bytes(click.ParamType):
    name = "bytes"

    def convert(self, value: object, param: object, ctx: object) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", str(value).strip().lower())
        if not found:
            raise UserError(f"--max-bytes must be a number of bytes, such as 20MB, not {value!r}")
        return int(float(found[1]) * _UNITS[found[2] or ""])


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="SITE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.",
)
@click.option(
    "--map", "run", type=click.IntRange(1), metavar="RUN", help="Default: the newest map."
)
@click.option("--title", metavar="TEXT", help="Default: the file's name and the space.")
@click.option(
    "--max-bytes",
    default=32 * 10**6,
    show_default="32MB",
    type=_Bytes(),
    metavar="N",
    help="How large the page may get: thumbnails are added while they fit.",
)
@click.option("--replace", is_flag=True, help="Write over a page that is there already.")
def command(
    file: Path, to: Path, run: int | None, title: str | None, max_bytes: int, replace: bool
) -> None:
    """Write a map of FILE as one page of HTML that anybody can open, from a folder or a web server.

    The page holds everything it shows: the points, the names of clusters and labels, how texts begin, and
    as many thumbnails as fit. It asks nobody for anything, and changes nothing. It does not hold the
    images themselves, where they came from, or the vectors.

    \b
      nearsql share photos.db --to photos.html
      nearsql share photos.db --to photos.html --map 12 --max-bytes 5MB --title "Our photos"
    """
    from nearsql.pipeline.share.make import share

    open_database(file, read_only=True).close()  # says what is wrong with a file that is not ours
    if to.exists() and not replace:
        raise UserError(f"{to} is there already: --replace writes over it")
    if not to.parent.is_dir():
        raise UserError(f"there is no folder {to.parent} to write {to.name} into")
    with closing(open_database(file, read_only=True)) as db:
        shared = share(db, file, to, run=run, title=title, most_bytes=max_bytes)
    facts = {
        "map": f"run {shared.run}",
        "points": _of(shared.points, shared.all_points),
        "thumbnails": _of(shared.thumbnails, shared.images),
        "texts": shared.texts,
        "bytes": shared.bytes,
    }
    if shared.unreadable:
        facts["images that cannot be read"] = shared.unreadable
    if shared.left_out:
        facts["left out"] = ", ".join(shared.left_out)
    summary(f"{to}", facts)
    if shared.thumbnails + shared.unreadable < shared.images or shared.left_out:
        say("  more fits with a larger --max-bytes")


def _of(shown: int, n: int) -> str:
    return f"{shown:,}" if shown == n else f"{shown:,} of {n:,}"
