"""A small database to be searched: images by their pixels, texts by tf-idf and by their words."""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from served import Site

from nearsql.pipeline.embed import embed
from nearsql.pipeline.index.text import text_index
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_texts
from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.udfs import connection

SCRIPT = "<script>window.hacked = true</script>"
COLOURS = ("dark", "middle", "bright")
PER_COLOUR = 8
IMAGES = len(COLOURS) * PER_COLOUR  # items 1 to 24
TEXTS = (  # items 25 to 30
    "the early bird catches the worm",
    "birds of a feather flock together",
    f"a worm is no bird {SCRIPT}",
    "many hands make light work",
    "time and tide wait for no man",
    "the bright side of work",
)
PIXELS, TFIDF = "pixels", "tfidf"


@dataclass(frozen=True, slots=True)
class Searched:
    """Where the database is. selection: of the bright images, under this name."""

    path: Path
    selection: str = f"the bright {SCRIPT}"


def grey(value: int, seed: int = 0) -> bytes:
    """A PNG of 8 x 8 about that grey."""
    noise = np.random.default_rng(seed).integers(-20, 20, (8, 8))
    values = np.clip(value + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def greys() -> list[bytes]:
    """The images of items 1 to 24: eight dark ones, eight of middle grey, eight bright ones."""
    values = [30 + 95 * (number // PER_COLOUR) for number in range(IMAGES)]
    return [grey(value, number) for number, value in enumerate(values)]


def build(path: Path) -> Searched:
    """Makes the database."""
    searched = Searched(path)
    db = connection.create(path)
    rows = [
        (
            f"/photos/{COLOURS[n // PER_COLOUR]}_picture-{n + 1}.png",
            data,
            {"shade": COLOURS[n // PER_COLOUR], "odd=even": "even" if n % 2 else SCRIPT},
            {},
        )
        for n, data in enumerate(greys())
    ]
    ingest_image_bytes(db, rows, collection="photos", source="tests")
    table = path.parent / "texts.jsonl"
    table.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    ingest_texts(db, table, text="text")
    embed(db, "pixels", size=4)
    embed(db, "tfidf")
    text_index(db)
    db.execute("insert into selections (name, how) values (?, 'ids')", (searched.selection,))
    db.execute("insert into selection_items select 1, id from items where id between 17 and 24")
    db.commit()
    inputs = [space_input(db, PIXELS)]
    with run(db, "project", parameters={}, inputs=inputs) as current, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, 0)",
            [(current.id, item, float(item)) for item in range(1, IMAGES + 1)],
        )
    db.close()
    return searched


def shown(page: str) -> list[int]:
    """The items that a page of results shows, in its order."""
    return [int(item) for item in re.findall(r'<li data-item="(\d+)"', page)]


def distances(page: str) -> list[str]:
    """Their distances."""
    return re.findall(r'title="Distance">([^<]*)<', page)


def raw(own: Site, path: str, image: bytes) -> Any:
    """Sends an image as the script of the page does."""
    cookies, token = own.signed_in(None)
    headers = {"accept": "application/json", "content-type": "application/octet-stream"}
    return own.runner.run(
        own.datasette.client.post(
            path, content=image, cookies=cookies, headers={**headers, "x-csrftoken": token}
        )
    )
