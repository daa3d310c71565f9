"""Runs a foreign test suite on the standard library's sqlite3 and on the face, and compares.

    python -m tests.compat.run sqlite-utils
    python -m tests.compat.run datasette-0.65 datasette-1.0 cpython

Each suite gets a virtual environment in the cache folder, with the source archive of the package
registry, whose tests are run. The result on the standard library is kept there too; `--baseline`
makes it anew. Ends with an error when a test that passes on the standard library does not pass
on the face and is not among the accepted differences of tests/compat/suites.py.

Datasette's source archives hold the test files but not what these import (tests/conftest.py,
tests/fixtures.py, tests/plugins/ ...): without more, the test files that need them cannot be
loaded, on either side, and are counted so. `--checkout FOLDER`, a clone of Datasette at the same
release, adds what is missing, and the whole suite runs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.compat.environment import Environment
from tests.compat.suites import SUITES, Suite

_DEFAULT_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "compat"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat.run", description=__doc__)
    parser.add_argument("suites", nargs="+", choices=[*SUITES], metavar="|".join(SUITES))
    parser.add_argument("--baseline", action="store_true", help="run the standard library anew")
    parser.add_argument("--cache", type=Path, default=_DEFAULT_CACHE, help="folder to work in")
    parser.add_argument("--checkout", type=Path, help="clone with the files the archive lacks")
    parser.add_argument("-k", dest="only", help="pytest's -k: only some tests (no verdict)")
    arguments = parser.parse_args()
    missed = []
    for name in arguments.suites:
        environment = Environment(SUITES[name], arguments.cache.resolve())
        environment.prepare()
        anew = arguments.baseline
        if arguments.checkout is not None:
            anew |= environment.complete_from(arguments.checkout)
        if not _run(environment, anew, arguments.only):
            missed.append(name)
    if missed:
        raise SystemExit(f"the bar is missed by: {', '.join(missed)}")


def _run(environment: Environment, anew: bool, only: str | None) -> bool:
    """Whether a suite does on the face what it does on the standard library."""
    kept = environment.folder / "baseline.json"
    if anew or only or not kept.exists():
        baseline = _outcomes(environment, "baseline", only)
        if not only:
            kept.write_text(json.dumps(baseline))
    else:
        baseline = json.loads(kept.read_text())
    face = _outcomes(environment, "face", only)
    return _compare(environment.suite, baseline, face)


def _outcomes(environment: Environment, on: str, only: str | None) -> dict[str, Any]:
    """Runs the suite once; outcome and details of each test."""
    written = environment.folder / f"{on}-outcomes.json"
    written.unlink(missing_ok=True)
    variables = environment.variables() | {"COMPAT_OUTCOMES": str(written)}
    if environment.suite.package is None:
        command = ["-m", "compat_cpython", *(["--face"] if on == "face" else [])]
        folder = environment.folder
    else:
        plugins = ["compat_outcomes", *(["compat_face"] if on == "face" else [])]
        command = ["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "tests"]
        command += ["--continue-on-collection-errors"]
        command += [word for plugin in plugins for word in ("-p", plugin)]
        command += [*environment.suite.options, *(["-k", only] if only else [])]
        folder = environment.source()
    started = time.monotonic()
    log = environment.folder / f"{on}.log"
    with log.open("w") as output:
        subprocess.run(
            [os.fspath(environment.python), *command],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not written.exists():
        raise SystemExit(f"{environment.suite.name} on the {on} did not finish: see {log}")
    outcomes: dict[str, Any] = json.loads(written.read_text())
    outcomes["seconds"] = round(time.monotonic() - started)
    return outcomes


def _compare(suite: Suite, baseline: dict[str, Any], face: dict[str, Any]) -> bool:
    """Prints both results and what differs; whether the bar is met."""
    print(f"\n{suite.name}: {suite.package or 'Python ' + sys.version.split()[0]}")
    print(
        f"{'':18}{'SQLite':>8}{'passed':>8}{'failed':>8}{'skipped':>9}{'unloaded':>10}{'seconds':>9}"
    )
    for title, run in (("standard library", baseline), ("face", face)):
        counts = Counter(run["outcomes"].values())
        print(
            f"{title:18}{run['sqlite_version']:>8}{counts['passed']:8}{counts['failed']:8}"
            f"{counts['skipped']:9}{counts['unloaded']:10}{run['seconds']:9}"
        )
    met = True
    for name in sorted(baseline["outcomes"].keys() | face["outcomes"].keys()):
        before = baseline["outcomes"].get(name, "absent")
        after = face["outcomes"].get(name, "absent")
        if before == after:
            continue
        reason = _reason(suite, name)
        print(f"  {before} -> {after}: {name}\n    {reason or 'NOT ACCEPTED'}")
        if reason is None and after != "passed":
            met = False
            print("    " + face["details"].get(name, "").strip().replace("\n", "\n    "))
    passed = Counter(face["outcomes"].values())["passed"]
    if passed < suite.minimum:
        print(f"  only {passed} pass: {suite.minimum} must")
        met = False
    if face["sqlite_version"] == baseline["sqlite_version"]:
        print("  both ran on the same SQLite: the face was not in use")
        met = False
    print("the bar is met" if met else "THE BAR IS MISSED")
    return met


def _reason(suite: Suite, name: str) -> str | None:
    for pattern, reason in suite.accepted.items():
        # Only a trailing star is a pattern: brackets are part of the names of tests.
        whole = pattern.replace("[", "[[]")
        if fnmatchcase(name, whole):
            return reason
    return None


if __name__ == "__main__":
    main()
