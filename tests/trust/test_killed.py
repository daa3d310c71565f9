"""Pipelines killed at random points: a few of the kills of `python -m tests.trust.crashes --times 200`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Of every way to go on: what is there already, in which run, from which block; and of having to begin anew.
SOME = ("ingest with annotations", "embed tfidf", "index hnsw", "place", "evaluate")
# Killed at their last commit, too, where the rows and the end of the run are one transaction.
LAST = ("label", "project pca")

# A command whose rows are committed before the run that they are of has ended: killed between the two, it
# leaves them behind, and writes them again.
CARELESS = """\
import sys
from nearsql.pipeline.label import run
from nearsql.pipeline import runs
write, n = run.write_label, 0
def one_by_one(db, *args):
    write(db, *args)
    db.commit()
    db.execute("begin immediate")
run.write_label = one_by_one
from tests.trust.crashes import main
sys.exit(main(sys.argv[1:]))
"""


def crashes(*words: str, program: tuple[str, ...] = ("-m", "tests.trust.crashes")) -> str:
    """What the command says; in a process of its own, as it forks."""
    done = subprocess.run(
        [sys.executable, *program, *words], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == ("FAULT" in done.stdout), done.stdout + done.stderr
    return done.stdout


def test_killed_anywhere_a_pipeline_run_again_leaves_what_it_always_does() -> None:
    last = [word for name in LAST for word in ("--last", name)]
    said = crashes("--quick", "--times", "10", "--seed", "5", *last, *SOME, *LAST)
    assert re.search(r"^12 kills of 7 pipelines in \d+ s: no fault$", said, re.MULTILINE), said


def test_rows_that_a_killed_run_leaves_behind_would_be_noticed() -> None:
    said = crashes("--quick", "--times", "0", "--last", "label", "label", program=("-c", CARELESS))
    assert re.search(
        r"killed at commit \d+ \(while\) it run again, differs: cluster_labels: 0 of", said
    )
