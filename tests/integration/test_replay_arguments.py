"""What a run depends on is on its record: another argument or option, another record.

Every argument of every function that makes a run is called with two values, up to the moment when the run
is recorded; the records have to differ. What need not be on record is listed with the reason. The
functions of detectors are in tests/vision/test_replay_detectors.py.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from labelled import coco
from replayed import add_labels, add_points, blobs, from_files, loss_distances, record
from stores import importable
from topics import add_topics

from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.cluster.assign import assign
from nearsql.pipeline.cluster.levels import cluster_levels
from nearsql.pipeline.cluster.losses import cluster_losses
from nearsql.pipeline.cluster.run import cluster_spaces
from nearsql.pipeline.cluster.topics import cluster_topics
from nearsql.pipeline.embed import embed
from nearsql.pipeline.evaluate import evaluate
from nearsql.pipeline.find import find
from nearsql.pipeline.importing import import_file
from nearsql.pipeline.index import index
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_images, ingest_texts
from nearsql.pipeline.label import label_clusters
from nearsql.pipeline.label.levels import Reading
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.place import place
from nearsql.pipeline.project import project_space
from nearsql.udfs import connection, dbapi

SOME = "select item_id from item_labels where name = 'side' and value = 'left'"
QUIET = {"quiet": "it only says less"}
ENGINE = {"engine": "who computes it makes no difference: see test_ray.py"}

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A function that makes a run, and its arguments.

    changed: another value of each; or the arguments that both calls differ in from these. elsewhere:
    arguments that need not be on record, and why.
    """

    function: Callable[..., Any]
    arguments: Arguments
    changed: dict[str, Any | tuple[Arguments, Arguments]]
    elsewhere: dict[str, str] = field(default_factory=dict)


