"""The vectors that are searched: clustered ones made from a seed, and Fashion-MNIST's images."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

Vectors = NDArray[np.float32]

SPACE = "s"
BLOCK = 10_000
LATENT = 24


def clustered_blocks(n: int, d: int, seed: int = 0) -> Iterator[Vectors]:
    """n unit vectors of d dimensions in blocks: clusters of unequal density on a curved surface.

    As embeddings are, they are of lower dimension than they have: 24 coordinates, in clusters with
    background noise between them, go through a random projection and a tanh, with some noise in all
    dimensions. The same seed gives the same vectors whatever n is. An index finds the neighbours of
    such vectors easily: real data is harder, and is measured beside them.
    """
    shape = np.random.default_rng(12)
    clusters = 300
    centres = shape.standard_normal((clusters, LATENT), dtype=np.float32)
    widths = shape.uniform(0.1, 0.5, clusters).astype(np.float32)
    lift = shape.standard_normal((LATENT, d), dtype=np.float32) / np.float32(np.sqrt(LATENT))
    for number, start in enumerate(range(0, n, BLOCK)):
        rng = np.random.default_rng([seed, number])
        which = rng.integers(clusters, size=BLOCK)
        points = rng.standard_normal((BLOCK, LATENT), dtype=np.float32)
        is_clustered = rng.random(BLOCK) >= 0.2
        points[is_clustered] *= widths[which[is_clustered], None]
        points[is_clustered] += centres[which[is_clustered]]
        block = np.tanh(points @ lift)
        block += 0.05 * rng.standard_normal((BLOCK, d), dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield block[: n - start]


def clustered(n: int, d: int, seed: int = 0) -> Vectors:
    """The blocks as one array, (n, d)."""
    out = np.empty((n, d), np.float32)
    start = 0
    for block in clustered_blocks(n, d, seed):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def fashion_mnist(assets: Path, held_out: int = 1000) -> tuple[Vectors, Vectors]:
    """(vectors, queries): 70,000 images of 784 grey values from 0 to 255, but for the queries, drawn
    from a seed among them all. Raises FileNotFoundError when the folder has them not.
    """
    images, _ = fashion_files(assets)
    is_query = np.zeros(len(images), np.bool_)
    is_query[np.random.default_rng(0).choice(len(images), held_out, replace=False)] = True
    return images[~is_query], np.ascontiguousarray(images[is_query])


def fashion_files(assets: Path) -> tuple[Vectors, NDArray[np.uint8]]:
    """(images (70,000, 784), their classes), in the order of Fashion-MNIST's files."""
    folder = assets / "fashion-mnist"
    images, labels = [], []
    for name in ("train", "t10k"):
        data = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())
        images.append(np.frombuffer(data, np.uint8, offset=16).reshape(-1, 784))
        data = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())
        labels.append(np.frombuffer(data, np.uint8, offset=8))
    return np.concatenate(images).astype(np.float32), np.concatenate(labels)


def insert_items(db: dbapi.Connection, first: int, n: int) -> None:
    """Texts with the ids first, first + 1, ..., in the caller's transaction."""
    db.executemany(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'c', ?, 'x', ?)",
        ((i, f"{i:064x}", i) for i in range(first, first + n)),
    )


def create_space(db: dbapi.Connection, d: int, metric: str) -> None:
    """The space that all are in, with id 1."""
    db.execute(
        "insert into spaces (id, name, kind, dimensions, metric) values (1, ?, 'embedding', ?, ?)",
        (SPACE, d, metric),
    )


def insert_blobs(db: dbapi.Connection, first: int, block: Vectors) -> None:
    """Vectors of the items first, first + 1, ..., in the caller's transaction."""
    insert_vectors(db, 1, None, [(first + i, v.tobytes()) for i, v in enumerate(block)])


def fill(path: Path, blocks: Iterator[Vectors], d: int, metric: str) -> None:
    """A new database with one space, whose items are numbered from 1."""
    db = connection.create(path)
    with db:
        create_space(db, d, metric)
    first = 1
    for block in blocks:
        with db:
            insert_items(db, first, len(block))
            insert_blobs(db, first, block)
        first += len(block)
    db.execute("pragma wal_checkpoint(truncate)")
    db.close()


def in_blocks(vectors: Vectors) -> Iterator[Vectors]:
    """Consecutive rows of an array."""
    for start in range(0, len(vectors), BLOCK):
        yield vectors[start : start + BLOCK]
