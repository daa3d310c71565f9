"""What Tab offers in a shell: the spaces, runs, selections, labels, collections of the file typed before it.

A shell asks by calling `nearsql` with `_NEARSQL_COMPLETE` set, and click answers: by itself the names of
commands, options and files, and by `VALUES` what a parameter's value may be. A file that cannot be read,
or not soon, offers nothing: a prompt is no place for errors.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from nearsql.udfs.sql_files import read_sql

VARIABLE = "_NEARSQL_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
MOST = 500  # values offered
_LONGEST_HELP = 70
# A person waits for the answer, and the file may be anything.
_SECONDS = 1.0
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the file, whose rows are (value, help). kinds: of runs; none for all."""

    sql: str
    kinds: tuple[str, ...] = ()


def _runs(*kinds: str) -> Ask:
    return Ask(read_sql(__package__, "completions_of_runs"), kinds)


_SPACES = Ask(
    "select name, kind || ' of ' || dimensions || ' dimensions' from spaces order by name"
)
_SELECTIONS = Ask("select name, note from selections order by name")
_COLLECTIONS = Ask("select distinct collection, null from items order by 1")
_LABELS = Ask("select distinct name, null from item_labels order by 1")

# Command and parameter, or the parameter of any command: what its values are. The more precise counts.
VALUES: Mapping[tuple[str | None, str], tuple[Ask, ...]] = {
    # A label, and a column, that is not there yet.
    ("ingest", "label"): (),
    ("label", "run"): (_runs("cluster"),),
    ("assign", "run"): (_runs("cluster"),),
    ("loss-distance", "run"): (_runs("detect"),),
    ("share", "run"): (_runs("project"),),
    ("export", "runs"): (_runs("cluster", "project"),),
    ("select", "name"): (_SELECTIONS,),
    ("plot", "of"): (_runs("project", "evaluate", "detect", "cluster"), _SPACES),
    ("diff", "a"): (_runs("cluster", "evaluate", "detect"), _SPACES),
    ("diff", "b"): (_runs("cluster", "evaluate", "detect"), _SPACES),
    (None, "run"): (_runs(),),
    (None, "runs"): (_runs(),),
    (None, "into"): (_runs("project"),),
    (None, "clustering"): (_runs("cluster"),),
    (None, "detect_run"): (_runs("detect"),),
    (None, "detector_run"): (_runs("detect"),),
    (None, "predictions"): (_runs("detect"),),
    (None, "loss_run"): (_runs("loss-distance"),),
    (None, "space"): (_SPACES,),
    (None, "spaces"): (_SPACES,),
    (None, "space_b"): (_SPACES,),
    (None, "within"): (_SELECTIONS,),
    (None, "show"): (_SELECTIONS,),
    (None, "drop"): (_SELECTIONS,),
    (None, "collection"): (_COLLECTIONS,),
    (None, "label"): (_LABELS,),
    (None, "labels"): (_LABELS,),
    (None, "split"): (_LABELS,),
}


def script(group: click.Group, shell: str) -> str:
    """What the shell has to run once, so that it asks. shell: one of SHELLS."""
    prepare()
    made = get_completion_class(shell)
    assert made is not None
    return made(group, {}, "nearsql", VARIABLE).source()


def prepare() -> None:
    """Makes click's answers for Bash ours."""
    add_completion_class(Bash)


def attach(name: str, command: click.Command) -> None:
    """Lets the command's parameters offer what VALUES says of them."""
    for parameter in command.params:
        key = parameter.name or ""
        asks = VALUES.get((name, key), VALUES.get((None, key), ()))
        if asks:
            # On this very object: its class is click's, and serves parameters of any kind.
            parameter.shell_complete = partial(_offer, asks)  # type: ignore[method-assign]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            attach(name, below)


