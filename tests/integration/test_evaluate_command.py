"""`nearsql evaluate` as a command."""

import csv
import io
import json
import shlex
from pathlib import Path

from click.testing import CliRunner

from nearsql.pipeline.cli import cli


def test_the_best_is_said_and_what_to_ask_next(ninety_path: Path) -> None:
    words = ["evaluate", str(ninety_path), "a", "b", "--label", "kind", "-k", "1,4"]
    outcome = CliRunner().invoke(cli, [*words, "--weighting", "uniform,softmax", "--csv"])
    assert outcome.exit_code == 0, outcome.output
    rows = list(csv.DictReader(io.StringIO(outcome.stdout)))
    assert [(row["space"], row["weighting"], row["k"]) for row in rows] == [
        (space, weighting, k)
        for space in "ab"
        for weighting in ("uniform", "softmax")
        for k in "14"
    ]
    assert "best of a" in outcome.stderr
    (line,) = (line for line in outcome.stderr.splitlines() if "next: " in line)
    command = shlex.split(line.partition("next: nearsql ")[2])
    after = CliRunner().invoke(cli, [*command, "--nl"])
    assert after.exit_code == 0, after.output
    confused = [json.loads(line) for line in after.stdout.splitlines()]
    assert confused
    assert all(row["y_true"] != row["y_pred"] for row in confused)


def test_what_is_no_list_is_refused(ninety_path: Path) -> None:
    outcome = CliRunner().invoke(
        cli, ["evaluate", str(ninety_path), "a", "--label", "kind", "-k", "1,x"]
    )
    assert outcome.exit_code == 2
    assert "'1,x' is not K,K,..." in outcome.stderr
