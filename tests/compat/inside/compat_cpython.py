"""Runs Python's own sqlite3 tests, on the face if asked, and writes the outcome of each."""

import json
import os
import sys
import unittest
from pathlib import Path

MODULES = (
    "backup",
    "dbapi",
    "dump",
    "factory",
    "hooks",
    "regression",
    "transactions",
    "types",
    "userfunctions",
)


class _Outcomes(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}
        self.details = {}

    def startTest(self, test):
        super().startTest(test)
        self.outcomes[test.id()] = "passed"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._failed(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._failed(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, err)

    def _failed(self, test, err):
        self.outcomes[test.id()] = "failed"
        self.details[test.id()] = self._exc_info_to_string(err, test)[-2000:]


def main():
    if "--face" in sys.argv:
        import compat_face  # noqa: F401
    names = [f"test.test_sqlite3.test_{module}" for module in MODULES]
    tests = unittest.defaultTestLoader.loadTestsFromNames(names)
    with open(os.devnull, "w") as nowhere:
        result = unittest.TextTestRunner(stream=nowhere, resultclass=_Outcomes).run(tests)
    import sqlite3  # the face, if asked: it has taken the name by now

    version = sqlite3.connect(":memory:").execute("select sqlite_version()").fetchone()[0]
    content = {
        "outcomes": result.outcomes,
        "details": result.details,
        "sqlite_version": version,
    }
    Path(os.environ["COMPAT_OUTCOMES"]).write_text(json.dumps(content))


main()
