"""Arguments for SQL functions: right ones by the parameter's name, and hostile ones of every type."""

import json
import struct
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from nearsql.udfs.catalogue import SqlFunction


@dataclass(frozen=True, slots=True)
class NotUtf8:
    """A text that is not valid UTF-8, as `cast(x'ff' as text)` makes it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Zeros:
    """A BLOB of so many zeros, as `zeroblob` makes it."""

    length: int


def floats(*numbers: float) -> bytes:
    """A vector as a BLOB."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


NAN, INFINITY = float("nan"), float("inf")
INT64 = (-(2**63), -(2**63) + 1, 2**63 - 1, 2**53 + 1, 2**31, 2**32, -1, 0, 1, 2, 3, 47, 48, 49)

_SPACE = ("round", "flat", "product", "words/tfidf", "things", "")
_VECTOR = (
    floats(1, 2, 3, 4),
    floats(0, 0, 0, 0),
    "[1, 2, 3, 4]",
    "[6, 0, 0, 0]",
    floats(3e38, 1, 1, 1),
)
_ITEM = (1, 2, 48, 49, 1000)
_RUN = tuple(range(1, 11))
_K = (1, 2, 5, 47, 100, 1000)
_WITHIN = (
    None,
    "some",
    "[1, 2, 3, 4, 5, 6, 7, 8]",
    "[1]",
    "[]",
    "select id from items where id < 30",
    "values (1), (2), (3)",
    "with n(i) as (values (3)) select i from n",
    "select id from items limit 0",
    "select * from knn('round', 1, 5)",
)
_FLAG = (0, 1)
_NUMBER = (0.0, 0.5, 1.0, 2.5, -1.0, 1e-300, 1e300, 3)
_NEIGHBORS = ("auto", "exact", "approximate", "stored", "graph")
_LEVEL = (None, 1, 2, 3)
_MASK = (
    '{"size": [4, 5], "counts": [3, 2, 15]}',
    '{"size": [4, 5], "counts": "32c0"}',
    '{"size": [4, 5], "counts": [20]}',
    '{"size": [0, 0], "counts": []}',
    '{"size": [65536, 65536], "counts": [4294967296]}',
)
_LABEL = ("group", "split", "size", "a", "b", 1, 2.5, None)

# What a parameter may sensibly be. Each parameter of each function must be here.
SENSIBLE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("space", "space_a", "space_b", "other_space"), _SPACE),
    "query": (*_VECTOR, *_ITEM),
    "queries": (
        "[1, 2, 3]",
        "[[1, 2, 3, 4], [0, 0, 0, 1]]",
        "select item_id, vector from vectors where space_id = 1 limit 3",
        "select id from items limit 3",
        "[]",
    ),
    "k": _K,
    "other_k": (None, 1, 5),
    "within": _WITHIN,
    "exact": _FLAG,
    "engine": (None, "exact", "hnsw", "ivf", "vec0"),
    **dict.fromkeys(("run", "run_a", "run_b"), _RUN),
    "component": ("box", "cls", "dfl"),
    "item": _ITEM,
    "direction": ("from", "to", "both", "target", "image", "targets", "images"),
    "label": _LABEL,
    "distance": _NUMBER,
    "weighting": ("uniform", "distance", "softmax", "rank", None),
    "other_weighting": ("uniform", "distance", "softmax", None),
    "temperature": (0.01, 1.0, 100.0),
    "value": (*_VECTOR, *_NUMBER),
    "threshold": (None, 0.1, 1.0, 100.0),
    **dict.fromkeys(("y_true", "y_pred"), ("a", "b", 1, 2, 2.5, None)),
    "a": ("a", 1, None, *_VECTOR, *_MASK),
    "b": ("b", 2, None, *_VECTOR, *_MASK),
    "min_cluster_size": (2, 3, 5, 20, 1000),
    "min_samples": (None, 1, 2, 5, 100),
    "downsample": (1, 2, 3, 100),
    "selection": ("eom", "leaf"),
    "epsilon": (0.0, 0.5, 10.0),
    "neighbors": _NEIGHBORS,
    "vector": _VECTOR,
    "levels": (1, 2, 3, 4),
    "seed_rules": _FLAG,
    "sizes": ("[2, 5, 10]", "[5]", "2,5", "[]"),
    "n_neighbors": (2, 5, 15, 40),
    "noise_level": (0.0, 0.5, 1.0),
    "random_state": (0, 42, 2**32 - 1),
    "level": _LEVEL,
    "level_b": _LEVEL,
    "metric": ("l2", "cosine", "ip", "hit_freq", "mean_iou", "loss:box"),
    "tolerance": (0.0, 0.01, 1.0),
    "method": ("pca", "umap", "tsne"),
    "n_components": (2, 3, 8),
    "min_dist": (0.0, 0.1, 0.99),
    "perplexity": (2.0, 30.0),
    "text": ("the cat", "", "zzz"),
    "image": (b"\x89PNG", b"GIF89a", b"\xff\xd8\xff"),
    **dict.fromkeys(
        (f"{side}_{end}_{which}" for side in "xy" for end in ("min", "max") for which in "ab"),
        _NUMBER,
    ),
    "mask": _MASK,
}


