"""What is read of the clusters of a level before any is named: members, words, and what to judge by."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nearsql.pipeline.console import progress
from nearsql.pipeline.label.clusters import (
    Cluster,
    Members,
    Mix,
    beside,
    draw_members,
    mix_held_out,
)
from nearsql.pipeline.label.contents import Content, read_contents
from nearsql.pipeline.label.keywords import LevelKeywords, level_keywords
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Reading:
    """How clusters are read; all of it is recorded with the run.

    read: how many members of a cluster. held_out: how many others are kept back. characters: of a text.
    label_names: which labels of images, None for all.
    """

    seed: int = 42
    read: int = 300
    held_out: int = 10
    characters: int = 2000
    label_names: tuple[str, ...] | None = None


DEFAULT_READING = Reading()


@dataclass(frozen=True, slots=True)
class Level:
    """The clusters of one level with what was read of them; all lists are in the order of `clusters`."""

    clusters: list[Cluster]
    members: list[Members]
    words: LevelKeywords
    mixes: list[Mix]
    named: list[int]  # the places of those to be named
    empty: frozenset[int]  # items in which there is nothing to read

    def beside(self, place: int) -> list[int]:
        """The places of the clusters that this one is to be told from."""
        return beside(self.clusters, place)

    def siblings(self) -> list[list[int]]:
        """The places of the clusters to be named, by parent."""
        found: dict[int | None, list[int]] = {}
        for place in self.named:
            found.setdefault(self.clusters[place].parent_id, []).append(place)
        return list(found.values())


class ContentsHash:
    """The SHA-256 of all that is read, so that a replay can tell whether it is still the same."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def watching(self, contents: Iterator[Content]) -> Iterator[Content]:
        """The contents, which are counted in as they pass."""
        for content in contents:
            self._digest.update(repr(content).encode("utf-8", "backslashreplace"))
            yield content

    def hexdigest(self) -> str:
        """Of what has passed."""
        return self._digest.hexdigest()


def read_level(
    db: dbapi.Connection,
    clusters: Sequence[Cluster],
    min_size: int,
    reading: Reading,
    contents_hash: ContentsHash,
    *,
    quiet: bool = True,
) -> Level:
    """Draws members of each of the clusters of one level, and reads them.

    Those of fewer than min_size members get no name; the others are told from them all the same.
    """
    members = [
        draw_members(db, cluster, reading.seed, reading.read, reading.held_out)
        for cluster in clusters
    ]
    wanted = np.unique(np.concatenate([ids for m in members for ids in (m.read, m.held_out)]))
    empty: set[int] = set()

    found = read_contents(
        db, wanted.tolist(), characters=reading.characters, label_names=reading.label_names
    )

    def contents() -> Iterator[Content]:
        with progress("items read", len(wanted), quiet=quiet) as bar:
            for content in contents_hash.watching(found):
                if content.is_empty:
                    empty.add(content.item_id)
                bar.advance()
                yield content

    words = level_keywords(contents(), [m.read for m in members])
    mixes = []
    for place, cluster in enumerate(clusters):
        others = beside(clusters, place)
        alike = [members[i] for i in words.nearest(place, others, len(others))]
        mixes.append(mix_held_out(cluster, members[place], alike, reading.seed))
    named = [place for place, cluster in enumerate(clusters) if cluster.size >= min_size]
    return Level(list(clusters), members, words, mixes, named, frozenset(empty))
