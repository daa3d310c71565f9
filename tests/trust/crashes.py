"""`python -m tests.trust.crashes --times 200`: kills every pipeline at random points, and looks at what is left.

After each kill the file must be whole (`PRAGMA integrity_check`), `nearsql check` must find nothing wrong, and
the same command, run once more, must leave what it leaves when nobody kills it: the same rows in every table,
and the same files, byte by byte. See `contents` for what is left out of that, and why. Whoever is killed after
all was written is not run once more.

Each kill is at a point drawn uniformly: of the time that the command takes, of the SQL statements or the
commits that it begins, or of the writes to its files, in turns. Where that was is told by what it left: nothing yet (before),
a part (while), or everything (after).
"""

import argparse
import hashlib
import importlib.util
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.trust.contents import Contents, differences, read_contents
from tests.trust.inputs import build
from tests.trust.killing import CLOCKS, Moment, Outcome, import_everything, in_child, run_command
from tests.trust.pipelines import DATABASE, PIPELINES, Pipeline, small_batches

WHERE = ("before", "while", "after")
# A moment may come too late: a process does not take the same time twice. Then another one is drawn.
_TRIES = 20


@dataclass
class Tally:
    """What came of one pipeline's kills. seconds: of the uninterrupted run."""

    pipeline: Pipeline
    spent: dict[str, float]
    where: Counter[str] = field(default_factory=Counter)
    clocks: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Left:
    """What is in a folder. files: by name, the SHA-256 of their bytes, of what is written besides."""

    contents: Contents
    faults: tuple[str, ...]
    files: dict[str, str]


class Killer:
    """Runs a pipeline undisturbed, and then over and over again with something in its way.

    base: the file it begins with; inputs: what it reads; folder: to work in.
    """

    def __init__(self, pipeline: Pipeline, base: Path, inputs: Path, folder: Path) -> None:
        self._pipeline, self._base, self._folder = pipeline, base, folder
        self._words = pipeline.command(inputs)
        self._at_first = self.fresh("first")
        self._before = self.look(self._at_first)
        whole = self.fresh("whole")
        done = self.run(whole)
        if done.code != 0:
            raise AssertionError(f"{pipeline.name}: exit code {done.code}: {done.err}")
        self._after = self.look(whole)
        self.tally = Tally(pipeline, dict(done.spent), faults=list(self._after.faults))

    def clocks(self) -> list[str]:
        """Those that go: an export writes to no database."""
        return [clock for clock in CLOCKS if self.tally.spent[clock]]

    def kill(self, clock: str, draw: random.Random) -> None:
        """One kill at a point drawn at random, and whether all is well afterwards."""
        for _ in range(_TRIES):
            at = draw.uniform(0, self.tally.spent[clock])
            if self._kill(Moment(clock, at if clock == "seconds" else 1 + int(at))):
                return
        self.tally.faults.append(f"{_TRIES} times it ended sooner than it could be killed")

    def kill_at_last_commit(self) -> None:
        """One kill when all was computed and written, and only the commit is lacking."""
        if not self._kill(Moment("commits", self.tally.spent["commits"])):
            self.tally.faults.append("it does not commit as often each time")

    def _kill(self, moment: Moment) -> bool:
        """Whether the moment came before the end."""
        folder = self.fresh("killed")
        if self.run(folder, moment).code is not None:
            return False
        self.tally.clocks[moment.clock] += 1
        left = self.look(folder)
        where = self._where(left)
        self.tally.where[where] += 1
        faults = [f"is left with {fault}" for fault in left.faults]
        if where != "after":
            again = self.run(folder)
            if again.code != 0:
                faults.append(f"cannot be run again, exit code {again.code}: {again.err.strip()}")
            found = self.look(folder)
            faults += [f"run again, is left with {fault}" for fault in found.faults]
            faults += [f"run again, differs: {fault}" for fault in self.differences(found)]
        self.tally.faults += [f"killed at {moment} ({where}) it {fault}" for fault in faults]
        return True

    def _where(self, left: Left) -> str:
        if not self.differences(left):
            return "after"
        is_new = left.contents.unfinished > self._before.contents.unfinished
        same = not differences(self._before.contents, left.contents, is_interrupted=True)
        return "before" if same and not is_new and left.files == self._before.files else "while"

    def differences(self, found: Left) -> list[str]:
        """What is not as the undisturbed command leaves it."""
        wrong = differences(self._after.contents, found.contents, is_interrupted=True)
        for name in sorted(self._after.files.keys() | found.files.keys()):
            if self._after.files.get(name) != found.files.get(name):
                wrong.append(f"the file {name} is missing or not the same")
        return wrong

    def fresh(self, name: str) -> Path:
        """A folder with nothing but a copy of the file to begin with."""
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copyfile(self._base, folder / DATABASE)
        return folder

    def run(
        self,
        folder: Path,
        moment: Moment | None = None,
        before: Callable[[], None] = small_batches,
        *,
        is_counted: bool = True,
    ) -> Outcome:
        """Runs the command. before: what the process does first. is_counted: as `run_command` has it."""
        return run_command(self._words, folder, moment, before=before, is_counted=is_counted)

    def look(self, folder: Path) -> Left:
        """What is in the folder."""
        result = self._pipeline.result
        files = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((folder / result).rglob("*") if result else ())
            if path.is_file()
        }
        contents, faults = in_child(lambda: _inspect(folder / DATABASE))
        return Left(contents, faults, files)


