"""A clustering of texts whose topics are known, as `nearsql cluster` writes one, for tests of its names."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi

# Two levels: what the texts of each topic are made of.
TOPICS = {
    "pets": {
        "cats": ["kitten", "purring", "whiskers", "meowing", "litterbox", "feline"],
        "dogs": ["puppy", "barking", "leash", "walkies", "kennel", "canine"],
    },
    "food": {
        "soup": ["broth", "ladle", "noodles", "simmering", "lentils", "bouillon"],
        "cake": ["icing", "frosting", "oven", "sponge", "sugar", "candles"],
    },
}
_COMMON = {"pets": ["animal", "vet"], "food": ["kitchen", "recipe"]}


@dataclass(frozen=True)
class Topics:
    """run_id: of the clustering. clusters: id by topic."""

    run_id: int
    clusters: Mapping[str, int]


def topic_text(group: str, topic: str, draw: random.Random) -> str:
    words = [*draw.sample(TOPICS[group][topic], 3), draw.choice(_COMMON[group])]
    draw.shuffle(words)
    return "the " + " and the ".join(words)


def add_topics(db: dbapi.Connection, each: int = 12, seed: int = 0) -> Topics:
    """Items of all topics, `each` of every one, clustered in two levels; and one item that is noise."""
    draw = random.Random(seed)
    of_topic: dict[str, list[int]] = {}
    with immediate(db):
        item = db.execute("select coalesce(max(id), 0) from items").fetchone()[0]
        for group, topics in TOPICS.items():
            for topic in topics:
                for _ in range(each):
                    item += 1
                    _insert(db, item, topic_text(group, topic, draw))
                    of_topic.setdefault(topic, []).append(item)
        _insert(db, item + 1, "nothing in particular")
    with run(db, "cluster", parameters={"method": "tests"}) as current, immediate(db):
        clusters: dict[str, int] = {}
        for n, (group, topics) in enumerate(TOPICS.items()):
            members = [i for topic in topics for i in of_topic[topic]]
            clusters[group] = add_cluster(db, current.id, 1, n, members)
            for topic in topics:
                clusters[topic] = add_cluster(
                    db, current.id, 2, len(clusters), of_topic[topic], clusters[group]
                )
        for level in (1, 2):
            db.execute(
                "insert into memberships (run_id, level, item_id) values (?, ?, ?)",
                (current.id, level, item + 1),
            )
    return Topics(current.id, clusters)


def add_cluster(
    db: dbapi.Connection,
    run_id: int,
    level: int,
    label: int,
    members: Sequence[int],
    parent: int | None = None,
) -> int:
    """One cluster with its memberships; earlier members are surer."""
    cluster = db.execute(
        "insert into clusters (run_id, level, label, parent_id, size, exemplar_item_id)"
        " values (?, ?, ?, ?, ?, ?)",
        (run_id, level, label, parent, len(members), members[0]),
    ).lastrowid
    assert cluster is not None
    db.executemany(
        "insert into memberships (run_id, level, item_id, cluster_id, probability)"
        " values (?, ?, ?, ?, ?)",
        [(run_id, level, item, cluster, max(0.0, 1 - n / 1000)) for n, item in enumerate(members)],
    )
    return cluster


def _insert(db: dbapi.Connection, item: int, text: str) -> None:
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'topics', ?, ?, ?)",
        (item, f"{item:064x}", text, item),
    )
