"""`nearsql plot`: what is drawn is what is stored, the same each time, and refused in a sentence."""

import hashlib
import re
import shutil
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result
from evaluated import evaluate, fill
from PIL import Image

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.confusion import MOST_LABELS, NO_VOTE, confusion_plot
from nearsql.pipeline.plots.evaluation import METRICS, evaluation_plot
from nearsql.pipeline.plots.look import PALETTE, Plot, plain
from nearsql.pipeline.plots.losses import losses_plot
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

CSS = (Path(__file__).parents[2] / "datasette_plugins/static/nearsql.css").read_text("utf-8")


def plot(file: Path, *words: object) -> Result:
    return CliRunner().invoke(cli, ["plot", str(file), *map(str, words)])


def drawn(file: Path, *words: object) -> Result:
    done = plot(file, *words)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done


def refused(file: Path, *words: object) -> str:
    """The sentence."""
    done = plot(file, *words)
    assert done.exit_code != 0, words
    if isinstance(done.exception, SystemExit):
        return done.output
    assert isinstance(done.exception, UserError | LookupError), done.exception
    return str(done.exception)


def letters(path: Path) -> list[str]:
    """The texts of an SVG."""
    tree = ElementTree.parse(path)
    return ["".join(e.itertext()) for e in tree.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def digits(example_database: Path) -> Any:
    with closing(connection.connect(example_database, read_only=True)) as db:
        yield db


@pytest.mark.parametrize("what", ["evaluation 9", "confusion 9", "losses 11"])
def test_the_same_input_gives_the_same_bytes(
    what: str, example_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashlib.sha256(example_database.read_bytes()).hexdigest()
    for suffix in (".svg", ".png"):
        one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
        drawn(example_database, *what.split(), "--to", one)
        # What a person has set for other plots changes nothing.
        import matplotlib as mpl

        with mpl.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": False}):
            drawn(example_database, *what.split(), "--to", two)
        assert one.read_bytes() == two.read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert hashlib.sha256(example_database.read_bytes()).hexdigest() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("one.png", "one.svg", "two.png", "two.svg")
    ]


def test_curves_are_the_stored_metrics(digits: dbapi.Connection) -> None:
    plot = evaluation_plot(digits, 9)
    stored = {
        (metric, weighting, k): value
        for metric, weighting, k, value in digits.execute(
            "select metric, weighting, k, value from cv_metrics where run_id = 9 and fold is null"
        )
    }
    panels = {axes.get_title(loc="left"): axes for axes in plot.figure.axes}
    assert set(panels) == {METRICS[metric] for metric, _, _ in stored}
    shown = {
        (metric, line.get_label(), int(k)): value
        for metric, title in METRICS.items()
        if title in panels
        for line in panels[title].get_lines()
        for k, value in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert shown == stored
    # The shaded range is that of the folds.
    low, high = digits.execute(
        "select min(value), max(value) from cv_metrics where run_id = 9 and fold is not null"
        " and metric = 'accuracy'"
    ).fetchone()
    edges = np.concatenate(
        [band.get_paths()[0].vertices[:, 1] for band in panels["accuracy"].collections]
    )
    assert (edges.min(), edges.max()) == (low, high)
    only = evaluation_plot(digits, 9, metrics=["macro_f1"])
    assert [axes.get_title(loc="left") for axes in only.figure.axes] == ["macro F1"]
    assert (only.figure.get_suptitle(), only.facts["metrics"]) == (
        "Evaluation of digits/pixels for digit, 5 folds",
        "macro_f1",
    )


def cells(plot: Plot) -> tuple[list[str], list[str], np.ndarray]:
    """The names of rows and columns, and the numbers that stand in the cells."""
    axes = plot.figure.axes[0]
    across = [label.get_text() for label in axes.get_xticklabels()]
    down = [label.get_text() for label in axes.get_yticklabels()]
    found = np.zeros((len(down), len(across)), int)
    for text in axes.texts:
        x, y = text.get_position()
        found[int(y), int(x)] = int(text.get_text().replace(",", ""))
    return down, across, found


def test_a_confusion_counts_every_item_once(digits: dbapi.Connection) -> None:
    down, across, found = cells(confusion_plot(digits, 9, k=20, weighting="uniform"))
    assert down == across == [str(digit) for digit in range(10)]
    expected = np.zeros((10, 10), int)
    for true, predicted in digits.execute(
        "select y_true, y_pred from cv_predictions where run_id = 9 and k = 20"
        " and weighting = 'uniform'"
    ):
        expected[int(true), int(predicted)] += 1
    assert np.array_equal(found, expected)
    best = digits.execute(
        "select k, weighting from cv_metrics where run_id = 9 and fold is null"
        " and metric = 'accuracy' order by value desc limit 1"
    ).fetchone()
    shown = confusion_plot(digits, 9)
    assert shown.facts["setting"] == f"digits/pixels, k {best[0]}, {best[1]}"


def test_many_labels_and_items_without_a_vote(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = [f"{i % 45}" for i in range(180)] + ["$x^{", "_hidden", "a\x07b<&>"] * 5
    path = fill(
        tmp_path / "many.db",
        {"s": (random.normal(size=(len(labels), 4)), "l2")},
        {"kind": labels},
    )
    made = evaluate(path, "s", "--label", "kind", "-k", "3", "--weighting", "uniform", "--folds", 4)
    with closing(connection.connect(path)) as db:
        # As a weighting by losses leaves it where no neighbour has one.
        db.execute("update cv_predictions set y_pred = null where item_id in (1, 2, 181)")
        db.commit()
        plot = confusion_plot(db, made)
        down, across, found = cells(plot)
        assert found.sum() == len(labels)
        assert len(down) == MOST_LABELS + 1
        assert across == [*down, NO_VOTE]
        assert down[-1] == f"{48 - MOST_LABELS} others"
        assert found[:, -1].sum() == 3
        numbers = [int(name) for name in down if name.isdecimal()]
        assert numbers == sorted(numbers)
        right = db.execute("select count(*) from cv_predictions where y_true = y_pred").fetchone()
        assert plot.facts["right"] == right[0]
    drawn(path, "confusion", made, "--to", tmp_path / "c.svg")
    texts = letters(tmp_path / "c.svg")
    assert {"$x^{", "_hidden", "a b<&>"} <= set(texts)  # parsed as XML, and no formula


def test_undefined_values_are_gaps_and_spaces_are_told_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    values = [str(value) for value in random.normal(size=40)]
    path = fill(
        tmp_path / "two.db",
        {name: (random.normal(size=(40, 3)), "l2") for name in ("_one", "two")},
        {"size": values},
    )
    made = evaluate(path, "_one", "two", "--target", "label:size", "-k", "1,5")
    with closing(connection.connect(path)) as db:
        db.execute(
            "update cv_metrics set value = null, reason = 'too few' where metric = 'r2' and k = 5"
            " and fold is null"
        )
        db.commit()
        plot = evaluation_plot(db, made)
        panels = {
            axes.get_title(loc="left"): axes for axes in plot.figure.axes if axes.get_visible()
        }
        assert list(panels) == ["R²", "mean absolute error", "Spearman's rank correlation"]
        (legend,) = plot.figure.legends
        names = [text.get_text().strip() for text in legend.get_texts()]
        assert names == [
            f"{space}, {how}"
            for space in ("_one", "two")
            for how in ("distance", "softmax", "uniform")
        ]
        assert all(
            np.isnan(line.get_ydata()[1]) and not np.isnan(line.get_ydata()[0])
            for line in panels["R²"].get_lines()
        )
        assert plot.facts["undefined"] == 6
        colours = {line.get_color() for line in panels["R²"].get_lines()}
        assert colours == set(PALETTE[:2])
        db.execute("update cv_metrics set value = null, reason = 'too few' where value is not null")
        db.commit()
        with pytest.raises(UserError, match=f"run {made} has no value to draw: too few"):
            evaluation_plot(db, made)
        with pytest.raises(UserError, match="judged a number, not a label"):
            confusion_plot(db, made)


def test_histograms_hold_every_loss(digits: dbapi.Connection, tmp_path: Path) -> None:
    (axes,) = losses_plot(digits, 11).figure.axes
    assert sum(patch.get_height() for patch in axes.patches) == 50
    losses = [v for (v,) in digits.execute("select value from losses where run_id = 11")]
    assert axes.patches[0].get_x() == min(losses)
    assert axes.get_lines()[0].get_xdata()[0] == np.median(losses)


def add_losses(db: dbapi.Connection, losses: dict[str, list[float | None]]) -> int:
    model = db.execute("insert into models (name, family) values ('d', 'yolo')").lastrowid
    db.commit()
    with run(db, "detect", parameters={"a": 1}, model_id=model) as made, immediate(db):
        for component, values in losses.items():
            for item, value in enumerate(values, 1):
                db.execute(
                    "insert into losses (run_id, item_id, component, value, reason)"
                    " values (?, ?, ?, ?, ?)",
                    (made.id, item, component, value, None if value is not None else "no object"),
                )
    return made.id


def test_images_without_a_loss_are_counted(db: dbapi.Connection, add_space: Any) -> None:
    add_space("s", np.zeros((4, 2)))
    made = add_losses(db, {"box": [1.0, 2.0, None, 4.0], "dfl": [None] * 4, "cls": [3.0] * 4})
    plot = losses_plot(db, made)
    titles = [axes.get_title(loc="left") for axes in plot.figure.axes if axes.get_visible()]
    assert titles == [
        "box: 3 images, median 2, 1 without",
        "cls: 4 images, median 3",
        "dfl: none, 4 without",
    ]
    assert plot.facts["without"] == "box 1 (no object), dfl 4 (no object)"
    with pytest.raises(UserError, match=r"measured no losses: no object"):
        losses_plot(db, _second(db, {"box": [None]}))
    with pytest.raises(UserError, match=r"has a loss of inf, which cannot be drawn"):
        losses_plot(db, _second(db, {"box": [1.0, float("inf")]}))


def _second(db: dbapi.Connection, losses: dict[str, list[float | None]]) -> int:
    db.execute("update models set name = name || id")
    db.commit()
    return add_losses(db, losses)


def test_a_sweep_is_that_of_cluster(example_database: Path, tmp_path: Path) -> None:
    to = tmp_path / "sweep.svg"
    done = drawn(
        *(example_database, "sweep", "digits/pixels", "--sizes", "20,100,500"),
        *("--downsample", 3, "--min-samples", 4, "--to", to),
    )
    texts = letters(to)
    assert {
        "digits/pixels: a sweep of min_cluster_size",
        "clusters",
        "noise",
        "20",
        "100",
        "500",
    } <= set(texts)
    assert "hdbscan, min_samples 4, downsample 3" in texts
    assert "lasts longest" in done.output


def test_what_cannot_be_drawn_is_a_sentence(
    example_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = ("--to", tmp_path / "x.svg")
    for words, sentence in {
        ("evaluation", 99): "there is no run 99",
        ("evaluation", 3): "run 3 is of kind 'cluster': `plot evaluation` draws an evaluation",
        ("losses", "eleven"): "is of a run, by its number",
        ("losses", "9" * 30): "is of a run, by its number",
        ("losses", 11, "-k", 5): "-k belongs to `plot confusion`, not to `plot losses`",
        ("sweep", "digits/pixels", "--clusters", 3): "--clusters belongs to `plot map`",
        ("sweep", "nowhere"): "nowhere",
        ("sweep", "digits/pixels", "--sizes", "a,b"): "--sizes must be whole numbers",
        ("confusion", 9, "-k", 7): "run 9 has no setting with k 7",
        ("confusion", 9, "--space", "x"): "run 9 has no setting with space x",
        ("evaluation", 9, "--metric", "f2"): "run 9 has no metric 'f2': it has accuracy",
    }.items():
        assert sentence in refused(example_database, *words, *to), words
    gone = tmp_path / "gone" / "x.svg"
    assert "there is no folder" in refused(example_database, "losses", 11, "--to", gone)
    assert "must end in .svg or .png" in refused(
        example_database, "losses", 11, "--to", tmp_path / "x.jpg"
    )
    (tmp_path / "there.svg").write_text("mine")
    assert "is there already: --replace" in refused(
        example_database, "losses", 11, "--to", tmp_path / "there.svg"
    )
    assert (tmp_path / "there.svg").read_text() == "mine"
    drawn(example_database, "losses", 11, "--to", tmp_path / "there.svg", "--replace")
    assert (tmp_path / "there.svg").read_text("utf-8").startswith("<?xml")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    assert "pip install 'nearsql[plot]'" in refused(example_database, "losses", 11, *to)
    assert not (tmp_path / "x.svg").exists()


def test_a_run_that_failed_is_refused(db: dbapi.Connection, database: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on purpose"), run(db, "evaluate", parameters={}):
        raise ValueError("on purpose")
    said = refused(database, "evaluation", 1, "--to", tmp_path / "x.svg")
    assert said == "run 1 is failed: only a finished run can be drawn"


def test_letters_that_the_font_lacks_are_said(example_database: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(example_database, tmp_path / "copy.db"))
    with closing(connection.connect(path)) as db:
        db.execute(
            "update models set name = '検出器' where id = (select model_id from runs where id = 11)"
        )
        db.commit()
    assert "drawn as boxes" in drawn(path, "losses", 11, "--to", tmp_path / "a.png").output
    assert "needs a font" in drawn(path, "losses", 11, "--to", tmp_path / "a.svg").output
    assert any("検出器" in text for text in letters(tmp_path / "a.svg"))


def test_colours_are_those_of_the_pages() -> None:
    light = CSS.partition("@media")[0]
    assert tuple(re.findall(r"--c\d+: (#[0-9a-f]{6});", light)) == PALETTE
    assert max(Counter(PALETTE).values()) == 1


def test_texts_from_the_database_fit() -> None:
    assert plain("a\nb\x00\x1b[31mc") == "a b [31mc"
    assert plain("x" * 100, 10) == "x" * 9 + "…"
    assert plain("\n") == "(empty)"
    assert plain("\ud800 é") == "é"
