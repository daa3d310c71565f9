"""Which index is asked for, and what came of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from nearsql.pipeline.index.recall import Effort
from nearsql.udfs.search.faiss_index import default_lists

Engine = Literal["hnsw", "ivf", "vec0"]
ENGINES: tuple[Engine, ...] = ("hnsw", "ivf", "vec0")
# Up to so many vectors the default is hnsw, above ivf: it is built sooner and opened piecemeal.
MOST_FOR_HNSW = 200_000


@dataclass(frozen=True, slots=True)
class Wish:
    """How an index is to be built: the arguments of `index` as they came."""

    engine: Engine | None
    m: int
    ef_construction: int
    lists: int | None
    recall: float
    min_recall: float
    threads: int
    seed: int

    def engine_for(self, n: int) -> Engine:
        """The engine for a space of n vectors."""
        return self.engine or ("hnsw" if n <= MOST_FOR_HNSW else "ivf")

    def parameters(self, engine: Engine, n: int) -> dict[str, Any]:
        """The effective parameters on which the bytes of the index and its efforts depend."""
        if engine == "hnsw":
            return {"m": self.m, "ef_construction": self.ef_construction, "recall": self.recall}
        if engine == "ivf":
            return {"lists": self.lists or default_lists(n), "recall": self.recall}
        return {}


@dataclass(frozen=True, slots=True)
class IndexResult:
    """A space's index: the run that made it, or None and why the space was skipped.

    is_new: made now, and not found with the same vectors and parameters. recall, search: by k.
    bytes: in the file. seconds: to build, without measuring.
    """

    space: str
    run_id: int | None
    is_new: bool = False
    index_id: int | None = None
    engine: str | None = None
    n: int = 0
    bytes: int = 0
    seconds: float = 0.0
    recall: dict[int, float] = field(default_factory=dict)
    search: dict[int, Effort] = field(default_factory=dict)
    min_recall: float = 0.0
    skipped: str | None = None

    @property
    def below_bar(self) -> dict[int, float]:
        """The recall, by k, that is too low for knn to search the index for so many."""
        return {k: found for k, found in self.recall.items() if found < self.min_recall}
