"""`nearsql label --method llm --images`: a model that sees."""

import base64
import hashlib
import io
import json
import re
from typing import Any

import pytest
from chat_server import ChatServer, user_text
from named import rows
from PIL import Image
from topics import add_cluster

from nearsql.pipeline.console import UserError
from nearsql.pipeline.label import Asking, label_clusters
from nearsql.pipeline.label.asking import Showing
from nearsql.pipeline.replay import replay
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("llm_home")


@pytest.fixture
def photos(db: dbapi.Connection) -> int:
    """Two clusters of eight pictures, red and blue, one of which is gone; gives the clustering's run."""
    with immediate(db):
        for item in range(1, 17):
            out = io.BytesIO()
            colour = (200, 4 * item, 0) if item < 9 else (0, 4 * item, 200)
            Image.new("RGB", (20, 10), colour).save(out, "PNG")
            data = out.getvalue()
            db.execute(
                "insert into items (id, kind, collection, sha256, width, height, sequence_number, uri)"
                " values (?, 'image', 'photos', ?, 20, 10, ?, '/nowhere/to/be/found.png')",
                (item, hashlib.sha256(data).hexdigest(), item),
            )
            if item != 2:
                db.execute("insert into item_images values (?, 'image/png', ?)", (item, data))
    with run(db, "cluster", parameters={"method": "tests"}) as current, immediate(db):
        for n in range(2):
            add_cluster(db, current.id, 1, n, list(range(8 * n + 1, 8 * n + 9)))
    return current.id


def pictures_in(request: dict[str, Any]) -> list[Image.Image]:
    parts = request["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    prefix = "data:image/jpeg;base64,"
    assert all(url.startswith(prefix) for url in urls)
    return [Image.open(io.BytesIO(base64.b64decode(url.removeprefix(prefix)))) for url in urls]


def test_a_model_that_sees_is_shown_the_images(
    db: dbapi.Connection, photos: int, server: ChatServer
) -> None:
    def by_colour(request: dict[str, Any]) -> str:
        prompt = user_text(request)
        reds = [image.getpixel((5, 5))[0] > 100 for image in pictures_in(request)]
        numbers = re.findall(r"^(\d+)\. attached image (\d+)", prompt, re.MULTILINE)
        assert [int(i) for _, i in numbers] == list(range(1, len(reds) + 1))
        if prompt.startswith("Name"):
            assert len(set(reds)) == 1
            name = "red ones" if reds[0] else "blue ones"
            return json.dumps({"name": name, "summary": "s", "category": "c", "strength": 10})
        red = "red ones" in prompt
        return json.dumps(
            {"belongs": [int(n) for (n, _), r in zip(numbers, reds, strict=True) if r == red]}
        )

    server.answer = by_colour
    asking = Asking("seeing", showing=Showing(images=True), backoff=0.001)
    result = label_clusters(db, photos, asking=asking)
    assert [row["name"] for row in rows(db, result.run_id)] == ["red ones", "blue ones"]
    assert (result.precision, result.recall) == (1.0, 1.0)
    assert all(image.size == (240, 120) for image in pictures_in(server.requests[0]))
    # The one that is gone is missed, and said to be.
    assert db.execute("select stage, item_id from item_errors").fetchall() == [("picture", 2)]
    assert not any(2 in json.loads(row["shown_item_ids_json"]) for row in rows(db, result.run_id))
    stored = db.execute("select attachments_json from llm_responses order by id limit 1").fetchone()
    assert len(set(json.loads(stored[0]))) == len(pictures_in(server.requests[0]))
    assert replay(db, result.run_id).is_same
    asked = len(server.requests)
    label_clusters(db, photos, asking=asking)
    assert len(server.requests) == asked
    # Without the images there is nothing to ask.
    with pytest.raises(UserError, match="no cluster was named, the last because of cluster 1 of"):
        label_clusters(db, photos, asking=Asking("seeing", max_errors=1))
    (message,) = db.execute(
        "select distinct message from item_errors where stage = 'name'"
    ).fetchone()
    assert message.startswith(
        "its items have neither text nor labels nor predicted classes; --images"
    )
