"""The benchmark of search runs as one command, and its page follows from the figures that it stored."""

import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.search import exact, floors, measure, peers
from benchmarks.search.__main__ import MEASURES, command
from benchmarks.search.bars import judged
from benchmarks.search.data import clustered, clustered_blocks
from benchmarks.search.measure import Figure
from benchmarks.search.results import Result, merged, read, write
from benchmarks.search.tables import SECTIONS, table

ROOT = Path(__file__).parents[2]


SMALL = ("--quick", "--n", "1000", "--d", "32", "--rounds", "2", "--threads", "1")
SMALLER = ("--quick", "--n", "300", "--d", "16", "--rounds", "2", "--threads", "1")


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    without_assets = {k: v for k, v in os.environ.items() if k != "NEARSQL_ASSETS"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.search", *arguments],
        cwd=ROOT,
        env=without_assets,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a page, written by one small run of everything."""
    folder = tmp_path_factory.mktemp("docs")
    done = benchmark(*SMALL, "--write", "--docs", str(folder), "--json", str(folder / "run.json"))
    assert done.returncode == 0, done.stderr
    for section in SECTIONS.values():
        assert f"\n{section.title}, 1 thread" in done.stdout
    return folder


def test_every_section_gives_finite_figures(docs: Path) -> None:
    results = read(docs / "benchmarks.json")
    assert {one.section for one in results} == set(MEASURES) == set(SECTIONS)
    assert sorted(read(docs / "run.json"), key=results.index) == results
    for one in results:
        assert one.figures or one.missing, one.section
        assert one.machine["numpy"] == np.__version__
        assert one.command == f"python -m benchmarks.search {' '.join(SMALL)} --write"
        for figure in one.figures:
            assert math.isfinite(figure.value), figure
            assert figure.value > 0, figure
            assert all(math.isfinite(value) for value in figure.also.values()), figure
            if figure.median is not None and figure.worst is not None:
                assert figure.value <= figure.median <= figure.worst


def test_recall_grows_to_one_with_the_effort(docs: Path) -> None:
    for one in read(docs / "benchmarks.json"):
        if one.section == "indexed" and one.figures:
            best = max(figure.also["recall"] for figure in one.figures)
            assert best > 0.99
            ours = {f.name: f for f in one.figures if "as built" in f.name}
            for engine in ("hnsw", "ivf"):
                a = ours[f"nearsql: {engine}, as built"]
                b = ours[f"bare faiss, nearsql's {engine} index, as built"]
                assert a.also["recall"] == pytest.approx(b.also["recall"], abs=0.01)
                assert a.also["effort"] == b.also["effort"]


@pytest.mark.assets
def test_real_images_are_measured_where_they_are(tmp_path: Path) -> None:
    given = ("--assets", os.environ["NEARSQL_ASSETS"], "--json", str(tmp_path / "run.json"))
    done = benchmark(*SMALLER, "--only", "indexed", *given)
    assert done.returncode == 0, done.stderr
    images, clusters = read(tmp_path / "run.json")
    assert (images.case, clusters.case) == ("Fashion-MNIST, 2,000 x 784", "clustered, 300 x 16")
    built = images.get("nearsql: hnsw, as built")
    assert built is not None
    assert built.also["recall"] > 0.95
    # Only peers that are not installed are left out, and named.
    assert set(images.missing) == {name for name in ("hnswlib", "usearch") if not find_spec(name)}
    assert "indexed query (hnsw, as built), recall@10" in done.stdout


def test_what_cannot_be_measured_is_named() -> None:
    assert peers.optional("no_such_library") is None
    missing = Result("any k", "x", 1, 1, 1, [Figure("a", 1.0)], {"hnswlib": peers.NOT_INSTALLED})
    _, rows = table(missing)
    assert rows[1][0] == "hnswlib"
    assert rows[1][-1] == peers.NOT_INSTALLED


def test_bars_are_judged_by_ratios_of_one_result() -> None:
    figures = {floors.READ: 1.0, exact.KNN: 1.21, exact.VEC0_L2: 7.3}
    one = Result("one query", "x", 1, 1, 2, [Figure(*pair) for pair in figures.items()])
    (floor, vec0) = judged([one])
    assert (floor.bar, floor.figure, floor.is_met) == ("<= 1.2x", "1.21x", False)
    assert (vec0.bar, vec0.figure, vec0.is_met) == (">= 6x", "6.03x", True)
    for threads, is_met in ((1, False), (2, True)):
        row = Result(
            "graph", "x", 1, 1, threads, [Figure(floors.PEAK, 0.94), Figure(exact.GRAPH, 1.0)]
        )
        row.figures.append(Figure(exact.VEC0_L2, 80.0))
        share, loop = judged([row])
        assert (share.figure, share.is_met, loop.is_met) == ("94.0%", is_met, True)


def test_the_page_shows_all_and_names_no_folder(docs: Path) -> None:
    page = (docs / "benchmarks.md").read_text(encoding="utf-8")
    for section in SECTIONS.values():
        assert f"## {section.title}" in page
    for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page):
        assert (docs / target).read_text(encoding="utf-8").startswith("<?xml")
    assert len(list((docs / "images").iterdir())) == 2
    assert str(docs) not in page


def test_the_same_figures_give_the_same_bytes(docs: Path) -> None:
    files = [docs / "benchmarks.md", docs / "benchmarks.json", *(docs / "images").iterdir()]
    before = [file.read_bytes() for file in files]
    done = benchmark("--render", "--docs", str(docs))
    assert done.returncode == 0, done.stderr
    assert [file.read_bytes() for file in files] == before


def test_the_stored_page_follows_from_the_stored_figures(tmp_path: Path) -> None:
    stored = ROOT / "docs" / "benchmarks.json"
    (tmp_path / "benchmarks.json").write_bytes(stored.read_bytes())
    assert benchmark("--render", "--docs", str(tmp_path)).returncode == 0
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert page == (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_newer_results_take_the_place_of_older_ones(tmp_path: Path) -> None:
    def result(case: str, threads: int, value: float) -> Result:
        return Result("one query", case, 10, 2, threads, [Figure("a", value)], {"b": "why"})

    older = [result("x", 1, 1.0), result("y", 1, 2.0)]
    newer = [result("x", 1, 3.0), result("x", 2, 4.0)]
    found = merged(older, newer)
    assert [one.value("a") for one in found] == [3.0, 2.0, 4.0]
    write(tmp_path / "f.json", found)
    assert read(tmp_path / "f.json") == found
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "f.json", [result("x", 1, math.nan)])
    with pytest.raises(KeyError, match="nothing"):
        found[0].value("nothing")


def test_a_command_is_kept_without_folders() -> None:
    given = ["--n", "5", "--assets", "/a/b", "--docs=/c", "--write", "--json", "d"]
    assert command(given) == "python -m benchmarks.search --n 5 --write"


def test_clustered_vectors_follow_from_the_seed_alone() -> None:
    rows = clustered(12_000, 8)
    assert np.array_equal(rows[:500], clustered(500, 8))
    assert np.array_equal(rows, np.concatenate(list(clustered_blocks(12_000, 8))))
    assert not np.array_equal(rows[:10], clustered(10, 8, seed=1))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(["l2", "cosine"]), k=st.integers(1, 40))
def test_numpy_peer_finds_what_brute_force_finds(seed: int, metric: str, k: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((40, 6)).astype(np.float32)
    queries = rng.standard_normal((5, 6)).astype(np.float32)
    found = peers.numpy_nearest(vectors, queries, k, metric)
    if metric == "l2":
        scores = ((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    else:
        scores = -(queries @ vectors.T)
    assert peers.recall(found, np.argsort(scores, axis=1)[:, :k]) == 1.0
    assert peers.recall(found, peers.true_neighbors(vectors, queries, k, metric)) == 1.0


def test_calls_take_turns_and_keep_their_spread() -> None:
    turns: list[str] = []
    found = measure.in_turns({name: lambda name=name: turns.append(name) for name in "ab"}, 3)
    assert turns == ["a", "b"] * 4
    assert found["a"].rounds == 3
    half = measure.times_as_much(found["a"], 0.5, "half")
    assert half.value == found["a"].value / 2
    assert (half.note, half.rounds) == ("half", 3)
    assert measure.least("floor", [Figure("a", 2.0), Figure("b", 1.0)]).note == "b"
