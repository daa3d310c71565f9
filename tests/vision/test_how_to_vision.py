"""docs/how-to/vision.md is true: from a folder of images to what a detector gets wrong."""

import shutil
from pathlib import Path

import pytest
import yaml
from checkpoints import TINY, Checkpoints
from detectors import assets
from pages import run_page

from nearsql.udfs import connection

pytestmark = pytest.mark.assets

CLIP = "--model clip:ViT-B-32"


def lay_out(street: Path, images: int) -> None:
    """The first photographs of coco128-seg, their labels, and the classes' names."""
    source = assets() / "coco128-seg"
    for folder, ending in (("images", ".jpg"), ("labels", ".txt")):
        (street / folder).mkdir(parents=True)
        for file in sorted((source / folder).rglob(f"*{ending}"))[:images]:
            shutil.copyfile(file, street / folder / file.name)
    names = yaml.safe_load((assets() / "coco128-seg.yaml").read_text("utf-8"))["names"]
    (street / "street.yaml").write_text(yaml.safe_dump({"names": names}), encoding="utf-8")


@pytest.mark.usefixtures("one_thread")
def test_everything_on_the_page_runs(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(Path("street"), 20)
    shutil.copyfile(assets() / "weights" / "yolov8n-seg.pt", "yolov8n-seg.pt")
    # CLIP's weights are 600 MB, and not here: a tiny network of random ones stands in, under its name.
    tiny = f"--model clip:{TINY} --checkpoint {checkpoints.path(TINY)} --space clip:ViT-B-32"
    done = run_page("how-to/vision.md", "street.db", lambda words: words.replace(CLIP, tiny))
    assert done == {"command": 13, "sql": 9}
    assert {file.name for file in Path("hard-cases").iterdir()} >= {
        "images",
        "instances.json",
        "predictions.json",
    }
    db = connection.connect("street.db", read_only=True)
    kinds = {kind for (kind,) in db.execute("select distinct kind from findings")}
    assert {"miss", "false_alarm", "worst_loss:cls"} <= kinds
    db.close()
