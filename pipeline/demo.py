"""The demo: real digits with planted flaws, from images to clusters, a map and findings, and what SQL says.

Everything it knows it asks with the named questions of schema/queries/, and shows the SQL it asked.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.digits import FLIPPED, NEAR_DUPLICATES, OUTLIERS, planted_digits
from nearsql.pipeline.embed import embed
from nearsql.pipeline.evaluate import evaluate
from nearsql.pipeline.find import find
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.pipeline.label import label_clusters
from nearsql.pipeline.label.levels import Reading
from nearsql.pipeline.output import column_names
from nearsql.pipeline.project import project_space
from nearsql.schema import query_files
from nearsql.udfs import dbapi

COLLECTION, SPACE, LABEL = "digits", "digits/pixels", "digit"
MIN_CLUSTER_SIZE, MIN_SAMPLES = 20, 5

Row = Sequence[Any]


@dataclass(frozen=True)
class Finding:
    """The answer to one question: the SQL as a person can run it, some rows, and a score."""

    title: str
    sql: str
    headers: list[str]
    rows: list[Row]
    verdict: str


def build(db: dbapi.Connection, *, method: str = "umap", quiet: bool = True) -> dict[str, Any]:
    """Ingests, embeds, clusters and projects the digits; gives the facts by step, for the summary."""
    images: Iterator[tuple[str, bytes, dict[str, str], dict[str, Any]]] = (
        (d.uri, d.png, d.labels, {}) for d in planted_digits()
    )
    ingested = ingest_image_bytes(
        db, images, collection=COLLECTION, source="scikit-learn load_digits"
    )
    embedded = embed(db, "pixels", collection=COLLECTION, size=8, quiet=quiet)
    clustered = cluster_spaces(
        db, [SPACE], min_cluster_size=MIN_CLUSTER_SIZE, min_samples=MIN_SAMPLES
    )
    projected = project_space(db, SPACE, method=method)
    clusters = clustered[0]
    noise = float(clusters.counts["noise_share"])
    return {
        "images": f"{ingested.counts['new']:,} (run {ingested.run_id})",
        "vectors": f"{embedded.dimensions} dimensions in {SPACE} (run {embedded.run_id})",
        "clusters": f"{clusters.counts['clusters']}, noise {noise:.0%} (run {clusters.run_id})",
        "map": f"{method} (run {projected.run_id})",
    }


def judge(db: dbapi.Connection, clusters: int) -> dict[str, Any]:
    """Names the clusters of a run, scores the space, and stores what looks wrong, for the browser's pages."""
    named = label_clusters(db, clusters, reading=Reading(label_names=(LABEL,)))
    scored = evaluate(db, [SPACE], label=LABEL, ks=[1, 3, 5, 10, 20])
    found = find(db, SPACE, label=LABEL)
    (findings,) = db.execute(
        "select count(*) from findings where run_id = ?", (found.run_id,)
    ).fetchone()
    return {
        "names": f"{named.counts['named']} clusters (run {named.run_id})",
        "evaluation": f"the label {LABEL} by neighbours (run {scored.run_id})",
        "findings": f"{findings} (run {found.run_id})",
    }


def questions(db: dbapi.Connection) -> Iterator[Finding]:
    """What a person would ask first of a new collection, and how well the answers match the truth."""
    planted = _planted(db)
    yield _ask(
        db,
        "What is near item 1?",
        "nearest_items",
        {"space": SPACE, "item": 1, "k": 5},
        lambda rows: "five nearest neighbours, exact",
    )
    run = db.execute("select max(run_id) from memberships").fetchone()[0]
    yield _ask(
        db,
        "What groups are there?",
        "clusters_of_run",
        {"run": run},
        lambda rows: _noise_sentence(db, run),
    )
    yield _ask(
        db,
        "Which labels look wrong?",
        "wrong_labels",
        {"space": SPACE, "label": LABEL, "k": 10},
        lambda rows: _score(
            f"{FLIPPED} labels were flipped",
            planted["flipped label"],
            [row[0] for row in rows],
            [row[0] for row in rows if row[4]],
            30,
        ),
    )
    yield _ask(
        db,
        "What is there twice?",
        "duplicates_of_space",
        {"space": SPACE},
        lambda rows: _score(
            f"{NEAR_DUPLICATES} near-duplicates were planted",
            planted["near-duplicate"],
            [row[0] for row in rows],
            [row[0] for row in rows],
            NEAR_DUPLICATES,
        ),
    )
    yield _ask(
        db,
        "What belongs nowhere?",
        "outliers_of_space",
        {"space": SPACE, "k": 10},
        lambda rows: _score(
            f"{OUTLIERS} outliers were planted",
            planted["outlier"],
            [row[0] for row in rows],
            [row[0] for row in rows if row[3]],
            20,
        ),
    )


def _score(
    what: str, planted: set[int], ranked: Sequence[int], found: Sequence[int], head: int
) -> str:
    """How many of the planted items are at the head of the ranking, and among those that count as found."""
    at_head, hits = len(planted & set(ranked[:head])), len(planted & set(found))
    precision = f"{hits / len(found):.0%}" if found else "undefined"
    return (
        f"{what}: {at_head} of them are among the first {min(head, len(ranked))} rows."
        f" {len(found)} rows count as found: precision {precision}, recall {hits / len(planted):.0%}"
    )


def _ask(
    db: dbapi.Connection,
    title: str,
    name: str,
    parameters: dict[str, Any],
    verdict: Callable[[list[Row]], str],
) -> Finding:
    (file,) = (f for f in query_files() if f.name == f"{name}.sql")
    sql = file.read_text(encoding="utf-8").strip()
    cursor = db.execute(sql, parameters)
    rows = cursor.fetchall()
    return Finding(title, with_values(sql, parameters), column_names(cursor), rows, verdict(rows))


def with_values(sql: str, parameters: dict[str, Any]) -> str:
    """The question with its parameters written in, to be pasted into any of the tools."""
    for name, value in parameters.items():
        literal = (
            str(value) if isinstance(value, int | float) else "'" + value.replace("'", "''") + "'"
        )
        sql = sql.replace(f"cast(:{name} as integer)", literal)
        sql = sql.replace(f"cast(:{name} as real)", literal)
        sql = sql.replace(f":{name}", literal)
    return sql


def _planted(db: dbapi.Connection) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for item_id, kind in db.execute(
        "select item_id, value from item_labels where name = 'planted'"
    ):
        found.setdefault(kind, set()).add(item_id)
    return found


def _noise_sentence(db: dbapi.Connection, run: int) -> str:
    counts = json.loads(
        db.execute("select counts_json from runs where id = ?", (run,)).fetchone()[0]
    )
    return ", ".join(f"{name} {value}" for name, value in counts.items())
