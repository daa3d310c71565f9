"""pytest plugin: writes the outcome of each test to the JSON file that COMPAT_OUTCOMES names."""

import json
import os
from pathlib import Path

_outcomes = {}
_details = {}


def _record(name, outcome, detail=""):
    # A test has up to three reports: set-up, the test itself, tear-down. The worst counts.
    order = ["passed", "skipped", "failed", "unloaded"]
    if order.index(outcome) >= order.index(_outcomes.get(name, "passed")):
        _outcomes[name] = outcome
        if outcome in ("failed", "unloaded"):
            _details[name] = detail


def pytest_runtest_logreport(report):
    _record(report.nodeid, report.outcome, str(report.longrepr)[-2000:])


def pytest_collectreport(report):
    if report.failed:
        _record(report.nodeid, "unloaded", str(report.longrepr)[-2000:])


def pytest_sessionfinish():
    # Imported here: the face takes the name only after the plugins have been loaded.
    import sqlite3

    version = sqlite3.connect(":memory:").execute("select sqlite_version()").fetchone()[0]
    content = {"outcomes": _outcomes, "details": _details, "sqlite_version": version}
    Path(os.environ["COMPAT_OUTCOMES"]).write_text(json.dumps(content))
