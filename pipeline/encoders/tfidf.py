"""`tfidf`: latent semantic analysis. Words weighed by rarity, then the directions that vary most.

The field's plain baseline for texts: scikit-learn's tf-idf and randomised decomposition, after
Deerwester et al., "Indexing by latent semantic analysis" (1990). What it learns (vocabulary, word
weights, directions) is kept in the database, so that later texts are measured with the same ruler.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import Batch, CannotEncode, Columns, Corpus, Kind, Model, Vectors
from nearsql.pipeline.model_arrays import from_npy, to_npy
from nearsql.udfs.spaces import Metric

KIND: Kind = "text"
OPTIONS = {"dimensions": 128, "max_features": 20_000, "seed": 0}
DEVICES = ("auto", "cpu")
BATCH_SIZE = 256
LEARNS = True
PACKAGES = ("scikit-learn", "scipy")

# In a large collection a word of a single text links nothing and is mostly a misspelling; in a small
# one nearly all words are such.
_LARGE_CORPUS = 1000

# Directions with less than this share of the first one's singular value are rounding noise.
_SMALLEST_SINGULAR_VALUE = 1e-5


def full_name(name: str) -> str:
    """`tfidf`, or UserError."""
    if name != "tfidf":
        raise UserError(f"there is no model {name!r}: it is called tfidf")
    return name


def check(options: Mapping[str, Any]) -> None:
    """Raises UserError for options that make no sense."""
    for option in ("dimensions", "max_features"):
        if options[option] < 1:
            raise UserError(
                f"--{option.replace('_', '-')} must be at least 1, not {options[option]}"
            )
    if not 0 <= options["seed"] < 2**32:
        raise UserError(f"--seed must be from 0 to {2**32 - 1}, not {options['seed']}")


def fit(name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
    """Learns vocabulary, word weights and directions from the corpus, which is read in a stream.

    Fewer dimensions come out than were asked for when the corpus has fewer texts or words; the
    model's parameters then name both numbers.
    """
    from sklearn.utils.extmath import randomized_svd

    min_df = 2 if len(corpus) >= _LARGE_CORPUS else 1
    vectorizer = _vectorizer(max_features=options["max_features"], min_df=min_df)
    try:
        counts = vectorizer.fit_transform(corpus.texts())
    except ValueError as error:
        if "vocabulary" not in str(error) and "no terms remain" not in str(error).lower():
            raise
        raise UserError(
            "these texts have no words to learn from (a word has at least two letters or digits)"
        ) from error
    asked = min(options["dimensions"], *counts.shape)
    # What TruncatedSVD computes, without its variances, which a corpus of one text has not.
    _, strengths, directions = randomized_svd(counts, asked, n_iter=5, random_state=options["seed"])
    is_real = strengths > _SMALLEST_SINGULAR_VALUE * strengths[0]
    strengths, directions = strengths[is_real], directions[is_real]
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    parameters = {
        "model": "tfidf",
        "options": dict(options),
        "dimensions": len(directions),
        "words": len(words),
        "min_df": min_df,
        "sublinear_tf": True,
        "texts": len(corpus),
        # The share of the sum of squares of all word weights that the dimensions hold.
        "share_kept": round(float((strengths**2).sum() / counts.power(2).sum()), 6),
    }
    arrays = {
        "vocabulary": json.dumps(words, ensure_ascii=False).encode(),
        "idf": to_npy(vectorizer.idf_.astype(np.float32)),
        "directions": to_npy(directions.astype(np.float32)),
    }
    return Model(f"tfidf:{space}", "text", parameters, arrays)


def load(model: Model, device: str = "auto") -> "TfidfEncoder":
    """The encoder from the arrays that `fit` left. Raises ValueError when they do not fit together."""
    words = json.loads(model.arrays["vocabulary"])
    idf = from_npy(model.arrays["idf"], dtype=np.float32, ndim=1)
    directions = from_npy(model.arrays["directions"], dtype=np.float32, ndim=2)
    if not isinstance(words, list) or not len(words) == len(idf) == directions.shape[1]:
        raise ValueError(f"the arrays of the model {model.name!r} do not fit together")
    return TfidfEncoder(words, idf, directions)


def load_text_tower(model: Model) -> "TfidfEncoder":
    """The same: texts are what it encodes."""
    return load(model)


class TfidfEncoder:
    """Unit vectors of texts: word weights, projected on the directions."""

    metric: Metric = "cosine"
    device = "cpu"
    computation: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        words: list[str],
        idf: npt.NDArray[np.float32],
        directions: npt.NDArray[np.float32],
    ) -> None:
        self._vectorizer = _vectorizer(vocabulary={word: i for i, word in enumerate(words)})
        self._vectorizer.idf_ = idf
        self._projection = np.ascontiguousarray(directions.T)
        self.dimensions = len(directions)

    def prepare(self, content: bytes | str) -> str:
        """The text itself: counting its words is quick, and needs the GIL."""
        assert isinstance(content, str)
        return content

    def __call__(self, batch: Batch) -> Columns:
        """Row by row the same whatever else is in the batch: the product with a sparse matrix is."""
        counts = self._vectorizer.transform(batch["prepared"])
        vectors = np.asarray(counts @ self._projection, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        words_known = np.diff(counts.indptr)
        problems = [_problem(*pair) for pair in zip(words_known, lengths[:, 0], strict=True)]
        return {"item_id": batch["item_id"], "vector": vectors, "problem": problems}

    def embed(self, text: str) -> Vectors:
        """The vector of one text, as it would have as an item. Raises CannotEncode."""
        columns = self({"item_id": [0], "prepared": [self.prepare(text)]})
        (problem,) = columns["problem"]
        if problem is not None:
            raise CannotEncode(problem)
        return columns["vector"][0]


def _problem(words_known: int, length: float) -> str | None:
    if words_known == 0:
        return "none of its words is in the model's vocabulary"
    if length == 0:
        return "its words have no part in the model's dimensions"
    return None


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **options)
