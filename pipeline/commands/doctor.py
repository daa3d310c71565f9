"""`nearsql doctor`: what is installed, what is missing, and what falls back."""

import sys
from dataclasses import astuple

import click

from nearsql.pipeline.console import say
from nearsql.pipeline.output import FORMATS, write_rows


@click.command("doctor")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table")
def command(format_: str) -> None:
    """Say what is installed, what is missing and what that means, and whether what is there works.

    Each library is imported, which takes half a minute with all extras. An extra that is not installed is no
    fault. Exit code 1 when something that is installed does not work.

    \b
      nearsql doctor
      nearsql doctor --format json | jq '.[] | select(.is != "ok")'
    """
    from nearsql.pipeline.doctor import COLUMNS, examine

    say("importing every library that is installed, which takes up to a minute")
    facts = list(examine())
    write_rows(format_, COLUMNS, [astuple(fact) for fact in facts])
    broken = [fact.what for fact in facts if fact.state == "broken"]
    if broken:
        say(f"broken: {', '.join(broken)}")
        sys.exit(1)
    missing = sorted({fact.extra for fact in facts if fact.state == "missing" and fact.extra})
    say(
        "all that is installed works"
        + (f"; extras not installed: {', '.join(missing)}" if missing else "")
    )
