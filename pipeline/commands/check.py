"""`nearsql check FILE`: is what the file says sound?"""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple

import click

from nearsql.pipeline.check import COLUMNS, Finding, check_file
from nearsql.pipeline.console import say
from nearsql.pipeline.output import FORMATS, write_rows
from nearsql.udfs.connection import open_database


@click.command("check")
@click.argument("file", type=click.Path(dir_okay=False))
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
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table")
def command(file: str, vision: bool, sample: int, seed: int, format_: str) -> None:
    """Check FILE: its pages, its foreign keys, its vectors; with --vision also what detectors said.

    Nothing is written. Exit code 1 when anything is wrong.

    \b
      nearsql check photos.db
      nearsql check photos.db --vision --sample 32
    """
    with closing(open_database(file, read_only=True)) as db:
        findings = check_file(db)
        if vision:
            from nearsql.pipeline.detect.check import check_vision

            findings += check_vision(db, sample=sample, seed=seed)
    report(findings, format_)


def report(findings: Sequence[Finding], format_: str) -> None:
    """Prints what checks found, and ends the process with 1 when something is wrong."""
    write_rows(format_, COLUMNS, [astuple(finding) for finding in findings])
    wrong = [finding for finding in findings if finding.wrong]
    if wrong:
        say(f"{len(wrong)} of {len(findings)} checks found something wrong")
        sys.exit(1)
    say(f"all {len(findings)} checks are as they should be")
