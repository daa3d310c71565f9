"""One small file with a run of every kind that needs no network of neurons, for tests of replays."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import YAML, pets
from topics import add_cluster, add_topics

from nearsql.pipeline import runs as pipeline_runs
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
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.pipeline.label import label_clusters
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.place import place
from nearsql.pipeline.project import project_space
from nearsql.pipeline.replay import Replay
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

# Not ASCII, so that an encoding tells.
_TEXT = "Straße {0} führt über die Brücke {1} nach Süden"


@dataclass(frozen=True)
class Replayed:
    """The file, open, and the id of each run by what it is called here."""

    db: dbapi.Connection
    runs: Mapping[str, int]

    def parameters(self, name: str) -> dict[str, Any]:
        """What the run has on record."""
        (text,) = self.db.execute(
            "select parameters_json from runs where id = ?", (self.runs[name],)
        ).fetchone()
        found: dict[str, Any] = json.loads(text)
        return found

    @contextmanager
    def recorded(self, name: str, parameters: Mapping[str, Any], **columns: Any) -> Iterator[int]:
        """The run's id, while its record says this instead."""
        values = {"parameters_json": json.dumps(parameters, sort_keys=True), **columns}
        names = list(values)
        sets = ", ".join(f"{column} = ?" for column in names)
        before = self.db.execute(
            f"select {', '.join(names)} from runs where id = ?", (self.runs[name],)
        ).fetchone()
        self.db.execute(f"update runs set {sets} where id = ?", (*values.values(), self.runs[name]))
        self.db.commit()
        try:
            yield self.runs[name]
        finally:
            self.db.execute(f"update runs set {sets} where id = ?", (*before, self.runs[name]))
            self.db.commit()


class Stopped(Exception):
    """The run is recorded; there is no need to do the work."""


def record(
    db: dbapi.Connection,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
) -> tuple[Any, ...]:
    """What the run that the function makes has on record when it begins."""
    found: list[tuple[Any, ...]] = []

    def started(run_id: int, db: dbapi.Connection, *args: Any) -> None:
        found.append(
            db.execute(
                "select r.kind, r.parameters_json, r.seed, r.device, m.parameters_json from runs r"
                " left join models m on m.id = r.model_id where r.id = ?",
                (run_id,),
            ).fetchone()
        )
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(pipeline_runs, "Run", started)
        with pytest.raises(Stopped):
            function(db, **arguments)
    return found[0]


