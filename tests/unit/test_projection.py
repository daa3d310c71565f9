"""UMAP, t-SNE and PCA of a matrix: the same bytes again, neighbours kept, small sets handled."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.projection import METHODS, Coordinates, Method, Settings, effective
from nearsql.udfs.projection import project as projection_of
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.spaces import Metric, Space


def matrix(rows: ArrayLike, metric: Metric = "l2") -> Matrix:
    vectors = np.ascontiguousarray(rows, dtype=np.float32)
    ids = np.arange(1, len(vectors) + 1)
    return Matrix(ids, vectors, Space(1, "s", vectors.shape[1], metric, 0, 0))


def project(matrix: Matrix, settings: Settings) -> Coordinates:
    return projection_of(matrix, settings).coordinates


@pytest.fixture(scope="module")
def digits() -> NDArray[np.float32]:
    return load_digits().data[:250].astype(np.float32)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("method", METHODS)
def test_a_map_keeps_neighbours_and_comes_again(
    digits: NDArray[np.float32], method: Method, metric: Metric
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is known to be harmless is silenced by its name
        first = project(matrix(digits, metric), Settings(method))
        second = project(matrix(digits, metric), Settings(method))
    assert first.shape == (250, 2)
    assert first.dtype == np.float32
    assert first.tobytes() == second.tobytes()
    bar = 0.8 if method == "pca" else 0.96
    metric_name = "euclidean" if metric == "l2" else "cosine"
    assert trustworthiness(digits, first, n_neighbors=5, metric=metric_name) > bar


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_another_seed_gives_another_map(digits: NDArray[np.float32], method: Method) -> None:
    maps = [project(matrix(digits[:60]), Settings(method, random_state=s)) for s in (1, 2)]
    # t-SNE starts from PCA and draws nothing at random; UMAP samples.
    assert (maps[0].tobytes() == maps[1].tobytes()) == (method == "tsne")


def test_pca_is_the_singular_value_decomposition(digits: NDArray[np.float32]) -> None:
    found = project(matrix(digits), Settings("pca", n_components=4))
    centred = digits.astype(np.float64) - digits.mean(axis=0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :4] * values[:4]
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-3)


def test_pca_of_fewer_points_than_dimensions(digits: NDArray[np.float32]) -> None:
    assert project(matrix(digits[:5]), Settings("pca")).shape == (5, 2)
    with pytest.raises(SqlFunctionError, match="has at most 5 components, not 6"):
        project(matrix(digits[:5]), Settings("pca", n_components=6))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 4, 5, 6, 12])
def test_few_points(digits: NDArray[np.float32], method: Method, n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = project(matrix(digits[:n]), Settings(method))
    assert found.shape == (n, 2)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", METHODS)
def test_fewer_than_three_points_are_refused(digits: NDArray[np.float32], method: Method) -> None:
    with pytest.raises(SqlFunctionError, match="at least 3 items, not 2"):
        project(matrix(digits[:2]), Settings(method))


@pytest.mark.parametrize("method", METHODS)
def test_equal_points_have_finite_coordinates(method: Method) -> None:
    assert np.isfinite(project(matrix(np.ones((20, 3))), Settings(method))).all()


def test_more_components_by_umap(digits: NDArray[np.float32]) -> None:
    assert project(matrix(digits[:50]), Settings("umap", n_components=5)).shape == (50, 5)


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_inner_products_make_no_map(digits: NDArray[np.float32], method: Method) -> None:
    with pytest.raises(SqlFunctionError, match="inner products are not distances"):
        project(matrix(digits[:50], "ip"), Settings(method))


def test_effective_settings_say_what_few_points_allow() -> None:
    asked = Settings("umap", n_neighbors=15, perplexity=30.0)
    assert effective(asked, 1000, 8) == asked
    assert effective(asked, 7, 8).n_neighbors == 6
    assert effective(asked, 7, 8).perplexity == 2.0
    assert effective(asked, 3, 8).perplexity == 1.0


def test_parameters_are_those_the_method_looks_at() -> None:
    assert Settings("pca").parameters() == {"method": "pca", "n_components": 2}
    assert set(Settings("tsne").parameters()) == {
        "method",
        "n_components",
        "perplexity",
        "random_state",
        "neighbors",
    }


def test_poll_stops_tsne(digits: NDArray[np.float32]) -> None:
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) > 20:  # the neighbour search is over by then
            raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        projection_of(matrix(digits), Settings("tsne"), stop)


_MAP_OF_DIGITS = """\
import numpy as np
from numba.core.dispatcher import Dispatcher
from nearsql.udfs.projection import Settings, project
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.spaces import Space
rows = np.random.default_rng(0).normal(size=(60, 8)).astype("f4")
project(Matrix(np.arange(60), rows, Space(1, "points", 8, "l2", 0, 0)), Settings("umap"))
import umap.layouts, umap.umap_
found = [*vars(umap.layouts).values(), *vars(umap.umap_).values()]
used = [value for value in found if isinstance(value, Dispatcher) and value.signatures]
print(*(one.__name__ for one in used if one.stats.cache_path is not None))
"""


def test_what_umap_learn_compiles_is_kept() -> None:
    """In a process of its own: here, other tests may have used umap-learn by itself."""
    done = subprocess.run(
        [sys.executable, "-c", _MAP_OF_DIGITS], capture_output=True, text=True, check=True
    )
    names = {
        "smooth_knn_dist",
        "compute_membership_strengths",
        "_optimize_layout_euclidean_single_epoch",
    }
    assert names <= set(done.stdout.split())