def deep(bracket: str, depth: int) -> str:
    """JSON as deep as this: arrays, or objects."""
    closing = {"[": "]", '{"a":': "}"}[bracket]
    return bracket * depth + "1" * (bracket != "[") + closing * depth


_json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([1e400, 10**400, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)

JSON_TEXTS = st.one_of(
    _json_values.map(json.dumps),
    st.builds(deep, st.sampled_from(["[", '{"a":']), st.sampled_from([50, 900, 5000, 100_000])),
    st.sampled_from(
        [
            "[1,2,3,4",
            "[1,]",
            "[1 2]",
            "[1e999, 0, 0, 0]",
            "[NaN]",
            "[-Infinity, 1, 2, 3]",
            "[" + "9" * 5000 + "]",
            "[1.5]",
            "[true, false]",
            '["1"]',
            "[9223372036854775808]",
            "[-9223372036854775809, 1]",
            "[null]",
            "[" + "1," * 20000 + "1]",
            '[{"a": 1}]',
            '{"size": [2, -2], "counts": [4]}',
            '{"size": [2], "counts": [4]}',
            '{"size": [2, 2], "counts": [-1, 5]}',
            '{"size": [2, 2], "counts": [5]}',
            '{"size": [2, 2], "counts": "\\u00e9\\u0000"}',
            '{"size": [2, 2], "counts": "oooooooooooooooooooooooooooo"}',
            '{"size": [9223372036854775807, 9223372036854775807], "counts": [1]}',
            '{"size": [1.5, 2], "counts": [3]}',
            '{"counts": [3]}',
            '{"size": "ab", "counts": "1"}',
            '{"size": [4294967296, 4294967296], "counts": [0]}',
        ]
    ),
)

SQL_TEXTS = st.sampled_from(
    [
        "select",
        "select 1; select 2",
        "select null",
        "select 'x'",
        "select x'00'",
        "select 1.5",
        "select 9e99",
        "select 1, 2, 3",
        "select id, id from items",
        "delete from items",
        "with x as (select 1) delete from items",
        "select * from nowhere",
        "select ?",
        "select :a",
        "values ()",
        "select 1 --",
        "/* */ select 1 /*",
        "pragma user_version",
        "attach ':memory:' as x",
        "select load_extension('x')",
        "select readfile('/etc/passwd')",
        "select cast(x'ff' as text)",
        "select 1 from items, items, items, items limit 5",
        "select id from knn('round', 1, 3, 'select id from knn(''round'', 1, 3)')",
        "select item_id from knn_batch",
        "select id, vector from items",
        "select item_id, x'0000' from vectors",
        "select 1 union select 'a'",
        "select\0 1",
    ]
)

HOSTILE = st.one_of(
    st.none(),
    st.sampled_from(INT64),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from([NAN, INFINITY, -INFINITY, -0.0, 5e-324, 1.7e308, 3.5e38, 1.5, 2.0**63]),
    st.text(max_size=12),
    st.sampled_from(
        ["\0", "a\0b", "é" * 5000, "%s%n", "'; drop table items; --", "\U0010ffff", " "]
    ),
    st.binary(max_size=24),
    st.sampled_from(
        [
            b"",
            b"\0",
            floats(NAN, 1, 2, 3),
            floats(INFINITY, 1, 2, 3),
            floats(3.4e38, -3.4e38, 3.4e38, -3.4e38),
            floats(1e-45, 1e-45, 1e-45, 1e-45),
            floats(1, 2, 3),
            floats(1, 2, 3, 4, 5),
            floats(1, 2, 3, 4)[:-1],
            b"\xff" * 16,
        ]
    ),
    st.sampled_from([0, 1, 16, 4_000, 8_000_001]).map(Zeros),
    st.sampled_from([b"\xff", b"a\xc3", b"[1, 2\xff]", b"\xed\xa0\x80"]).map(NotUtf8),
    JSON_TEXTS,
    SQL_TEXTS,
)


@st.composite
def calls(draw: st.DrawFn, function: SqlFunction) -> tuple[tuple[Any, ...], tuple[str, ...] | None]:
    """Arguments of one call, most of them sensible so that the others are reached; and, for some calls of
    table functions, the names that they are given by."""
    parameters = function.parameters
    needed = sum(p.default is p.empty for p in parameters)
    names = None
    if function.kind == "table" and draw(st.integers(0, 4)) == 0:
        names = tuple(draw(st.lists(st.sampled_from([p.name for p in parameters]), unique=True)))
        asked = names
    else:
        asked = tuple(p.name for p in parameters[: draw(st.integers(needed, len(parameters)))])
    hostile = draw(st.sets(st.sampled_from(asked), max_size=3)) if asked else set()
    return (
        tuple(
            draw(HOSTILE if name in hostile else st.sampled_from(SENSIBLE[name])) for name in asked
        ),
        names,
    )
