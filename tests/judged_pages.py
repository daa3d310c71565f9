"""Two small files for the pages of evaluations and findings, made by the commands themselves."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from evaluated import evaluate, fill
from judged_images import Seen, add_detector, add_images, add_space, annotate, judge

from nearsql.pipeline.cli import cli
from nearsql.pipeline.failures import failures
from nearsql.udfs import connection

SCRIPT = "<script>window.hacked = true</script>"
KINDS = ("cat", "dog", f"fox {SCRIPT}")
PER_KIND = 20
TEXTS = len(KINDS) * PER_KIND  # items 1 to 60, and then those below
COPY, OUTLIER = TEXTS + 1, TEXTS + 2
MISLABELLED = 7  # among the cats, and called a dog
ITEMS = TEXTS + 2

IMAGES = 24
MISSED = 5  # the one image whose cat is not found
BOX = (10.0, 10.0, 60.0, 60.0)
FAR = (120.0, 20.0, 140.0, 40.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """Where the file is, and its runs: evaluations of a label and of a number, and what was found."""

    path: Path
    of_label: int
    of_number: int
    found: int


def build(path: Path) -> Judged:
    """Texts of three kinds in two spaces, the second of which tells little."""
    random = np.random.default_rng(0)
    places = np.repeat(np.eye(3) * 10, PER_KIND, axis=0) + random.normal(size=(TEXTS, 3))
    vectors = np.concatenate([places, places[:1] + 1e-4, [[200.0, 200.0, 200.0]]])
    kinds: list[str | None] = [*(KINDS[i // PER_KIND] for i in range(TEXTS)), KINDS[0], KINDS[2]]
    kinds[MISLABELLED - 1] = KINDS[1]
    sizes: list[str | None] = [f"{vector[0]:.4f}" for vector in vectors]
    fill(
        path,
        {
            "good": (vectors.astype("<f4"), "l2"),
            "poor": (random.normal(size=(ITEMS, 3)).astype("<f4"), "l2"),
        },
        {"kind": kinds, "size": sizes},
    )
    settings = ("-k", "1,5", "--weighting", "uniform,distance", "--folds", "3")
    of_label = evaluate(path, "good", "poor", "--label", "kind", *settings)
    of_number = evaluate(path, "good", "--target", "label:size", "-k", "3", "--folds", "3")
    outcome = CliRunner().invoke(cli, ["find", str(path), "good", "--label", "kind", "-k", "5"])
    assert outcome.exit_code == 0, outcome.output
    with closing(connection.connect(path, read_only=True)) as db:
        found = db.execute("select max(id) from runs where kind = 'find'").fetchone()[0]
    return Judged(path, of_label, of_number, found)


@dataclass(frozen=True, slots=True)
class Photos:
    """Where the file is, the detector's run, and the run that says where it fails."""

    path: Path
    detector: int
    failures: int


def build_photos(path: Path) -> Photos:
    """Images of a cat each, in two groups; one cat is missed, and six dogs are seen that are none."""
    with closing(connection.create(path)) as db:
        add_images(db, IMAGES)
        model = add_detector(db)
        for item in range(1, IMAGES + 1):
            annotate(db, item, (item, "cat", BOX))
        seen: dict[int, Seen] = {item: [("cat", BOX, 0.9, item)] for item in range(1, IMAGES + 1)}
        seen[MISSED] = [("dog", BOX, 0.6, None)]
        for item in range(IMAGES - 5, IMAGES + 1):
            seen[item].append(("dog", FAR, 0.5 + item / 100, None))
        groups = np.repeat([[0.0, 0.0], [50.0, 0.0]], IMAGES // 2, axis=0)
        features = groups + np.random.default_rng(0).normal(size=(IMAGES, 2))
        # The better the nearer to that image, but on it not at all: so it fails alone.
        order = np.argsort(np.linalg.norm(features - features[MISSED - 1], axis=1), kind="stable")
        quality = {int(at) + 1: 1 - rank / 100 if rank else 0.0 for rank, at in enumerate(order)}
        detector = judge(db, model, seen, mean_iou_gt=quality)
        add_space(db, "made-up/gap/p5", features, model=model)
        return Photos(path, detector, failures(db, worst=3).run_id)