CALLS = {
    "ingest_images": Call(
        ingest_images,
        {"folder": "{pets}"},
        {
            "folder": "{pets}/images/train",
            "collection": "birds",
            "label": "species",
            "store": True,
            "max_pixels": 900,
        },
        QUIET,
    ),
    "ingest_image_bytes": Call(
        ingest_image_bytes,
        {"rows": [], "collection": "birds", "source": "here"},
        {"collection": "others", "source": "there", "max_pixels": 900},
        {"rows": "they are in memory: such a run is never replayed"},
    ),
    "ingest_texts": Call(
        ingest_texts,
        {"source": "{streets}", "text": "body", "delimiter": ";"},
        {
            "source": "{copy}",
            "text": "parity",
            "label": "parity",
            "sequence": "place",
            "collection": "roads",
            "format": (
                {"delimiter": None, "text": "{header}"},
                {"delimiter": None, "format": "tsv", "text": "{header}"},
            ),
            "delimiter": ({}, {"delimiter": ",", "text": "{header}"}),
            "encoding": "latin-1",
        },
        QUIET,
    ),
    "import": Call(
        import_file,
        {"source": "{matrix}", "match": "id", "space": "imported"},
        {
            "source": "{copied matrix}",
            "format": (
                {"source": "{results}", "space": None, "format": "json"},
                {"source": "{results}", "space": None, "format": "coco-results"},
            ),
            "parts": ({"source": "{store}"}, {"source": "{store}", "parts": ["embeddings/b"]}),
            "space": "imported too",
            "metric": "l2",
            "collection": "pets",
            "match": "sequence",
            "model": "minilm",
            "ids": (
                {"source": "{npy}", "ids": "{ids}"},
                {"source": "{npy}", "ids": "{other ids}"},
            ),
            "id": "other",
            "text": "note",
            "vector": "more",
            "images": (
                {"source": "{results}", "space": None},
                {"source": "{results}", "space": None, "images": "{instances}"},
            ),
            "dtype": "float64",
        },
        QUIET,
    ),
    "annotate": Call(
        annotate,
        {
            "collection": "pets",
            "format": "yolo",
            "folder": "{pets}",
            "classes": "{pets}/data.yaml",
        },
        {
            "collection": "more pets",
            "format": ({}, {"format": "coco", "classes": None}),
            "folder": (
                {"labels": "{pets}/labels"},
                {"labels": "{pets}/labels", "folder": "{pets}/images"},
            ),
            "labels": "{pets}/labels",
            "classes": "{pets}/swapped.yaml",
            "split": "test",
        },
        QUIET,
    ),
    "embed pixels": Call(
        embed,
        {"model": "pixels", "collection": "pets", "space": "new"},
        {
            "model": ({}, {"model": "tfidf", "collection": "streets"}),
            "collection": None,
            "space": "newer",
            "batch_size": 2,
            "size": 5,
        },
        {
            **QUIET,
            **ENGINE,
            "device": "what it comes to is recorded as the device and the computation",
            "checkpoint": "of networks: see tests/vision",
            "title": "of texts' models: see test_embed_llm_models.py",
            **dict.fromkeys(("dimensions", "max_features", "seed"), "of tfidf"),
        },
    ),
    "embed tfidf": Call(
        embed,
        {"model": "tfidf", "collection": "streets", "space": "new"},
        {"dimensions": 4, "max_features": 10, "seed": 1},
        dict.fromkeys(
            (
                "model",
                "collection",
                "space",
                "batch_size",
                "size",
                "quiet",
                "device",
                "checkpoint",
                "title",
                "engine",
            ),
            "as of pixels",
        ),
    ),
    "neighbors": Call(
        neighbors,
        {"spaces": ["points"]},
        {"spaces": ["others"], "k": 7, "within": SOME},
        QUIET | ENGINE,
    ),
    "index": Call(
        index,
        {"spaces": ["points"], "engine": "hnsw"},
        {
            "spaces": ["others"],
            "engine": "ivf",
            "m": 5,
            "ef_construction": 50,
            "lists": ({"engine": "ivf"}, {"engine": "ivf", "lists": 3}),
            "recall": 0.97,
            "min_recall": 0.9,
            "threads": ({"threads": 1}, {"threads": 2}),
            "seed": 1,
        },
        QUIET,
    ),
    "cluster_spaces": Call(
        cluster_spaces,
        {"spaces": ["points"]},
        {
            "spaces": ["others"],
            "min_cluster_size": 7,
            "min_samples": 3,
            "downsample": 2,
            "within": SOME,
            "selection": "leaf",
            "epsilon": 0.5,
            "neighbors": "graph",
        },
        QUIET,
    ),
    "cluster_levels": Call(
        cluster_levels,
        {"spaces": ["points"]},
        {
            "spaces": ["others"],
            "levels": 2,
            "seed_rules": True,
            "downsample": 2,
            "within": SOME,
            "neighbors": "graph",
        },
        QUIET,
    ),
    "cluster_topics": Call(
        cluster_topics,
        {"spaces": ["points"]},
        {
            "spaces": ["others"],
            "min_cluster_size": 7,
            "min_samples": 3,
            "n_neighbors": 9,
            "noise_level": 0.2,
            "seed": 1,
            "downsample": 2,
            "within": SOME,
        },
        QUIET,
    ),
    "cluster_losses": Call(
        cluster_losses,
        {"run_id": "{losses}"},
        {
            "run_id": "{more losses}",
            "component": "box",
            "symmetrize": "max",
            "min_cluster_size": 7,
            "min_samples": 3,
            "selection": "leaf",
            "epsilon": 0.5,
        },
    ),
    "assign": Call(
        assign, {"clustering_run": "{cluster}"}, {"clustering_run": "{more cluster}"}, QUIET
    ),
    "project_space": Call(
        project_space,
        {"space": "points"},
        {
            "space": "others",
            "method": "pca",
            "n_components": 3,
            "n_neighbors": 7,
            "min_dist": 0.3,
            "perplexity": ({"method": "tsne"}, {"method": "tsne", "perplexity": 9.0}),
            "random_state": 1,
            "neighbors": "graph",
            "within": SOME,
            "name": ({"n_components": 3}, {"n_components": 3, "name": "new"}),
        },
        QUIET,
    ),
    "place": Call(
        place,
        {"map_run": "{map}"},
        {"map_run": "{more map}"},
        {**QUIET, "space": "it only refuses a map of another"},
    ),
    "label_clusters": Call(
        label_clusters,
        {"cluster_run": "{topics}"},
        {
            "cluster_run": "{more topics}",
            "level": 1,
            "min_size": 3,
            "reading": Reading(seed=1),
        },
        {**QUIET, "asking": "see test_replay_names.py"},
    ),
    "evaluate": Call(
        evaluate,
        {"spaces": ["points"], "label": "side", "ks": [1, 3]},
        {
            "spaces": ["others"],
            "label": "part",
            "target": ({}, {"label": None, "target": "label:number"}),
            "ks": [1],
            "weightings": ["uniform"],
            "temperature": 0.1,
            "folds": 3,
            "group_by": ({"folds": 2}, {"folds": 2, "group_by": "label:part"}),
            "within": "select id from items where id between 1000 and 1030",
            "seed": 1,
        },
        {**QUIET, "detect_run": "of a detector: see tests/vision"},
    ),
    "find": Call(
        find,
        {
            "space": "points",
            "kinds": ["duplicates", "label_errors", "leaks"],
            "label": "side",
            "split": "part",
        },
        {
            "space": "others",
            "kinds": ["label_errors", "leaks"],
            "label": "part",
            "split": "number",
            "threshold": 0.5,
            "k": 5,
            "within": SOME,
            "clustering": (
                {
                    "kinds": ["cluster_outliers"],
                    "label": None,
                    "split": None,
                    "clustering": "{outliers}",
                },
                {
                    "kinds": ["cluster_outliers"],
                    "label": None,
                    "split": None,
                    "clustering": "{more outliers}",
                },
            ),
            "weighting": "distance",
            "temperature": ({"weighting": "softmax"}, {"weighting": "softmax", "temperature": 0.2}),
        },
        QUIET,
    ),
}


