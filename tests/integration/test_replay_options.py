"""Every option of every command either is an argument of the function that makes the run, or says no more
than how its result is shown. A new option fails here until it is told which.

That the functions' arguments are on record is tested in test_replay_arguments.py.
"""

import ast
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from nearsql.pipeline import cli, replay

SHOWN = {"format_": "how what comes out is printed"}
TRACKED = {"track": "who else is told of the run, when it is stored"}
# Of --engine ray: the tests of it compare its rows with those that are computed here.
BY_RAY = dict.fromkeys(
    ("ray_address", "workers", "worker_cpus"), "who computes it, which makes no difference"
)
BY_RAY_WITH_GPUS = BY_RAY | {"worker_gpus": "how many of them there are makes no difference"}

# The functions that make the runs of a command.
FUNCTIONS = {
    "ingest": (
        "nearsql.pipeline.ingest:ingest_images",
        "nearsql.pipeline.ingest:ingest_texts",
        "nearsql.pipeline.annotations:annotate",
    ),
    "import": ("nearsql.pipeline.importing:import_file",),
    "embed": ("nearsql.pipeline.embed:embed",),
    "detect": ("nearsql.pipeline.detect.run:detect",),
    "loss-distance": ("nearsql.pipeline.loss_distance.run:loss_distance",),
    "failures": ("nearsql.pipeline.failures:failures",),
    "neighbors": ("nearsql.pipeline.neighbors:neighbors",),
    "index": ("nearsql.pipeline.index:index",),
    "cluster": (
        "nearsql.pipeline.cluster.run:cluster_spaces",
        "nearsql.pipeline.cluster.levels:cluster_levels",
        "nearsql.pipeline.cluster.topics:cluster_topics",
        "nearsql.pipeline.cluster.losses:cluster_losses",
    ),
    "assign": ("nearsql.pipeline.cluster.assign:assign",),
    "label": (
        "nearsql.pipeline.label:label_clusters",
        "nearsql.pipeline.label:Asking",
        "nearsql.pipeline.label.asking:Showing",
        "nearsql.pipeline.label.levels:Reading",
    ),
    "evaluate": ("nearsql.pipeline.evaluate:evaluate",),
    "find": ("nearsql.pipeline.find:find",),
    "project": ("nearsql.pipeline.project:project_space", "nearsql.pipeline.place:place"),
}

# Options that are called otherwise than the argument.
CALLED = {
    "ingest": {"source": "folder", "annotations": "format"},
    "loss-distance": {"run": "detect_run"},
    "cluster": {"loss_run": "run_id"},
    "assign": {"run": "clustering_run"},
    "label": {
        "run": "cluster_run",
        "labels": "label_names",
        "shown": "items",
        "shown_characters": "characters",
    },
    "project": {"into": "map_run", "no_seed": "random_state"},
}

# Options that are no argument of the function, and why they need not be.
NOT_ON_RECORD: Mapping[str, Mapping[str, str]] = {
    "failures": {**SHOWN, "url": "of the links that are printed"},
    "import": {"list_": "makes no run", "output": "of --list"},
    "embed": TRACKED | BY_RAY_WITH_GPUS,
    "detect": TRACKED | BY_RAY_WITH_GPUS,
    "loss-distance": TRACKED | BY_RAY_WITH_GPUS,
    "neighbors": BY_RAY,
    "project": TRACKED,
    "index": {
        **SHOWN,
        "list_": "makes no run",
        "check": "makes no run",
        "drop": "makes no run",
        "text": "the full-text index belongs to no run",
        "tokenizer": "of --text, which says itself what it was made with",
    },
    "cluster": {
        **SHOWN,
        **TRACKED,
        "method": "which of the functions, each with a method of its own on record",
        "assign": "makes an assign run besides",
        "sweep": "makes no run",
        "sizes": "of --sweep",
        "plot": "of --sweep",
    },
    "label": {
        "method": "whether there is an Asking, and recorded as such",
        "dry_run": "makes no run",
    },
    "evaluate": SHOWN | TRACKED,
    "find": SHOWN,
}

# Commands that make no run, or none of their own.
WITHOUT_RUNS = {
    "demo": "calls the others, with no options",
    "diff": "compares two runs",
    "select": "a selection says itself how it was made",
    "export": "writes files, and nothing into the database",
    "plot": "writes a picture, and nothing into the database",
    "sql": "runs whatever SQL it is given",
    "serve": "shows",
    "share": "writes a page, and nothing into the database",
    "runs": "lists",
    "track": "tells of runs that are there",
    "replay": "computes a recorded run again, and records which",
    "check": "looks",
    "doctor": "looks",
    "migrate": "changes tables, as the schema's version says",
    "functions": "lists",
    "completion": "prints what a shell needs",
}

# Their modules import torch, which need not be installed: they are read and not imported.
VISION = ("detect", "loss-distance")


def arguments(command: str) -> set[str]:
    found: set[str] = set()
    for place in FUNCTIONS[command]:
        module, _, name = place.partition(":")
        if command in VISION:
            found |= written_arguments(module, name)
        else:
            function = getattr(importlib.import_module(module), name)
            found |= set(inspect.signature(function).parameters)
    return found


def written_arguments(module: str, name: str) -> set[str]:
    package, _, file = module.rpartition(".")
    folder = Path(next(iter(importlib.import_module(package).__path__)))
    for node in ast.parse((folder / f"{file}.py").read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    raise LookupError(f"{module} has no function {name}")


def test_every_command_is_looked_at() -> None:
    assert {*FUNCTIONS, *WITHOUT_RUNS} == set(cli.COMMANDS)
    assert not set(FUNCTIONS) & set(WITHOUT_RUNS)
    # And the kinds of runs are those of the commands, by the names of both.
    made_by = {"annotate": "ingest", "place": "project"}
    assert {made_by.get(kind, kind) for kind in replay.MODULES} == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_is_an_argument_or_only_shows(name: str) -> None:
    command: click.Command = importlib.import_module(cli.COMMANDS[name][0]).command
    options = {p.name or "" for p in command.params} - {"file"}
    of_function, elsewhere = arguments(name), set(NOT_ON_RECORD.get(name, ()))
    assert not elsewhere & of_function
    assert elsewhere <= options
    called = CALLED.get(name, {})
    assert set(called) <= options
    missing = {called.get(option, option) for option in options - elsewhere} - of_function
    assert not missing, "say where this is recorded, or why it need not be"
