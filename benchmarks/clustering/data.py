"""The points that are clustered: made from a seed, digits, and Fashion-MNIST's images."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.search.data import clustered, fashion_mnist
from nearsql.udfs import connection
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.spaces import Metric, Space

Rows = NDArray[np.float32]

FASHION = "Fashion-MNIST"


def embeddings(n: int, d: int, seed: int = 1) -> Rows:
    """Points, (n, d) of norm 1: 60 clusters of unequal size and density, and 30% background noise.

    They lie on a 12-dimensional surface, lifted to d dimensions, as embeddings do.
    """
    rng = np.random.default_rng(seed)
    latent, clusters = 12, 60
    centres = rng.normal(size=(clusters, latent))
    widths = rng.uniform(0.08, 0.35, clusters)
    which = rng.choice(clusters, n, p=rng.dirichlet(np.ones(clusters)))
    points = centres[which] + rng.normal(size=(n, latent)) * widths[which, None]
    noise = rng.random(n) < 0.3
    points[noise] = rng.normal(size=(int(noise.sum()), latent))
    rows = np.tanh(points @ rng.normal(size=(latent, d)) / np.sqrt(latent))
    rows += rng.normal(size=(n, d)) * 0.05
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def digits() -> Rows:
    """scikit-learn's 1,797 digits of 64 whole numbers, among which many distances are equal."""
    return np.ascontiguousarray(load_digits().data, dtype=np.float32)


def repeated(n: int, d: int) -> Rows:
    """Whole numbers, a third of the rows a second or third time."""
    rng = np.random.default_rng(5)
    rows = np.rint(embeddings(n, d) * 4 * np.sqrt(d)).astype(np.float32)
    copied = rng.choice(n, n // 3, replace=False)
    rows[copied] = rows[rng.choice(n // 10, len(copied))]
    return rows


def images(assets: Path, n: int | None = None) -> Rows:
    """Fashion-MNIST's 70,000 images, or n of them drawn from a seed."""
    rows = np.concatenate(fashion_mnist(assets))
    if n is None:
        return rows
    return np.ascontiguousarray(rows[np.random.default_rng(0).choice(len(rows), n, replace=False)])


def of_name(name: str, n: int, d: int, assets: Path | None) -> Rows:
    """Fashion-MNIST by its name, else clusters of 24 dimensions, the same rows whatever n is."""
    if name == FASHION:
        assert assets is not None
        return images(assets, None if n >= 70_000 else n)
    return clustered(n, d)


@contextmanager
def empty_file() -> Iterator[Any]:
    """A database in which nothing is stored, so that everything is computed."""
    with tempfile.TemporaryDirectory() as folder:
        db = connection.create(Path(folder) / "empty.db")
        yield db
        db.close()


def matrix_of(rows: Rows, metric: Metric = "l2") -> Matrix:
    """The rows as those of a space."""
    n, d = rows.shape
    return Matrix(np.arange(n), rows, Space(1, "points", d, metric, 0, 0))
