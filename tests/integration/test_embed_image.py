"""embed_image: an image's place in a space, in SQL, by the model that the space was made with."""

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import image_towers, pixels
from nearsql.pipeline.encoders.space_models import Recent
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.udfs import connection, dbapi, image_functions

SPACE = "pixels"


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


SQUARES = [png(np.random.default_rng(n).integers(0, 256, (16, 16), np.uint8)) for n in range(5)]


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process would."""
    monkeypatch.setattr(image_towers, "_encoders", Recent(image_towers.MOST_ENCODERS))
    monkeypatch.setattr(image_towers, "_vectors", Recent(image_towers.MOST_VECTORS))
    image_towers._hashes.clear()


@pytest.fixture
def squares(db: dbapi.Connection) -> dbapi.Connection:
    """Five images in the space of 4 x 4 pixels."""
    rows = [(f"memory:{n}", data, {}, {}) for n, data in enumerate(SQUARES)]
    ingest_image_bytes(db, rows, collection="squares", source="test")
    embed(db, "pixels", size=4)
    return db


def vector(db: dbapi.Connection, image: Any, space: Any = SPACE) -> np.ndarray:
    (found,) = db.execute("select embed_image(?, ?)", (space, image)).fetchone()
    return np.frombuffer(found, "<f4")


def refusal(db: dbapi.Connection, image: Any, space: Any = SPACE) -> str:
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("select embed_image(?, ?)", (space, image)).fetchone()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("embed_image: ")
    return line


def test_an_image_of_the_space_has_the_vector_that_is_there(squares: dbapi.Connection) -> None:
    stored = squares.execute("select item_id, vector from vectors order by item_id").fetchall()
    assert len(stored) == len(SQUARES)
    for (item, bytes_), image in zip(stored, SQUARES, strict=True):
        assert vector(squares, image).tobytes() == bytes_
        (found,) = squares.execute(
            f"select id from knn('{SPACE}', embed_image('{SPACE}', ?), 1)", (image,)
        ).fetchone()
        assert found == item


def test_an_image_from_elsewhere_is_measured_with_the_same_ruler(squares: dbapi.Connection) -> None:
    values = np.full((16, 16), 51, np.uint8)
    assert vector(squares, png(values)).tolist() == pytest.approx([0.2] * 16)


def test_null_gives_null(squares: dbapi.Connection) -> None:
    assert squares.execute("select embed_image(?, null)", (SPACE,)).fetchone() == (None,)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (b"no image", "the image has no place in the space: it is none of JPEG"),
        (b"", "image must be a BLOB with the bytes of an image file, not a BLOB of 0 bytes"),
        ("photo.jpg", "image must be a BLOB with the bytes of an image file, not 'photo.jpg'"),
        (7, "image must be a BLOB with the bytes of an image file, not 7"),
        (SQUARES[0][:60], "the image has no place in the space: "),
    ],
)
def test_what_is_no_image_is_a_sentence(
    squares: dbapi.Connection, image: Any, sentence: str
) -> None:
    assert sentence in refusal(squares, image)


def test_a_space_that_takes_no_images_says_so(
    squares: dbapi.Connection, add_space: Callable[..., int]
) -> None:
    add_space("numbers", np.eye(5, 4, dtype="f4"))
    assert "there is no space 'x': the spaces are" in refusal(squares, SQUARES[0], "x")
    assert "the model of the space 'numbers' has no place for images" in refusal(
        squares, SQUARES[0], "numbers"
    )


def test_a_space_of_texts_takes_no_images(squares: dbapi.Connection) -> None:
    squares.execute(
        "update models set parameters_json = json_set(parameters_json, '$.model', 'tfidf')"
    )
    assert "has no place for images" in refusal(squares, SQUARES[0])


def test_a_model_that_is_not_what_the_space_says_is_refused(squares: dbapi.Connection) -> None:
    squares.execute(
        "update models set parameters_json = json_set(parameters_json, '$.options.size', 5)"
    )
    assert "gives an image 25 dimensions, and the space has 16" in refusal(squares, SQUARES[0])
    squares.execute('update models set parameters_json = \'{"model": "pixels"}\'')
    assert "cannot be loaded: 'options'" in refusal(squares, SQUARES[0])


def test_a_changed_model_is_noticed(squares: dbapi.Connection) -> None:
    before = vector(squares, SQUARES[0])
    squares.execute(
        "update models set parameters_json = json_set(parameters_json, '$.options.size', 2)"
    )
    assert "4 dimensions" in refusal(squares, SQUARES[0])
    squares.rollback()
    assert vector(squares, SQUARES[0]).tolist() == before.tolist()


def test_a_hostile_file_makes_nobody_compute(squares: dbapi.Connection) -> None:
    squares.execute(f"create view trap as select embed_image('{SPACE}', x'00')")
    with pytest.raises(dbapi.OperationalError, match="unsafe use of embed_image"):
        squares.execute("select * from trap").fetchall()


def test_several_threads_load_it_once(
    squares: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares.commit()
    (path,) = [row[2] for row in squares.execute("pragma database_list") if row[1] == "main"]
    count: list[int] = []
    original = pixels.load
    monkeypatch.setattr(pixels, "load", lambda *args: count.append(1) or original(*args))
    found: list[bytes] = []

    def ask() -> None:
        own = connection.connect(path, read_only=True)
        found.append(vector(own, SQUARES[1]).tobytes())
        own.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert count == [1]


def test_others_may_offer_image_encoders(
    squares: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Entry:
        def __init__(self, name: str, encoder: Any) -> None:
            self.name, self._encoder = name, encoder

        def load(self) -> Any:
            return self._encoder

    def offer(*entries: Entry) -> None:
        monkeypatch.setattr(image_functions, "entry_points", lambda group: list(entries))
        image_functions._image_encoders.cache_clear()

    asked = []
    try:
        offer(
            Entry("b", lambda db, space, image: b"\0\0\x80?" * 16),
            Entry("a", lambda db, space, image: asked.append((space, image))),
        )
        assert vector(squares, b"anything").tolist() == [1] * 16
        assert asked == [(SPACE, b"anything")]
        offer()
        assert "no image encoder is installed" in refusal(squares, SQUARES[0])
    finally:
        monkeypatch.undo()
        image_functions._image_encoders.cache_clear()
