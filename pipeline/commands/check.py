"""`nearsql check FILE`: is what the file says sound?"""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple

import click

from nearsql.pipeline.check import COLUMNS, Finding, check_file
from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.output import FORMATS, write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database


@click.command("check")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--images", is_flag=True, help="Read and decode every image, too.")
@click.option(
    "--vision",
    is_flag=True,
    help="Recompute a sample of each detect run from the images, and compare.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="--vision: images of each run.",
)
@click.option("--seed", default=0, show_default=True, help="--vision: which images are drawn.")
@click.option(
    "--repair", is_flag=True, help="Mend first what is derived: indexes, keys that lead nowhere."
)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table")
def command(
    file: str, images: bool, vision: bool, sample: int, seed: int, repair: bool, format_: str
) -> None:
    """Check FILE: its pages, schema and keys, its vectors and indexes, and what runs made of them.

    Recall is measured anew, stored neighbours are searched for again, clusters counted, folds compared.
    With --images also the images, with --vision what detectors said of them. Nothing is written, unless
    --repair is given: then what is derived and wrong is made again or removed, and never your data. Exit
    code 1 when anything is wrong.

    \b
      nearsql check photos.db
      nearsql check photos.db --repair
      nearsql check photos.db --images --vision --sample 32 --format json | jq '.[] | select(.wrong > 0)'
    """
    if repair:
        _repair(file)
    with closing(open_database(file, read_only=True)) as db:
        findings = [*check_file(db), *_checked_indexes(db)]
        if images:
            from nearsql.pipeline.check.sources import check_images

            findings.append(check_images(db, quiet=False))
        if vision:
            from nearsql.pipeline.detect.check import check_vision

            findings += check_vision(db, sample=sample, seed=seed)
    report(findings, format_)


def _repair(file: str) -> None:
    from nearsql.pipeline.check.repair import repair

    with closing(open_database(file)) as db:
        done = repair(db)
    for words in done or ["nothing to repair"]:
        say(words)


def _checked_indexes(db: dbapi.Connection) -> list[Finding]:
    from nearsql.pipeline.index.check import check_indexes
    from nearsql.pipeline.index.text import check_text_index

    found = check_indexes(db)
    try:
        return [*found, *check_text_index(db)]
    except UserError:  # there is none
        return found


def report(findings: Sequence[Finding], format_: str) -> None:
    """Prints what checks found, and ends the process with 1 when something is wrong."""
    write_rows(format_, COLUMNS, [astuple(finding) for finding in findings])
    wrong = [finding for finding in findings if finding.wrong]
    if wrong:
        say(f"{len(wrong)} of {len(findings)} checks found something wrong")
        sys.exit(1)
    say(f"all {len(findings)} checks are as they should be")