def leaves(parameters: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The names of all parameters, those of objects within joined by dots."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name


def changed(parameters: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The parameters with another value at the path."""
    name, _, rest = path.partition(".")
    if rest:
        return {**parameters, name: changed(parameters[name], rest, value)}
    new = value(parameters) if callable(value) else value
    assert new != parameters[name], f"{path} is {new!r} already"
    return {**parameters, name: new}


def nothing_differs(outcome: Replay) -> bool:
    return outcome.is_same and outcome.different_rows == 0


def blobs(n: int = 150) -> np.ndarray:
    """Groups within groups, some tight, and points between them: (n, 6) float32."""
    draw = np.random.default_rng(4)
    far = draw.normal(size=(3, 1, 6)) * 6
    near = far + draw.normal(size=(3, 3, 6)) * 1.2
    of_group = near.reshape(9, 6)[np.arange(n) % 9]
    spread = np.where(np.arange(n) % 11 == 0, 2.5, 0.35)
    return (of_group + draw.normal(size=(n, 6)) * spread[:, None]).astype("<f4")


def add_points(
    db: dbapi.Connection, space: str, vectors: np.ndarray, first_item: int, metric: str = "l2"
) -> None:
    """A space of these vectors, an item each."""
    space_id = db.execute(
        "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, ?)"
        " on conflict (name) do update set name = excluded.name returning id",
        (space, vectors.shape[1], metric),
    ).fetchone()[0]
    for item, vector in enumerate(vectors, first_item):
        db.execute(
            "insert or ignore into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', ?, ?, ?, ?)",
            (item, space, f"{item:064x}", f"text {item}", item),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
            (space_id, item, vector.tobytes()),
        )
    db.commit()


def add_labels(db: dbapi.Connection, items: range) -> None:
    """Three labels of each item, which have nothing to do with where it lies."""
    labels = [
        (item, name, value)
        for item in items
        for name, value in (
            ("side", "left" if item % 2 else "right"),
            ("part", str(item % 3)),
            ("number", str(item / 7)),
        )
    ]
    db.executemany(
        "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'tests')", labels
    )
    db.commit()


def build(folder: Path) -> Replayed:
    """Makes the file; runs are as they were recorded, but their records can be changed."""
    path = folder / "replayed.db"
    connection.create(path).close()
    db = connection.connect(path)
    runs: dict[str, int] = {}
    from_files(db, folder, runs)
    _imported(db, folder, runs)
    _clusters_and_maps(db, runs)
    _judgements(db, runs)
    _names(db, runs)
    # From here on a test may say that a run was made otherwise.
    db.execute("drop trigger runs_finished_never_change")
    db.commit()
    return Replayed(db, runs)


def from_files(db: dbapi.Connection, folder: Path, runs: dict[str, int]) -> None:
    """Images with annotations, and texts from a table; with a vector each."""
    root = pets(folder / "pets")
    runs["ingest images"] = ingest_images(db, root, collection="pets", label="part").run_id
    runs["annotate"] = annotate(
        db, "pets", "yolo", root, labels=root / "labels", classes=root / "data.yaml", split="val"
    ).run_id
    (root / "swapped.yaml").write_text(YAML.replace("cat, dog", "dog, cat"))
    made = embed(db, "pixels", collection="pets", size=3)
    runs["embed pixels"] = made.run_id or 0
    table = folder / "streets.csv"
    lines = [
        f"{_TEXT.format(n, n % 7)};{'odd' if n % 2 else 'even'};{100 + 2 * n};{n * n}"
        for n in range(24)
    ]
    table.write_text("\n".join(["body;parity;place;square", *lines]), "utf-8")
    runs["ingest texts"] = ingest_texts(
        db,
        table,
        text="body",
        label="parity",
        sequence="place",
        collection="streets",
        format="csv",
        delimiter=";",
    ).run_id
    runs["embed tfidf"] = embed(db, "tfidf", collection="streets", dimensions=6).run_id or 0


def _imported(db: dbapi.Connection, folder: Path, runs: dict[str, int]) -> None:
    """Vectors of the texts, by their ids, from a table that other programs may have made."""
    items = [item for (item,) in db.execute("select id from items where collection = 'streets'")]
    lines = [
        ",".join(map(repr, [item, item + 1, *row]))
        for item, row in zip(items, blobs(len(items)).tolist(), strict=True)
    ]
    table = folder / "brought.csv"
    table.write_text("\n".join(["who,next,a,b,c,d,e,f", *lines]), "utf-8")
    (made,) = import_file(
        db, table, id="who", match="id", collection="streets", space="brought", model="theirs"
    )
    runs["import"] = made.run_id


def _clusters_and_maps(db: dbapi.Connection, runs: dict[str, int]) -> None:
    points = blobs()
    add_points(db, "points", points, 1000)
    runs["neighbors"] = neighbors(db, ["points"], k=4)[0].run_id or 0
    for engine in ("hnsw", "ivf", "vec0"):
        more = {"ivf": {"lists": 5}, "hnsw": {"m": 4, "ef_construction": 20}}.get(engine, {})
        made = index(db, ["points"], engine, threads=1, seed=3, **more)  # type: ignore[arg-type]
        runs[f"index {engine}"] = made[0].run_id or 0
    runs["cluster hdbscan"] = _only(
        cluster_spaces(db, ["points"], min_cluster_size=6, min_samples=3, downsample=2)
    )
    some = json.dumps(list(range(1000, 1100)))
    runs["cluster within"] = _only(
        cluster_spaces(db, ["points"], min_cluster_size=6, min_samples=3, within=some)
    )
    runs["cluster levels"] = _only(cluster_levels(db, ["points"], levels=2))
    runs["cluster topics"] = _only(cluster_topics(db, ["points"], min_cluster_size=6))
    runs["assign"] = assign(db, runs["cluster hdbscan"]).run_id or 0
    runs["cluster losses"] = cluster_losses(
        db, loss_distances(db), component="box", min_cluster_size=3, min_samples=3
    ).run_id
    add_points(db, "small", points[:60], 1000)
    for method in ("umap", "tsne", "pca"):
        options = {"umap": {"n_components": 3}, "tsne": {"perplexity": 9}}.get(method, {})
        made = project_space(db, "small", method=method, **options)  # type: ignore[arg-type]
        runs[f"project {method}"] = made.run_id
    add_points(db, "grows", points[:60], 1000)
    mapped = project_space(db, "grows", method="pca", n_components=3).run_id
    add_points(db, "grows", points[60:64], 1060)
    runs["place"] = place(db, mapped).run_id or 0


def _only(results: list[Any]) -> int:
    (result,) = results
    return int(result.run_id)


def loss_distances(db: dbapi.Connection) -> int:
    """A finished run of all pairs of 40 items, as `nearsql loss-distance` writes one, and no detector."""
    items = range(1000, 1040)
    points = blobs()
    draw = np.random.default_rng(1)
    parameters = {"pairs": "all", "components": ["box", "cls"]}
    model = db.execute(
        "insert into models (name, family) values ('detector', 'yolo')"
        " on conflict (name) do update set name = excluded.name returning id"
    ).fetchone()[0]
    db.commit()
    with run(db, "loss-distance", parameters=parameters, model_id=model) as current:
        rows = [
            (current.id, target, image, component, float(distance))
            for component in ("box", "cls")
            for target in items
            for image in items
            for distance in [
                np.linalg.norm(points[target - 1000] - points[image - 1000])
                * (1 + draw.random() / 4)
                + 0.1 * (component == "cls") * draw.random()
            ]
        ]
        db.executemany(
            "insert into loss_distances (run_id, target_item_id, image_item_id, component, distance)"
            " values (?, ?, ?, ?, ?)",
            rows,
        )
        db.commit()
    return current.id


def _judgements(db: dbapi.Connection, runs: dict[str, int]) -> None:
    add_labels(db, range(1000, 1060))
    add_points(db, "angles", blobs(60), 1000, "cosine")
    runs["evaluate"] = evaluate(
        db,
        ["angles"],
        label="side",
        ks=[1, 5],
        weightings=["uniform", "softmax"],
        folds=4,
        group_by="duplicates",
    ).run_id
    runs["evaluate a number"] = evaluate(
        db, ["angles", "small"], target="label:number", ks=[3], weightings=["distance"], folds=3
    ).run_id
    kinds = ["duplicates", "outliers", "label_errors", "leaks", "cluster_outliers"]
    runs["find"] = find(
        db,
        "points",
        kinds,
        label="side",
        split="part",
        weighting="distance",
        clustering=runs["cluster hdbscan"],
    ).run_id
    runs["find label errors"] = find(
        db, "angles", ["label_errors"], label="part", k=5, weighting="softmax"
    ).run_id


def _names(db: dbapi.Connection, runs: dict[str, int]) -> None:
    topics = add_topics(db)
    runs["label keywords"] = label_clusters(db, topics.run_id, min_size=2).run_id
    pictures = [item for (item,) in db.execute("select id from items where collection = 'pets'")]
    with run(db, "cluster", parameters={"method": "tests"}) as current, immediate(db):
        add_cluster(db, current.id, 1, 0, pictures)
    runs["label images"] = label_clusters(db, current.id).run_id
