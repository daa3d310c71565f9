"""Encoders: what they give for an input, and that a stored model measures as the fitted one did."""

import io
import json
import pickle
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from nearsql.pipeline import encoders, model_arrays
from nearsql.pipeline.console import UserError
from nearsql.pipeline.encode_items import _encode, _Prepared
from nearsql.pipeline.encoders import CannotEncode, Model, pixels, tfidf


class Corpus:
    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def texts(self) -> Iterator[str]:
        return iter(self._texts)


def encode(encoder, prepared):
    return encoder({"item_id": list(range(len(prepared))), "prepared": prepared})


def png(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **options)
    return buffer.getvalue()


def pixel_vector(data: bytes, size: int) -> np.ndarray:
    encoder = pixels.load(pixels.fit("pixels", "s", {"size": size}, Corpus([])))
    return encode(encoder, [encoder.prepare(data)])["vector"][0]


@given(arrays(np.uint8, (16, 16)))
def test_pixels_of_an_image_that_has_the_size_are_its_own(values) -> None:
    vector = pixel_vector(png(values), 16)
    assert vector.dtype == np.float32
    assert np.array_equal(vector, (values.astype("f4") / 255).ravel())


@given(arrays(np.uint8, (12, 20)))
def test_a_scaled_down_pixel_is_the_mean_of_its_area(values) -> None:
    vector = pixel_vector(png(values), 4).reshape(4, 4)
    means = values.reshape(4, 3, 4, 5).mean(axis=(1, 3))
    assert (
        np.abs(vector * 255 - means).max() <= 1
    )  # Pillow rounds to 8 bits twice: along x, then along y


def test_transparent_is_white_and_black_is_a_vector() -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    assert (pixel_vector(png(clear), 16) == 1).all()
    clear[..., 3] = 255
    assert (pixel_vector(png(clear), 16) == 0).all()
    grey = np.zeros((16, 16), np.uint8)
    assert (pixel_vector(png(grey, transparency=0), 16) == 1).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    vector = pixel_vector(png(values), 16)
    assert np.abs(vector - values.ravel() / 65535).max() < 1 / 255


def test_pixels_refuses_what_is_no_image_and_numbers_without_a_white() -> None:
    encoder = pixels.PixelsEncoder(4)
    with pytest.raises(CannotEncode, match="none of JPEG"):
        encoder.prepare(b"no image")
    buffer = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(buffer, "TIFF")
    with pytest.raises(CannotEncode, match="floating-point"):
        encoder.prepare(buffer.getvalue())
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 2**20, np.int32)).save(buffer, "TIFF")
    with pytest.raises(CannotEncode, match="outside 0 to 65535"):
        encoder.prepare(buffer.getvalue())


TEXTS = [
    "the cat sat on the mat",
    "a cat and a dog",
    "dogs chase cats",
    "stocks fell on monday",
    "the market and the stocks rose",
    "monday is market day",
]
OPTIONS = {"dimensions": 4, "max_features": 100, "seed": 3}


def test_tfidf_equals_scikit_learns_own_pipeline() -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    model = tfidf.fit("tfidf", "s", OPTIONS, Corpus(TEXTS))
    lsa = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, max_features=100),
        TruncatedSVD(4, random_state=3),
        Normalizer(),
    )
    expected = lsa.fit_transform(TEXTS)
    columns = encode(tfidf.load(model), TEXTS)
    assert columns["problem"] == [None] * 6
    assert columns["vector"].dtype == np.float32
    # Axes may differ in sign; what search sees, the angles, do not.
    assert np.allclose(columns["vector"] @ columns["vector"].T, expected @ expected.T, atol=1e-5)


def test_a_stored_tfidf_measures_as_before_one_text_at_a_time_or_all_at_once() -> None:
    model = tfidf.fit("tfidf", "s", OPTIONS, Corpus(TEXTS))
    kept = Model(
        model.name, model.family, json.loads(json.dumps(model.parameters)), dict(model.arrays)
    )
    together = encode(tfidf.load(model), TEXTS)["vector"]
    alone = [encode(tfidf.load(kept), [text])["vector"][0] for text in TEXTS]
    assert np.array_equal(together, np.array(alone))


def test_a_text_that_is_no_item_gets_the_vector_it_would_have_as_one() -> None:
    model = tfidf.fit("tfidf", "s", OPTIONS, Corpus(TEXTS))
    tower = tfidf.load_text_tower(model)
    together = encode(tfidf.load(model), TEXTS)["vector"]
    assert np.array_equal(np.array([tower.embed(text) for text in TEXTS]), together)
    with pytest.raises(CannotEncode, match="none of its words"):
        tower.embed("xylophone")


def test_tfidf_records_what_the_corpus_allowed() -> None:
    model = tfidf.fit("tfidf", "s", {**OPTIONS, "dimensions": 128}, Corpus([*TEXTS, *TEXTS]))
    assert model.parameters["options"]["dimensions"] == 128
    assert model.parameters["dimensions"] == 6  # twelve texts, but no more than six directions
    assert tfidf.load(model).dimensions == 6
    assert model.parameters["min_df"] == 1
    large = tfidf.fit("tfidf", "s", OPTIONS, Corpus(TEXTS * 200))
    assert large.parameters["min_df"] == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("texts", "dimensions"),
    [
        (["hello world"], 1),
        (["hello", "hello"], 1),
        (["hello", "?"], 1),
        (["aa bb", "cc dd"], 2),
        (["the same words"] * 5, 1),
    ],
)
def test_tfidf_of_the_smallest_corpora(texts, dimensions) -> None:
    model = tfidf.fit("tfidf", "s", OPTIONS, Corpus(texts))
    assert model.parameters["dimensions"] == dimensions
    assert model.parameters["share_kept"] == pytest.approx(1, abs=1e-5)
    columns = encode(tfidf.load(model), texts)
    for text, vector, problem in zip(texts, columns["vector"], columns["problem"], strict=True):
        assert (problem is None) == (text != "?")
        assert np.linalg.norm(vector) == pytest.approx(0.0 if problem else 1.0)


