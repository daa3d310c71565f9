"""The benchmark of clustering measures in a process of its own, and its page follows from what it stored."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.clustering import library, page, scale
from benchmarks.clustering.__main__ import write_page
from benchmarks.clustering.data import digits, embeddings, repeated
from benchmarks.search.measure import Figure
from benchmarks.search.results import Result, read


def graph(n: int, seconds: float, memory: float) -> Result:
    figures = [Figure("total", seconds), Figure("peak memory", memory, "bytes")]
    figures += [Figure("noise", 0.25, ""), Figure("recall", 0.975, "")]
    return Result(
        scale.GRAPH, f"{scale.SYNTHETIC}, {n:,} x 768", n, 768, 2, figures,
        measured_at="2026-01-01 00:00 UTC", command="python -m benchmarks.clustering",
        machine={"processor": "one | that counts"},
    )  # fmt: skip


def test_the_plan_follows_from_the_two_largest_graphs() -> None:
    # Seconds a point grow by the root of n, 1 GB more for 100,000 points more.
    found = [graph(30_000, 9.0, 1e8), graph(100_000, 10.0, 1e9), graph(400_000, 80.0, 4e9)]
    (one, n, seconds, memory), (four, part, of_four, less) = scale.planned(found)
    assert (one, n, four, part) == (
        "one space",
        3_300_000,
        "4 models, one after the other",
        825_000,
    )
    assert seconds == pytest.approx(3.3e6 * 2e-4 * (3.3e6 / 4e5) ** 0.5)
    assert of_four == pytest.approx(seconds / 2)
    assert memory == pytest.approx(33e9)
    assert less == pytest.approx(8.25e9)
    assert scale.planned(found[:1]) == []


def test_the_page_is_made_from_what_is_stored(tmp_path: Path) -> None:
    found = [graph(100_000, 10.0, 1e9), graph(400_000, 80.0, 4e9)]
    write_page(tmp_path, found)
    stored = read(tmp_path / "clustering-benchmarks.json")
    assert stored == found
    text = (tmp_path / "clustering-benchmarks.md").read_text()
    assert page.render(stored, [page.SIZES]) == text
    assert f"](images/{page.SIZES})" in text
    drawing = (tmp_path / "images" / page.SIZES).read_text()
    assert ">points (log scale)<" in drawing
    # The same figures give the same bytes.
    write_page(tmp_path, stored)
    assert (tmp_path / "images" / page.SIZES).read_text() == drawing
    assert "| clusters, 100,000 x 768 |" in text
    for cell in ("100 µs", "25.0%", "0.9750"):
        assert cell in text
    assert "## A plan for 3.3 million points" in text


def test_ours_and_the_library_s_clusters_are_measured_and_equal() -> None:
    result = library.compare("digits", digits()[:400])
    assert result.value("labels equal") == result.value("ARI") == 1.0
    assert result.value("tree weight differs by") < 1e-9
    assert result.value("times as fast") == result.value("hdbscan") / result.value("nearsql")
    assert "digits, 400 x 64" in page.table([result])[1][0]


def test_a_child_clusters_in_both_ways() -> None:
    result = scale.run(scale.SYNTHETIC, 900, 8, scale.AGREEMENT, 1, None)
    assert (result.n, result.d, result.value("vectors")) == (900, 8, 900 * 8 * 4)
    assert result.value("peak memory") > 2**26
    assert 0.5 < result.value("recall") <= 1.0
    assert 0.9 < result.value("measured agreement") <= 1.0
    assert result.value("measured agreement") == pytest.approx(result.value("agreement"))
    assert len(page.table([result])[1]) == 1


def test_points_are_the_same_each_time_and_repeat_where_they_should() -> None:
    np.testing.assert_array_equal(embeddings(50, 8), embeddings(50, 8))
    rows = repeated(300, 16)
    assert len(np.unique(rows, axis=0)) < 280
    np.testing.assert_array_equal(rows, np.rint(rows))


def test_the_documents_have_their_page_and_drawings() -> None:
    """Whatever made the page anew: it names its drawings, and they are there."""
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "clustering-benchmarks.md").read_text(encoding="utf-8")
    assert text == page.render(
        read(docs / "clustering-benchmarks.json"), [page.LIBRARY, page.SIZES]
    )
    for name in (page.LIBRARY, page.SIZES):
        assert (docs / "images" / name).read_text(encoding="utf-8").startswith("<?xml")
