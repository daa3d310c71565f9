"""The `nearsql` command. Each subcommand's module is imported only when it is called."""

import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from nearsql import __version__

# name -> (module, the line `nearsql --help` shows). The function in the module is `command`.
COMMANDS = {
    "demo": (
        "nearsql.pipeline.commands.demo",
        "Build a database from real images, offline, and look around.",
    ),
    "ingest": ("nearsql.pipeline.commands.ingest", "Bring images or texts into a collection."),
    "import": (
        "nearsql.pipeline.commands.import_",
        "Bring in vectors, maps and predictions of other programs.",
    ),
    "embed": ("nearsql.pipeline.commands.embed", "Give every item a vector in a space."),
    "detect": (
        "nearsql.pipeline.commands.detect",
        "Run a YOLO detector: predictions, losses, metrics, features.",
    ),
    "loss-distance": (
        "nearsql.pipeline.commands.loss_distance",
        "How well each image fits what the detector saw in the others.",
    ),
    "failures": (
        "nearsql.pipeline.commands.failures",
        "Say where a detector fails, and store it as findings.",
    ),
    "neighbors": (
        "nearsql.pipeline.commands.neighbors",
        "Store the nearest neighbours of every item.",
    ),
    "index": (
        "nearsql.pipeline.commands.index",
        "Build, list, check and drop indexes that knn searches.",
    ),
    "cluster": (
        "nearsql.pipeline.commands.cluster",
        "Find the groups of each space, noise included.",
    ),
    "label": ("nearsql.pipeline.commands.label", "Name the clusters of a run."),
    "assign": (
        "nearsql.pipeline.commands.assign",
        "Give items that a clustering did not see to its clusters.",
    ),
    "diff": ("nearsql.pipeline.commands.diff", "Say what changed between two clusterings."),
    "evaluate": (
        "nearsql.pipeline.commands.evaluate",
        "Say how well neighbours predict a label or a number.",
    ),
    "find": (
        "nearsql.pipeline.commands.find",
        "Find duplicates, outliers, wrong labels and leaks.",
    ),
    "project": ("nearsql.pipeline.commands.project", "Lay a space out as a map."),
    "select": ("nearsql.pipeline.commands.select", "Give a set of items a name, to be used by it."),
    "export": (
        "nearsql.pipeline.commands.export",
        "Write items, maps, clusters; images as COCO, YOLO or links.",
    ),
    "plot": (
        "nearsql.pipeline.commands.plot",
        "Draw maps, sweeps, evaluations and losses as PNG or SVG.",
    ),
    "sql": (
        "nearsql.pipeline.commands.sql",
        "Run SQL with all nearsql functions, or open a shell.",
    ),
    "serve": ("nearsql.pipeline.commands.serve", "Open the pages in a browser."),
    "share": (
        "nearsql.pipeline.commands.share",
        "Write a map as one page of HTML, to be sent to somebody.",
    ),
    "track": (
        "nearsql.pipeline.commands.track",
        "Tell MLflow or Weights & Biases of runs that are stored.",
    ),
    "runs": ("nearsql.pipeline.commands.runs", "List the runs that made what is in the file."),
    "replay": ("nearsql.pipeline.commands.replay", "Compute a run again and compare."),
    "check": (
        "nearsql.pipeline.commands.check",
        "Check that a file is sound, and repair what is derived.",
    ),
    "doctor": ("nearsql.pipeline.commands.doctor", "Say what is installed, missing or broken."),
    "migrate": ("nearsql.pipeline.commands.migrate", "Give a file the tables of this version."),
    "functions": ("nearsql.pipeline.commands.functions", "List the SQL functions."),
    "completion": ("nearsql.pipeline.commands.completion", "Let a shell complete this command."),
}
# With this in the environment a shell asks what may come next.
_COMPLETING = "_NEARSQL_COMPLETE"


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed, so that --help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        if _COMPLETING in os.environ:
            from nearsql.pipeline.completions import attach

            attach(name, command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _quiet_pipes():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            # 130 is what a shell expects of a program that Ctrl-C ended.
            click.echo(
                "nearsql: stopped; what was written is kept, and the same command goes on", err=True
            )
            sys.exit(130)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _quiet_pipes():  # --help is written here
            return super().make_context(*args, **options)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nearsql")
def cli() -> None:
    """Images, texts, embeddings, neighbours and clusters in one SQLite file."""


def main(args: list[str] | None = None) -> Any:
    """The console script: errors that a user can act on become one line on standard error."""
    from nearsql.pipeline.console import is_for_the_user, sentence
    from nearsql.pipeline.devices import share_cores

    share_cores()
    _open_what_was_closed()
    _speak_utf8()
    if _COMPLETING in os.environ:
        from nearsql.pipeline.completions import prepare

        prepare()
    try:
        try:
            return cli.main(args=args, prog_name="nearsql")
        finally:
            # Python would do so when it ends, and could only complain.
            _flush()
    except Exception as error:
        if not is_for_the_user(error):
            raise
        click.echo(f"nearsql: {sentence(error)}", err=True)
        sys.exit(1)


def _open_what_was_closed() -> None:
    """A stream that was closed before we began (`>&-`) is None in Python: here it is as empty as /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)


def _speak_utf8() -> None:
    """UTF-8 in pipes and files, whatever the locale: as JSON has to be, and as others read it."""
    if "PYTHONIOENCODING" in os.environ:
        return
    for stream, errors in (
        (sys.stdin, "strict"),
        (sys.stdout, "strict"),
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8", errors=errors)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end_quietly()
    except OSError as error:
        click.echo(f"nearsql: standard output: {error.strerror}", err=True)
        _end_quietly(1)


@contextmanager
def _quiet_pipes() -> Iterator[None]:
    """Where standard output is closed at its other end, ends with the code that shells expect.

    click would end with 1, and as quietly when it is a server that has hung up.
    """
    try:
        yield
    except BrokenPipeError as error:
        if not _nobody_reads():
            raise ConnectionError(f"a connection was closed: {error}") from error
        _end_quietly()


def _nobody_reads() -> bool:
    """Whether what standard output or standard error goes to has been closed at its other end."""
    import select

    pipes = select.poll()
    for stream in (sys.stdout, sys.stderr):
        pipes.register(stream.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in pipes.poll(0))


def _end_quietly(code: int = 141) -> NoReturn:
    """Ends when `head` has what it wanted: that is no error of ours. 141 is what a shell expects then."""
    # What is left in the buffers goes nowhere, instead of failing once more when Python ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    if code == 141:
        os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(code)