def _inspect(path: Path) -> tuple[Contents, tuple[str, ...]]:
    """What the file says, and what is wrong with it, in words."""
    from nearsql.pipeline.check import check_file
    from nearsql.pipeline.commands.check import _checked_indexes
    from nearsql.udfs.connection import open_database

    with closing(open_database(path, read_only=True)) as db:
        pages = db.execute("pragma integrity_check").fetchall()
        faults = [] if pages == [("ok",)] else [f"PRAGMA integrity_check: {pages[:3]}"]
        for finding in [*check_file(db), *_checked_indexes(db)]:
            if finding.wrong:
                faults.append(f"nearsql check: {finding.check}: {finding.detail}")
    return read_contents(path), tuple(faults)


def chosen(names: Sequence[str], *, is_quick: bool) -> list[Pipeline]:
    """The pipelines of these names; without names, all that this machine has what they need for."""
    if names:
        known = {each.name: each for each in PIPELINES}
        for name in names:
            if name not in known:
                raise SystemExit(f"there is no pipeline {name!r}: there are {', '.join(known)}")
        return [known[name] for name in names]
    return [
        each
        for each in PIPELINES
        if (each.is_quick or not is_quick)
        and (each.needs is None or importlib.util.find_spec(each.needs) is not None)
    ]


def crash(
    pipelines: Sequence[Pipeline],
    times: int,
    seed: int,
    folder: Path,
    *,
    last: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> list[Tally]:
    """Kills the pipelines `times` times in all, dealt out to them in turns; gives what came of it.

    last: the names of those that are also killed at their last commit.
    """
    base = folder / "base"
    with_torch = any(each.needs == "torch" for each in pipelines)
    in_child(lambda: build(base, with_torch=with_torch))
    draw = random.Random(seed)
    more = draw.sample(pipelines, times % len(pipelines))
    found = []
    for number, pipeline in enumerate(pipelines):
        kills = times // len(pipelines) + (pipeline in more)
        if not kills and pipeline.name not in last:
            continue
        work = folder / "work"
        work.mkdir()
        killer = Killer(pipeline, base / "base.db", base / "inputs", work)
        clocks = killer.clocks()
        for kill in range(kills):
            killer.kill(clocks[(number + kill) % len(clocks)], draw)
        if pipeline.name in last:
            killer.kill_at_last_commit()
        shutil.rmtree(work)
        found.append(killer.tally)
        say(_line(killer.tally))
        for fault in killer.tally.faults:
            say(f"    FAULT: {fault}")
    return found


HEAD = (
    f"{'':<24}{'kills':>13}{'before':>8}{'while':>7}{'after':>7}  at a: "
    + "".join(f"{clock.removesuffix('s'):>10}" for clock in CLOCKS)
    + "   of: "
    + "".join(f"{clock:>11}" for clock in CLOCKS)
)


def _line(tally: Tally) -> str:
    hits = "".join(
        f"{tally.where[where]:>{width}}" for where, width in zip(WHERE, (8, 7, 7), strict=True)
    )
    by = "".join(f"{tally.clocks[clock]:>10}" for clock in CLOCKS)
    of = "".join(f"{tally.spent[clock]:>11,.{2 * (clock == 'seconds')}f}" for clock in CLOCKS)
    verdict = f"{len(tally.faults)} FAULTS" if tally.faults else "ok"
    return (
        f"{tally.pipeline.name:<24}{tally.where.total():>13}{hits}{'':>8}{by}{'':>7}{of}  {verdict}"
    )


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=200, help="kills, in all")
    parser.add_argument("--each", type=int, help="kills of each pipeline, instead")
    parser.add_argument("--seed", type=int, help="of the points; default: another one each time")
    parser.add_argument(
        "--last",
        action="append",
        default=[],
        help="this one also when it commits for the last time",
    )
    parser.add_argument(
        "--quick", action="store_true", help="only the pipelines that take a moment"
    )
    parser.add_argument("pipelines", nargs="*", help="only these")
    given = parser.parse_args(words)
    seed = random.randrange(10**6) if given.seed is None else given.seed
    pipelines = chosen(given.pipelines, is_quick=given.quick)
    times = given.times if given.each is None else given.each * len(pipelines)
    import_everything(with_maps=not given.quick)
    started = time.monotonic()
    print(f"seed {seed}", HEAD, sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="nearsql-crashes-") as folder:
        found = crash(
            pipelines,
            times,
            seed,
            Path(folder),
            last=given.last,
            say=lambda line: print(line, flush=True),
        )
    faults = sum(len(tally.faults) for tally in found)
    kills = sum(tally.where.total() for tally in found)
    print(
        f"{kills} kills of {len(found)} pipelines in {time.monotonic() - started:.0f} s: ", end=""
    )
    print("no fault" if not faults else f"{faults} FAULTS")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