def _offer(asks: tuple[Ask, ...], ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    file = _file_of(ctx)
    if file is None:
        return []
    found = [row for ask in asks for row in rows(file, ask)]
    is_fish = os.environ.get(VARIABLE, "").startswith("fish")
    taken = {str(value) for value in ctx.params.values() if isinstance(value, str)}
    for value in ctx.params.values():
        if isinstance(value, tuple):
            taken |= set(map(str, value))
    return [
        CompletionItem(value, help=help_)
        for value, help_ in found
        if value.startswith(incomplete)
        and value not in taken
        # click's script for fish cuts a line at its commas.
        and not (is_fish and "," in value)
    ]


def _file_of(ctx: click.Context | None) -> str | None:
    """The database that was typed before, as the shell would have read it."""
    while ctx is not None:
        file = ctx.params.get("file")
        first = next((p for p in ctx.command.params if isinstance(p, click.Argument)), None)
        if file is None and first is not None and first.name == "file":
            # After an option that still lacks its value, click leaves the words as they are.
            file = next(iter(ctx.args), None)
        if file:
            return os.path.expandvars(os.path.expanduser(str(file)))
        ctx = ctx.parent
    return None


def rows(file: str, ask: Ask) -> list[tuple[str, str | None]]:
    """The answers of a file to a question; none of a file that has none, or takes too long.

    Values that would not stay on one line of a terminal are left out, and help is cut to its beginning.
    """
    import apsw

    if not os.path.isfile(file):  # a pipe would be waited for
        return []
    kinds = json.dumps(ask.kinds) if ask.kinds else None
    stop_at = time.monotonic() + _SECONDS
    try:
        db = apsw.Connection(file, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.execute("pragma trusted_schema = off")
            db.set_progress_handler(lambda: time.monotonic() > stop_at, _STEPS)
            bindings = {"kinds": kinds} if ":kinds" in ask.sql else {}
            found = db.execute(f"{ask.sql} limit {MOST}", bindings).fetchall()
        finally:
            db.close()
    except (apsw.Error, OSError):
        return []
    shown = [(str(value), _help(words)) for value, words in found if value is not None]
    return [(value, words) for value, words in shown if value and value.isprintable()]


def _help(words: Any) -> str | None:
    """On one line, and short; without commas, at which click's script for fish cuts a line."""
    text = " ".join(str(words or "").replace(",", ";").split())[:_LONGEST_HELP]
    return text if text and text.isprintable() else None


class Bash(BashComplete):
    """click's answers, for names with colons, spaces and anything else in them.

    Bash ends a word at a colon, so that it asks for `ViT` when `clip:ViT` is typed, and puts what it is
    given into the line as it is: click's own script would have a name with a space be two words, and
    `*` be all files. So this one gives the line, and gets words that are ready to be put in.
    """

    source_template = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(
        env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORD="${COMP_WORDS[COMP_CWORD]}" \\
            %(complete_var)s=bash_complete "$1" 2>/dev/null
    )
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and what there is of that one."""
        line = os.environ["COMP_LINE"]
        start, self._quote = _last_word(line)
        self._typed = line[start:]
        return split_arg_string(line[:start])[1:], _decoded(self._typed)

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """The value, as it has to stand in the place of what Bash takes for the word."""
        if item.type != "plain":
            return super().format_completion(item)
        word = os.environ.get("COMP_WORD", "")
        if word in (":", "="):  # such a one by itself is what the word comes after
            word = ""
        typed_before = self._typed.removesuffix(word)
        if "=" in typed_before and self._typed.startswith("--"):
            typed_before = typed_before.partition("=")[2]  # --option=value
        value = str(item.value).removeprefix(_decoded(typed_before))
        return f"plain,{_quoted(value, self._quote)}"


def _last_word(line: str) -> tuple[int, str]:
    """Where the word at the end of a line begins, and the quote that is open in it, if any."""
    start, quote, is_escaped = 0, "", False
    for place, character in enumerate(line):
        if is_escaped:
            is_escaped = False
        elif character == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            start = place + 1
    return start, quote


def _decoded(word: str) -> str:
    """A word without the quotes it is written with."""
    return "".join(split_arg_string(word)[:1])


def _quoted(value: str, quote: str) -> str:
    """The value as Bash reads it where this quote, or none, is open."""
    if quote == "'":
        return value.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'(["$`\\])', r"\\\1", value)
    return re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