def test_a_text_without_a_known_word_is_a_problem_not_a_vector_of_zeros() -> None:
    encoder = tfidf.load(tfidf.fit("tfidf", "s", OPTIONS, Corpus(TEXTS)))
    columns = encode(encoder, ["cat", "zebra xylophone", "? !"])
    assert [p is None for p in columns["problem"]] == [True, False, False]
    assert np.linalg.norm(columns["vector"][0]) == pytest.approx(1)


def test_tfidf_of_texts_without_words() -> None:
    with pytest.raises(UserError, match="no words to learn from"):
        tfidf.fit("tfidf", "s", OPTIONS, Corpus(["?", "!", "a b c"]))


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (pixels, {"size": 0}),
        (pixels, {"size": 257}),
        (tfidf, {**OPTIONS, "dimensions": 0}),
        (tfidf, {**OPTIONS, "max_features": 0}),
        (tfidf, {**OPTIONS, "seed": -1}),
    ],
)
def test_options_that_make_no_sense(module, options) -> None:
    with pytest.raises(UserError, match="must be"):
        module.check(options)


def test_models_by_name() -> None:
    assert encoders.find_module("pixels") is pixels
    with pytest.raises(UserError, match="the models are clip, dino, llm, pixels, text"):
        encoders.find_module("klip")
    for module, name in ((pixels, "pixels"), (tfidf, "tfidf")):
        assert module.full_name(name) == name
        with pytest.raises(UserError, match=f"it is called {name}"):
            module.full_name(f"{name}:x")
    encoders.check_device("pixels", pixels, "auto")
    with pytest.raises(UserError, match="does not compute on 'cuda': --device is auto, cpu"):
        encoders.check_device("pixels", pixels, "cuda")
    with pytest.raises(UserError, match="no --dimensions: it has --size"):
        encoders.check_options("pixels", pixels, {"dimensions": 3, "size": None})
    assert encoders.check_options("pixels", pixels, {"dimensions": None, "size": 8}) == {"size": 8}


def test_every_model_follows_the_protocol() -> None:
    for name in encoders.MODULES:
        module = encoders.find_module(name)
        assert module.KIND in ("image", "text")
        assert module.OPTIONS
        assert module.PACKAGES
        assert {"auto", "cpu"} <= set(module.DEVICES)
        assert module.BATCH_SIZE > 0
        module.check(module.OPTIONS)


def test_a_library_that_is_not_installed_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nearsql.pipeline.encoders.clip", None)
    with pytest.raises(ModuleNotFoundError):  # nobody's fault but ours
        encoders.find_module("clip")
    monkeypatch.delitem(sys.modules, "nearsql.pipeline.encoders.clip")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match=r"needs open_clip.*pip install 'nearsql\[vision\]'"):
        encoders.find_module("clip:ViT-B-32")


@given(arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(1, 4))))
def test_arrays_come_back_as_they_were(array) -> None:
    back = model_arrays.from_npy(model_arrays.to_npy(array), dtype=np.float32, ndim=2)
    assert np.array_equal(back, array, equal_nan=True)


def test_no_pickle_is_written_or_read() -> None:
    class Payload:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        model_arrays.to_npy(np.array([Payload()]))
    hostile = io.BytesIO()
    np.save(hostile, np.array([Payload()], dtype=object), allow_pickle=True)
    for data in (hostile.getvalue(), pickle.dumps(Payload()), b"", b"\x93NUMPY"):
        with pytest.raises(ValueError, match=r"."):
            model_arrays.from_npy(data, dtype=np.float32, ndim=1)
    with pytest.raises(ValueError, match="float32 with 1 axes"):
        model_arrays.from_npy(model_arrays.to_npy(np.zeros((2, 2))), dtype=np.float32, ndim=1)


class Doubling:
    """An encoder of numbers that fits three items in memory."""

    dimensions = 1
    metric = "cosine"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def prepare(self, content):
        return content

    def __call__(self, batch):
        self.sizes.append(len(batch["prepared"]))
        if len(batch["prepared"]) > 3:
            raise MemoryError
        vectors = np.array(batch["prepared"], np.float32)[:, None] * 2
        return {"item_id": batch["item_id"], "vector": vectors, "problem": [None] * len(vectors)}


def test_out_of_memory_halves_the_batch() -> None:
    encoder = Doubling()
    encoded = _encode(encoder, [_Prepared(i, None, float(i)) for i in range(1, 11)])
    assert [np.frombuffer(e.vector, "<f4")[0] for e in encoded] == [2.0 * i for i in range(1, 11)]
    assert encoder.sizes == [10, 5, 2, 3, 5, 2, 3]


def test_what_is_no_direction_or_not_finite_is_a_problem() -> None:
    batch = [
        _Prepared(1, None, 1.0),
        _Prepared(2, "a", stage="read", problem="gone"),
        _Prepared(3, None, 0.0),
    ]
    encoder = Doubling()
    encoded = _encode(encoder, batch)
    assert [(e.item_id, e.stage) for e in encoded] == [(1, ""), (2, "read"), (3, "embed")]
    assert "zeros" in str(encoded[2].problem)
    encoded = _encode(encoder, [_Prepared(1, None, float("nan")), _Prepared(2, None, float("inf"))])
    assert ["no finite number" in str(e.problem) for e in encoded] == [True, True]
