"""Two spaces: how far they agree on each item's neighbours, and whose neighbours changed most."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import command_line, progress, say
from nearsql.pipeline.diff.compared import Asked, Rows
from nearsql.pipeline.estimate import duration_in_words
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.search.stored_graph import graph_run
from nearsql.udfs.space_overlap import Compared, compared_items, jaccard, shared_neighbors
from nearsql.udfs.spaces import Space, find_space

_K = 10
# Shorter work needs no forecast.
_SECONDS_WORTH_SAYING = 5.0
_SAMPLE = 256  # queries timed for the forecast


@dataclass(frozen=True, slots=True, eq=False)
class SpaceDiff:
    """Two spaces over the items that both hold. shared, (n,): of each item's k neighbours, how many are
    the same in both."""

    asked: Asked
    compared: Compared
    shared: NDArray[np.int64]

    dull: ClassVar[Mapping[str, str | None]] = {"uri": None, "text": None}

    @property
    def title(self) -> str:
        return f"space {self.compared.a.name} and space {self.compared.b.name}"

    def rows(self, db: dbapi.Connection) -> Rows:
        """A row for each number of shared neighbours that there is, with the items that share so many."""
        shared, items = np.unique(self.shared, return_counts=True)
        return ["shared", "overlap", "jaccard", "items", "share"], zip(
            shared.tolist(),
            (shared / self.compared.k).tolist(),
            jaccard(shared, self.compared.k).tolist(),
            items.tolist(),
            (items / len(self.shared)).tolist(),
            strict=True,
        )

    def items(self, db: dbapi.Connection) -> Rows:
        """A row for each item whose neighbours differ, those that share fewest first."""
        headers = ["item_id", "shared", "overlap", "jaccard", "uri", "text"]
        return headers, self._differing(db)

    def facts(self, db: dbapi.Connection) -> dict[str, Any]:
        compared, overlap = self.compared, self.shared / self.compared.k
        n, k = len(self.shared), compared.k
        facts: dict[str, Any] = {"items in both": n}
        for only, space in ((compared.only_a, compared.a), (compared.only_b, compared.b)):
            if only:
                facts[f"only in {space.name}"] = only
        if self.asked.within is not None:
            facts["within"] = self.asked.within
        return facts | {
            "neighbours": f"{k:,} of each item" + (", all others" if k == n - 1 else ""),
            "overlap": f"{overlap.mean():.4f} in the mean, {np.median(overlap):.4f} in the middle;"
            f" by chance {k / (n - 1):.4f}",
            "jaccard": f"{jaccard(self.shared, k).mean():.4f} in the mean",
            "the same": f"{int((self.shared == k).sum()):,} items have the same neighbours in both",
            "none": f"{int((self.shared == 0).sum()):,} items have no neighbour in both",
            "vectors": f"{_vectors(compared.a)} -> {_vectors(compared.b)}",
        }

    def next_step(self, file: str, items: bool) -> str | None:
        if items or bool((self.shared == self.compared.k).all()):
            return None
        words: list[object] = ["nearsql", "diff", file, self.compared.a.name, self.compared.b.name]
        return command_line(*words, *self.asked.words(), "--items")

    def _differing(self, db: dbapi.Connection) -> Iterator[tuple[Any, ...]]:
        k = self.compared.k
        order = np.argsort(self.shared, kind="stable")
        order = order[self.shared[order] < k]
        similarity = jaccard(self.shared, k)
        for place in order.tolist():
            item, shared = int(self.compared.items[place]), int(self.shared[place])
            what = db.execute(
                "select uri, substr(content, 1, 200) from items where id = ?", (item,)
            ).fetchone()
            yield item, shared, shared / k, float(similarity[place]), *what


def compare(db: dbapi.Connection, a: str, b: str, asked: Asked, quiet: bool = True) -> SpaceDiff:
    """Compares the nearest neighbours of every item in two spaces. quiet: no forecast, no progress."""
    asked.refuse_others("spaces", ("k", "within"))
    one, other = find_space(db.apsw, a), find_space(db.apsw, b)
    compared = compared_items(db.apsw, one, other, asked.k or _K, asked.within)
    if not quiet:
        _forecast(db, compared)
    n = len(compared.items)
    with progress(f"neighbours in {a} and {b}", 2 * n, quiet=quiet) as bar:
        blocks = shared_neighbors(db.apsw, compared, advance=bar.advance)
        shared = np.concatenate([found for _, found in blocks])
    return SpaceDiff(asked, compared, shared)


def _forecast(db: dbapi.Connection, compared: Compared) -> None:
    """Says how long it will take when that is long, by a sample of the items."""
    seconds = 0.0
    for space, is_whole in ((compared.a, compared.of_a), (compared.b, compared.of_b)):
        if is_whole and graph_run(db.apsw, space, compared.k) is not None:
            continue
        try:
            matrix = load_matrix(db.apsw, space)
        except TooLarge as error:
            say(f"the vectors are read from the file over and over, which takes longer: {error}")
            continue
        n = len(compared.items)
        sample = matrix.positions(compared.items[:: max(1, n // _SAMPLE)])
        nearest(
            matrix, matrix.vectors[:1], compared.k
        )  # what the first search alone has to prepare
        start = time.perf_counter()
        nearest(matrix, matrix.vectors[sample], compared.k, exclude=matrix.ids[sample])
        # Among the compared items only, and not all of the space.
        part = n / max(1, len(matrix.ids))
        seconds += (time.perf_counter() - start) * n / len(sample) * part
    if seconds >= _SECONDS_WORTH_SAYING:
        say(f"{len(compared.items):,} items in both, about {duration_in_words(seconds)}")


def _vectors(space: Space) -> str:
    return f"{space.dimensions:,} dimensions, {space.metric}"
