"""embed_image with real networks: the vector that the space's own encoder stored, and no other."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from checkpoints import TINY, VIT, Checkpoints, pictures
from served import site

from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import clip, image_towers
from nearsql.pipeline.encoders.space_models import Recent
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.udfs import dbapi


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process would."""
    monkeypatch.setattr(image_towers, "_encoders", Recent(image_towers.MOST_ENCODERS))
    monkeypatch.setattr(image_towers, "_vectors", Recent(image_towers.MOST_VECTORS))
    image_towers._hashes.clear()


@pytest.fixture
def photos(db: dbapi.Connection) -> dbapi.Connection:
    """Six pictures; item 1 is the first."""
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")
    return db


@pytest.mark.parametrize("model", [f"clip:{TINY}", f"timm:{VIT}"])
def test_an_image_of_the_space_has_the_vector_that_is_there(
    photos: dbapi.Connection, checkpoints: Checkpoints, model: str
) -> None:
    path = checkpoints.path(model.partition(":")[2])
    space = embed(photos, model, checkpoint=path, device="cpu").space
    stored = photos.execute(
        "select i.sha256, v.vector from vectors v join items i on i.id = v.item_id"
    ).fetchall()
    images = {hashlib.sha256(data).hexdigest(): data for data, _ in pictures()}
    assert len(stored) == len(images)
    for sha256, vector in stored:
        (found,) = photos.execute("select embed_image(?, ?)", (space, images[sha256])).fetchone()
        expected = np.frombuffer(vector, "<f4")
        assert np.allclose(np.frombuffer(found, "<f4"), expected, atol=1e-6, rtol=1e-5)


def test_the_network_is_loaded_once_and_asked_once_an_image(
    photos: dbapi.Connection, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = embed(photos, f"clip:{TINY}", checkpoint=checkpoints.path(TINY)).space
    loads: list[str] = []
    load = clip.load

    def counting(model, device):
        loads.append(device)
        return load(model, device)

    monkeypatch.setattr(clip, "load", counting)
    asked: list[int] = []
    call = clip.TorchEncoder.__call__
    monkeypatch.setattr(
        clip.TorchEncoder, "__call__", lambda self, batch: asked.append(1) or call(self, batch)
    )
    first, second = (data for data, _ in pictures()[:2])
    for image in (first, second, first):
        photos.execute("select embed_image(?, ?)", (space, image)).fetchone()
    assert loads == ["cpu"]
    assert len(asked) == 2


def test_a_checkpoint_that_changed_is_refused(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    path = tmp_path / checkpoints.path(TINY).name
    path.write_bytes(checkpoints.path(TINY).read_bytes())
    space = embed(photos, f"clip:{TINY}", checkpoint=path).space
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(dbapi.OperationalError, match=r"takes no images now: .*has changed"):
        photos.execute("select embed_image(?, ?)", (space, pictures()[0][0])).fetchone()


def test_the_page_of_searches_asks_the_network(
    photos: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    space = embed(photos, f"clip:{TINY}", checkpoint=checkpoints.path(TINY)).space
    (path,) = [row[2] for row in photos.execute("pragma database_list") if row[1] == "main"]
    sql = f"select id from knn('{space}', embed_text('{space}', 'a red bus'), 60)"
    expected = [item for (item,) in photos.execute(sql)]
    with site(Path(path)) as opened:
        root = f"/-/nearsql/{Path(path).stem}/search"
        page = opened.get(f"{root}?q=a+red+bus").text
        assert f'value="{space}" selected' in page  # images are looked for by what they show
        assert [int(item) for item in re.findall(r'<li data-item="(\d+)"', page)] == expected
        image = pictures()[2][0]
        answer = opened.runner.run(
            opened.datasette.client.post(
                f"{root}?{urlencode({'space': space})}",
                content=image,
                headers={"accept": "application/json"},
            )
        ).json()
        found = opened.get(answer["url"]).text
        sha256 = hashlib.sha256(image).hexdigest()
        (item,) = photos.execute("select id from items where sha256 = ?", (sha256,)).fetchone()
        assert re.findall(r'<li data-item="(\d+)"', found)[0] == str(item)
