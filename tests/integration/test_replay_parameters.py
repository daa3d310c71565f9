"""Of every kind of run each recorded parameter counts: said otherwise, the replay differs or is refused.

What may be said otherwise without an effect is listed with the reason, and that it has none is tested,
too. A new parameter fails here until it is in one of the lists.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from replayed import Replayed, build, changed, leaves, nothing_differs

from nearsql.pipeline.replay import CannotReplay, replay

OTHER_HASH = "0" * 64
FOUND_BY_ID = "the space is found by its id, for it may be called otherwise by now"
NAME_OF_SPACE = "the new space is found by its run, for it may be called otherwise by now"

# What each parameter of a run is changed to; a function is given the parameters.
CHANGED: dict[str, dict[str, Any]] = {
    "ingest images": {
        "collection": "birds",
        "label": "species",
        "max_pixels": 799,
        "source": lambda then: then["source"] + "/images/train",
        "source_kind": "memory",
        "store": True,
    },
    "ingest texts": {
        "collection": "roads",
        "delimiter": ",",
        "encoding": "latin-1",
        "format": "jsonl",
        "label": "square",
        "sequence": "square",
        "source": lambda then: then["source"] + ".old",
        "source_kind": "standard input",
        "text": "parity",
    },
    "annotate": {
        "classes": lambda then: then["source"] + "/swapped.yaml",
        "collection": "birds",
        "format": "coco",
        "labels": lambda then: then["labels"] + "/val",
        "source": lambda then: then["source"] + "/images/train",
        "split": "test",
    },
    "embed pixels": {
        "collection": "streets",
        "model": "tfidf",
        "model_parameters.mode": "RGB",
        "model_parameters.model": "tfidf",
        "model_parameters.options.size": 4,
        "model_parameters.resampling": "nearest",
    },
    "embed tfidf": {
        "collection": "pets",
        "model": "pixels",
        "model_parameters.dimensions": 5,
        "model_parameters.min_df": 2,
        "model_parameters.model": "pixels",
        "model_parameters.options.dimensions": 5,
        "model_parameters.options.max_features": 10,
        "model_parameters.options.seed": 1,
        "model_parameters.share_kept": 0.5,
        "model_parameters.sublinear_tf": False,
        "model_parameters.texts": 23,
        "model_parameters.words": 20,
    },
    "import": {
        "batch_rows": 7,  # a result is hashed batch by batch
        "collection": "pets",
        "format": "tsv",
        "match": "sequence",
        "metric": "l2",
        "model": "ours",
        "options.id": "next",
        "options.ids": "no.txt",
        "options.images": "no.json",
        "options.text": "a",
        "options.vector": "a",
        "part": "another",
        "sha256": OTHER_HASH,
        "source": lambda then: then["source"] + ".old",
        "space": "others",
    },
    "neighbors": {
        "generation": 1,
        "generation_token": 1,
        "k": 5,
        "method": "guessed",
        "within": "[1000, 1001, 1002]",
    },
    "index hnsw": {
        "ef_construction": 5,
        "engine": "ivf",
        "m": 8,
        "min_recall": 0.9,
    },
    "index ivf": {"engine": "hnsw", "lists": 6, "min_recall": 0.9, "recall": 0.1},
    "index vec0": {"engine": "ivf", "min_recall": 0.9},
    "cluster hdbscan": {
        "downsample": 1,
        "epsilon": 3.0,
        "method": "guessed",
        "min_cluster_size": 9,
        "min_samples": 6,
        "selection": "leaf",
        "within": "[1000, 1001, 1002]",
    },
    "cluster within": {"within": None, "within_items": 99, "within_sha256": OTHER_HASH},
    "cluster levels": {
        "downsample": 2,
        "levels": 3,
        "method": "guessed",
        "min_cluster_size": 51,
        "min_samples": 9,
        "seed_rules": 1,
        "within": "[1000, 1001, 1002]",
    },
    "cluster topics": {
        "downsample": 2,
        "method": "guessed",
        "min_cluster_size": 12,
        "min_samples": 2,
        "n_neighbors": 8,
        "noise_level": 0.0,
        "random_state": 1,
        "within": "[1000, 1001, 1002]",
    },
    "cluster losses": {
        "component": "cls",
        "epsilon": 9.0,
        "loss_distance_run": 1,
        "method": "guessed",
        "min_cluster_size": 5,
        "min_samples": 4,
        "selection": "leaf",
        "symmetrize": "max",
    },
    "assign": {"generation": 1, "generation_token": 1, "run": 1, "run_sha256": OTHER_HASH},
    "project umap": {
        "method": "pca",
        "min_dist": 0.5,
        "n_components": 2,
        "n_neighbors": 5,
        "random_state": 1,
        "within": "[1000, 1001, 1002]",
    },
    "project tsne": {
        "method": "pca",
        "n_components": 3,
        "perplexity": 5.0,
        "within": "[1000, 1001, 1002]",
    },
    "project pca": {
        "method": "umap",
        "n_components": 3,
        "within": "[1000, 1001, 1002]",
    },
    "place": {"generation": 1, "generation_token": 1, "run": 1, "run_sha256": OTHER_HASH},
    "evaluate": {
        "data_sha256": OTHER_HASH,
        "duplicate_thresholds.angles": 5.0,
        "folds": 3,
        "group_by": None,
        "k": [1, 3],
        "label": "part",
        "spaces": ["angles", "small"],
        "target": "label:number",
        "temperature": 0.5,
        "weighting": ["uniform", "distance"],
        "within": "[1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007]",
    },
    "evaluate a number": {"target": "label:part", "k": [2], "weighting": ["uniform"]},
    "find": {
        "clustering": 1,
        "k": 4,
        "kinds": ["outliers"],
        "label": "part",
        "label_sha256": OTHER_HASH,
        "space": "others",  # named in the evidence
        "split": "side",
        "split_sha256": OTHER_HASH,
        "threshold": 3.0,
        "weighting": "uniform",
        "within": "[1000, 1001, 1002]",
    },
    "find label errors": {"k": 20, "temperature": 0.5, "weighting": "uniform"},
    "label keywords": {
        "cluster_run": 1,
        "contents_sha256": OTHER_HASH,
        "level": 1,
        "method": "llm",
        "min_size": 20,
        "reading.characters": 9,
        "reading.held_out": 2,
        "reading.read": 3,
        "reading.seed": 1,
    },
    "label images": {"reading.label_names": ["part"]},
}

# What changes nothing, and why.
WITHOUT_EFFECT: dict[str, dict[str, tuple[Any, str]]] = {
    "embed pixels": {
        "batch_size": (1, "an image is encoded by itself"),
        "space": ("pixels", FOUND_BY_ID),
    },
    "embed tfidf": {
        "batch_size": (1, "a text is encoded by itself"),
        "space": ("texts", FOUND_BY_ID),
    },
    "import": {
        "options.dtype": (
            "float64",
            "only older stores have numbers that do not say what they are",
        ),
    },
    "neighbors": {"space": ("others", FOUND_BY_ID)},
    "index hnsw": {
        "recall": (1.0, "the least effort finds all of so few neighbours"),
        "space": ("others", FOUND_BY_ID),
        "threads": (2, "the bytes do not depend on the number of threads"),
    },
    "index ivf": {
        "space": ("others", FOUND_BY_ID),
        "threads": (2, "the bytes do not depend on the number of threads"),
    },
    "index vec0": {
        "space": ("others", FOUND_BY_ID),
        "threads": (2, "the bytes do not depend on the number of threads"),
    },
    "cluster hdbscan": {
        "neighbors": ("graph", "a graph of so few points has all of them"),
        "space": ("others", FOUND_BY_ID),
    },
    "cluster levels": {
        "neighbors": ("graph", "a graph of so few points has all of them"),
        "space": ("others", FOUND_BY_ID),
    },
    "cluster topics": {"space": ("others", FOUND_BY_ID)},
    "project umap": {
        "name": ("map", NAME_OF_SPACE),
        "neighbors": ("graph", "of so few points all neighbours are found"),
        "space": ("others", FOUND_BY_ID),
    },
    "project tsne": {
        "neighbors": ("graph", "of so few points all neighbours are found"),
        "random_state": (1, "of so few points nothing is drawn"),
        "space": ("others", FOUND_BY_ID),
    },
    "project pca": {"space": ("others", FOUND_BY_ID)},
    "evaluate": {"detect_run": (1, "a label needs no detector")},
    "evaluate a number": {
        "spaces": (["others", "more"], FOUND_BY_ID),
        "temperature": (0.5, "only softmax has one"),
    },
    "find": {"temperature": (0.5, "only softmax has one")},
    "label keywords": {"reading.label_names": (["part"], "of texts no labels are read")},
}

# Runs whose other parameters are those of another in the list.
LIKE = {
    "cluster within": "cluster hdbscan",
    "evaluate a number": "evaluate",
    "find label errors": "find",
    "label images": "label keywords",
}

# Where a seed is no parameter besides.
SEEDS = ("index hnsw", "index ivf", "evaluate")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    built = build(tmp_path_factory.mktemp("replayed"))
    yield built
    built.db.close()


def cases(of: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    return [
        pytest.param(run, path, value, id=f"{run}: {path}")
        for run, values in of.items()
        for path, value in values.items()
    ]


def test_every_run_replays_to_the_same_rows(replayed: Replayed) -> None:
    for name, run_id in replayed.runs.items():
        outcome = replay(replayed.db, run_id)
        assert nothing_differs(outcome), (name, outcome)
        assert not outcome.changes, (name, outcome.changes)
        assert sum(table.rows for table in outcome.tables) > 0, name


def test_each_parameter_is_in_a_list(replayed: Replayed) -> None:
    assert set(CHANGED) == set(replayed.runs)
    for name in replayed.runs:
        recorded = set(leaves(replayed.parameters(name)))
        listed = {*CHANGED[name], *WITHOUT_EFFECT.get(name, ())}
        assert listed <= recorded, name
        if name in LIKE:
            listed |= {*CHANGED[LIKE[name]], *WITHOUT_EFFECT[LIKE[name]]}
        assert recorded <= listed, name


@pytest.mark.parametrize(("name", "path", "value"), cases(CHANGED))
def test_a_recorded_parameter_counts(replayed: Replayed, name: str, path: str, value: Any) -> None:
    other = changed(replayed.parameters(name), path, value)
    with replayed.recorded(name, other) as run_id, suppress(CannotReplay):
        assert not nothing_differs(replay(replayed.db, run_id))


@pytest.mark.parametrize("name", SEEDS)
def test_the_seed_of_a_run_counts(replayed: Replayed, name: str) -> None:
    with replayed.recorded(name, replayed.parameters(name), seed=4) as run_id:
        assert not replay(replayed.db, run_id).is_same


@pytest.mark.parametrize(("name", "path", "value"), cases(WITHOUT_EFFECT))
def test_what_is_said_to_have_no_effect_has_none(
    replayed: Replayed, name: str, path: str, value: tuple[Any, str]
) -> None:
    other = changed(replayed.parameters(name), path, value[0])
    with replayed.recorded(name, other) as run_id:
        assert nothing_differs(replay(replayed.db, run_id)), value[1]