@dataclass(frozen=True)
class World:
    """The file, and what arguments mean by `{name}`."""

    db: dbapi.Connection
    named: dict[str, Any]

    def meant(self, arguments: Arguments) -> Arguments:
        return {name: self._meant(value) for name, value in arguments.items()}

    def _meant(self, value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith("{"):
            return value
        name, _, rest = value[1:].partition("}")
        return f"{self.named[name]}{rest}" if rest else self.named[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("arguments")
    path = folder / "arguments.db"
    connection.create(path).close()
    db = connection.connect(path)
    from_files(db, folder, {})
    points = blobs(60)
    for space in ("points", "others", "grows"):
        add_points(db, space, points, 1000)
    ingest_images(db, folder / "pets", collection="more pets")
    coco(folder / "pets")
    (folder / "copy.csv").write_text((folder / "streets.csv").read_text("utf-8"), "utf-8")
    named: dict[str, Any] = {
        **importable(folder),
        "pets": folder / "pets",
        "streets": folder / "streets.csv",
        "copy": folder / "copy.csv",
        "header": "body;parity;place;square",
        "losses": loss_distances(db),
        "more losses": loss_distances(db),
        "topics": add_topics(db).run_id,
        "more topics": add_topics(db).run_id,
    }
    add_labels(db, range(1000, 1060))
    for prefix in ("", "more "):
        options = {"min_cluster_size": 4 + len(prefix)}
        named[f"{prefix}cluster"] = cluster_spaces(db, ["grows"], **options)[0].run_id
        named[f"{prefix}outliers"] = cluster_spaces(db, ["points"], **options)[0].run_id
        named[f"{prefix}map"] = project_space(db, "grows", method="pca").run_id
    add_points(db, "grows", blobs(70)[60:], 1060)
    yield World(db, named)
    db.close()


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        pytest.param(name, argument, id=f"{name}: {argument}")
        for name, call in CALLS.items()
        for argument in call.changed
    ],
)
def test_an_argument_is_on_record(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, argument: str
) -> None:
    call = CALLS[name]
    value = call.changed[argument]
    one, other = value if isinstance(value, tuple) else ({}, {argument: value})
    records = [
        record(world.db, monkeypatch, call.function, world.meant({**call.arguments, **arguments}))
        for arguments in (one, other)
    ]
    assert records[0] != records[1]


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_is_tried(name: str) -> None:
    call = CALLS[name]
    arguments = set(inspect.signature(call.function).parameters) - {"db"}
    assert arguments == {*call.changed, *call.elsewhere}
