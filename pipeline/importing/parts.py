"""What a source of an import holds: parts, each a stream of rows; and the options that say how to read it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Id = int | str
Holding = Literal["vectors", "points", "losses", "metrics", "predictions"]

# How an id of the source names an item: see items.py.
MATCHES = ("name", "new", "id", "sequence", "uri", "metadata:KEY", "label:NAME")
DTYPES = ("float32", "float64")
METRICS = ("cosine", "l2", "ip")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    """One for all rows: most have but a vector."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Options:
    """How a source is to be read; None is the kind's own default.

    ids: a file with the ids of a matrix, in its order. id, text, vector: names of columns. images: the
    COCO instances file whose images a results file means. dtype: of BLOBs of bare numbers.
    """

    ids: str | None = None
    id: str | None = None
    text: str | None = None
    vector: str | None = None
    images: str | None = None
    dtype: str = "float32"

    def as_parameters(self) -> dict[str, Any]:
        """As a run records them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Detection:
    """One prediction as a results file has it. box: x, y, width, height. outline: JSON, None for none."""

    class_id: int
    score: float
    box: tuple[float, float, float, float]
    outline: str | None


@dataclass(slots=True)
class Row:
    """What a source says of one item.

    place: where it stands there. vector: float32 little-endian. is_rounded: a number of it was no float32.
    losses: by component, None where undefined. problem: why it cannot be taken, in a sentence.
    """

    id: Id
    place: str
    vector: bytes | None = None
    is_rounded: bool = False
    point: tuple[float, float] | None = None
    text: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=_nothing)
    losses: Mapping[str, float | None] = field(default_factory=_nothing)
    metrics: Mapping[str, Any] = field(default_factory=_nothing)
    detections: Sequence[Detection] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One table, collection or run of a source; what becomes one run of the import.

    rows: called anew for each reading, always in the same order. dimensions: of its vectors; None when
    it has none. parameters: what the source itself records of how this was made.
    """

    name: str
    holds: tuple[Holding, ...]
    rows: Callable[[], Iterator[Row]]
    n_rows: int
    dimensions: int | None = None
    space_kind: Literal["embedding", "projection", "metric"] = "embedding"
    metric: str | None = None
    model: str | None = None
    has_texts: bool = False
    collection: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    class_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to import from, held open. files: path and SHA-256 of all files that it consists of."""

    path: str
    kind: str
    sha256: str
    parts: Sequence[Part]
    packages: tuple[str, ...] = ()
    others: Mapping[str, str] = field(
        default_factory=dict
    )  # further files it was read with: SHA-256
