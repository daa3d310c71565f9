"""Tries for as long as one likes: `python -m tests.fuzz.hours --minutes 60 [--only WORD] [--seed N]`.

Round after round, each with a seed of its own: calls of every SQL function, then mutated files for every
importer. What is found is printed at once, with the seed, the shrunk example and what came of it; the exit
code says whether there was anything.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from nearsql.udfs import catalogue
from tests.fuzz.mutations import mutated
from tests.fuzz.outcomes import Outcome
from tests.fuzz.samples import TARGETS, files_of, filled_file
from tests.fuzz.trying import Trying
from tests.fuzz.values import calls

# Of one subject in one round.
EXAMPLES = 200
# Calls what is compiled.
COMPILED = Path(__file__).parents[1] / "integration" / "test_same_seed.py"

Attempt = Callable[[Any], Outcome]


class Found(AssertionError):
    """An outcome that may not be."""


def subjects(trying: Trying, folder: Path) -> Iterator[tuple[str, st.SearchStrategy[Any], Attempt]]:
    """What there is to try: its name, the inputs, and how one is tried."""
    for name, function in catalogue.load().items():
        yield f"function {name}", calls(function), lambda call, name=name: trying.call(name, *call)
    for target in TARGETS:
        files = files_of(target, folder)
        yield target, mutated(files), lambda files, target=target: trying.read(target, files)


def try_subject(
    inputs: st.SearchStrategy[Any], attempt: Attempt, number: int, kinds: Counter[str]
) -> str | None:
    """Tries EXAMPLES inputs; gives what was found, in words, or None."""

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(inputs)
    def tried(value: Any) -> None:
        outcome = attempt(value)
        kinds[outcome.kind] += 1
        if not outcome.is_fine:
            raise Found(f"{outcome.kind}: {outcome.message}\n  of {value!r:.1500}")

    try:
        tried()
    except Found as found:
        return str(found)
    except ExceptionGroup as several:
        return "\n".join(str(each) for each in several.exceptions)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--only", default="", help="subjects whose name holds this word")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    first = asked.seed if asked.seed is not None else random.SystemRandom().randrange(2**32)
    # What numba compiles, and keeps, takes minutes the first time: that is no function that never ends.
    subprocess.run([sys.executable, COMPILED], stdout=subprocess.DEVNULL, check=True)
    end = time.monotonic() + 60 * asked.minutes
    print(f"seed {first}", flush=True)
    # Deeply nested values are made here, too.
    sys.setrecursionlimit(10_000)
    findings, rounds = 0, 0
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        filled_file(folder)
        with Trying(folder) as trying:
            while time.monotonic() < end:
                for name, inputs, attempt in subjects(trying, folder):
                    if asked.only not in name or time.monotonic() >= end:
                        continue
                    found = try_subject(inputs, attempt, first + rounds, kinds)
                    if found is not None:
                        findings += 1
                        print(f"{name}, seed {first + rounds}:\n  {found}", flush=True)
                rounds += 1
                print(f"{rounds} rounds, {trying.tried:,} inputs, {dict(kinds)}", flush=True)
            tried = trying.tried
    print(f"{tried:,} inputs tried, {findings} findings, {dict(kinds)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
