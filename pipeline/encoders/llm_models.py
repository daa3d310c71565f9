"""`llm:NAME`: text embeddings by any embedding model of the `llm` library: OpenAI's, and all that has a plugin.

Names, aliases and keys are those of the `llm` command. Texts are sent to whoever runs the model, in
requests that providers accept; what they refuse, or cannot answer just now, is told apart from what they
could. SQL's embed_text asks such a model only where NEARSQL_LLM_IN_SQL is 1: a query must not send texts
away, nor spend money, because of what a database file names.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import (
    Batch,
    CannotEncode,
    Columns,
    Corpus,
    Kind,
    Model,
    Option,
    Vectors,
)
from nearsql.pipeline.providers import (
    REFUSES_ALL,
    REFUSES_THIS,
    in_a_thread,
    in_words,
    pause_before,
    retry_after,
    status_of,
)
from nearsql.udfs.spaces import Metric

KIND: Kind = "text"
OPTIONS: Mapping[str, Option] = {"title": "title"}
DEVICES = ("auto", "cpu")  # nothing is computed here
BATCH_SIZE = 100  # as many as the library itself sends to OpenAI at once
PACKAGES = ("llm",)

TIMEOUT_S = (
    120.0  # for one request; the clients of some providers try again by themselves meanwhile
)
RETRIES = 5
BACKOFF_S = 1.0  # before the first retry, doubled for each further one

# Set to 1 where embed_text may ask.
ALLOWED_IN_SQL = "NEARSQL_LLM_IN_SQL"

# OpenAI takes 300,000 tokens a request. A token of English is four bytes; a byte is never more than one.
_MOST_BYTES_A_REQUEST = 600_000
# A text that may be too long by itself goes alone, so that the others are not refused with it.
_BYTES_THAT_GO_ALONE = 24_000
_BYTES_A_TOKEN = 4

# How a refusal says that the text is too long, and OpenAI by how much.
_TOO_LONG = re.compile(
    r"context length|too long|too many tokens|token limit|max(imum)? .{0,30}tokens", re.IGNORECASE
)
_LIMIT_AND_ASKED = re.compile(r"is ([\d,]+) tokens.*?requested ([\d,]+) tokens", re.DOTALL)
# A text that is cut so often and is still too long is refused for another reason.
_MOST_CUTS = 12

# US dollars for a million tokens, by the models' names at OpenAI; its price list of 2025.
_OPENAI_PRICES = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}


def full_name(name: str) -> str:
    """`llm:3-large` as `llm:text-embedding-3-large`. Raises UserError for a model that llm does not know."""
    return f"llm:{_find(name.partition(':')[2]).model_id}"


def check(options: Mapping[str, Any]) -> None:
    """Nothing to refuse: any name may be that of titles."""


def fit(name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
    """The model of that name, asked once, for how many dimensions it has. Raises UserError."""
    found = _find(name.partition(":")[2])
    probe = Asked(found).vectors(["a"])[0]
    if probe.vector is None:
        raise UserError(
            f"the model {found.model_id!r} refuses even a single letter: {probe.problem}"
        )
    title = options["title"]
    parameters = {
        "model": name,
        "options": {"title": title},
        "dimensions": len(probe.vector),
    }
    with_title = "" if title == OPTIONS["title"] else f" with the title {title!r}"
    return Model(name + with_title, "text", parameters)


def load(model: Model, device: str = "auto") -> "LlmEncoder":
    """The encoder of a model that `llm` knows here, too. Raises UserError and ValueError."""
    found, dimensions = _recorded(model)
    title = model.parameters["options"]["title"]
    if not isinstance(title, str):
        raise TypeError(f"its title is {title!r}, no name")
    return LlmEncoder(Asked(found, dimensions), title)


def load_text_tower(model: Model) -> "LlmTower":
    """The same model for queries, where it may be asked from SQL. Raises UserError and ValueError."""
    if os.environ.get(ALLOWED_IN_SQL) != "1":
        raise UserError(
            "its model is asked by way of the llm library, which sends each text to whoever runs the"
            f" model, for money perhaps: set {ALLOWED_IN_SQL}=1 where SQL may do so"
        )
    return LlmTower(Asked(*_recorded(model), retries=1))


def _recorded(model: Model) -> tuple[Any, int]:
    """The model of the llm library that a database file names, and its dimensions, checked."""
    name, dimensions = model.parameters["model"], model.parameters["dimensions"]
    if not isinstance(name, str) or not isinstance(dimensions, int) or dimensions < 1:
        raise ValueError(f"it is recorded as {name!r} of {dimensions!r} dimensions")
    return _find(name.partition(":")[2]), dimensions


def _find(name: str) -> Any:
    """The embedding model of that name or alias; the library's default for none. Raises UserError."""
    try:
        import llm
    except ImportError:
        raise UserError(
            "llm:NAME needs the llm library: install it with `pip install 'nearsql[llm]'`"
        ) from None
    try:
        if not name:
            name = _default_model()
        model = llm.get_embedding_model(name)
    except llm.UnknownModelError:
        raise UserError(
            f"the llm library knows no embedding model {name!r}: `llm embed-models` lists those it"
            " knows, and `llm install` adds providers"
        ) from None
    if not model.supports_text:
        raise UserError(f"the model {model.model_id!r} embeds no texts")
    return model


def _default_model() -> str:
    """What `llm embed-models default` says. Raises UserError when that is nothing."""
    import llm

    name = llm.get_default_embedding_model()
    if name is None:
        raise UserError(
            "say which embedding model, as in llm:text-embedding-3-large: `llm embed-models` lists them"
        )
    return str(name)


class BadAnswer(Exception):
    """An answer that is no vectors, or not those of the texts; the sentence says what is wrong."""


class _Refused(Exception):
    """The provider does not take what was asked, and would not take it another time."""


@dataclass(frozen=True, slots=True)
class Got:
    """What came for a text: a vector, and what was cut off before; or why there is none."""

    vector: Vectors | None
    problem: str | None = None
    truncated: str | None = None


class Asked:
    """A model that is asked for vectors until it answers, within limits.

    dimensions: of each vector; None takes what comes. retries: how often a request is repeated after an
    error, no answer in time or one of no use. Counts requests and retries.
    """

    def __init__(
        self,
        model: Any,
        dimensions: int | None = None,
        *,
        retries: int | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.model_id: str = model.model_id
        self.model = model
        self.dimensions = dimensions
        self.requests = self.retries = 0
        self._most_retries = RETRIES if retries is None else retries
        self._pause = pause

    def vectors(self, texts: Sequence[str]) -> list[Got]:
        """What comes for each text, in their order.

        Raises UserError when the model answers nothing any more, or refuses all of several texts.
        """
        found = [got for request in self._requests(texts) for got in self._of_request(request)]
        refused = [got for got in found if got.vector is None]
        if len(found) > 1 and len(refused) == len(found):
            raise UserError(
                f"stopped: the model {self.model_id!r} refused each of {len(found)} texts"
                f" ({refused[0].problem})"
            )
        return found

    def _requests(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The texts in as few requests as can be expected to be taken."""
        most = getattr(self.model, "batch_size", None) or len(texts)
        request: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode())
            is_alone = length > _BYTES_THAT_GO_ALONE
            if request and (
                is_alone or len(request) == most or size + length > _MOST_BYTES_A_REQUEST
            ):
                yield request
                request, size = [], 0
            request.append(text)
            size += length
            if is_alone:
                yield request
                request, size = [], 0
        if request:
            yield request

    def _of_request(self, texts: list[str]) -> list[Got]:
        """The texts' vectors; of a request that is refused, those of its halves, down to the culprit."""
        try:
            return [Got(vector) for vector in self._ask(texts)]
        except _Refused as error:
            if len(texts) == 1:
                return [self._cut(texts[0], str(error))]
        half = len(texts) // 2
        return self._of_request(texts[:half]) + self._of_request(texts[half:])

    def _cut(self, text: str, refusal: str) -> Got:
        """The vector of as much of a refused text as the model takes, if it was refused for its length."""
        kept = text
        for _ in range(_MOST_CUTS):
            length = _kept(len(kept), refusal)
            if length is None:
                break
            kept = kept[:length]
            try:
                (vector,) = self._ask([kept])
            except _Refused as error:
                refusal = str(error)
            else:
                read = f"{len(kept):,} of its {len(text):,} characters"
                return Got(vector, truncated=f"the model reads no more than the first {read}")
        return Got(None, f"the provider refuses it: {refusal}")

    def _ask(self, texts: list[str]) -> Vectors:
        """One request, repeated while that may help: float32 (texts, dimensions).

        Raises _Refused when this request would be refused again, and UserError when no request helps.
        """
        for attempt in range(self._most_retries + 1):
            self.requests += 1
            asked_for = 0.0
            try:
                return self._checked(in_a_thread(lambda: self._once(texts), TIMEOUT_S), len(texts))
            except TimeoutError:
                reason = f"no answer within {TIMEOUT_S:g} s"
            except BadAnswer as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - whatever a provider's plugin raises
                reason, asked_for = self._reason(error), retry_after(error)
            if attempt < self._most_retries:
                self.retries += 1
                self._pause(pause_before(attempt, BACKOFF_S, asked_for))
        raise UserError(
            f"stopped: the model {self.model_id!r} gives no vectors now: {reason} (asked"
            f" {self._most_retries + 1} times). What was embedded is kept: run this again later"
        )

    def _once(self, texts: list[str]) -> list[Any]:
        return list(self.model.embed_multi(texts, batch_size=len(texts)))

    def _reason(self, error: Exception) -> str:
        """What went wrong, in a line. Raises _Refused, and UserError when all requests would go wrong."""
        from llm import NeedsKeyException

        words, status = in_words(error), status_of(error)
        if (
            isinstance(error, NeedsKeyException)
            or status in REFUSES_ALL
            or getattr(error, "code", None) == "insufficient_quota"
        ):
            raise UserError(f"the model {self.model_id!r} answers nothing: {words}") from error
        if status in REFUSES_THIS:
            raise _Refused(words) from error
        return f"{type(error).__name__}: {words}"

    def _checked(self, answer: list[Any], n: int) -> Vectors:
        """The answer as an array. Raises BadAnswer unless it is a finite vector a text."""
        if len(answer) != n:
            raise BadAnswer(f"{len(answer)} vectors came for {n} texts")
        try:
            with np.errstate(
                over="ignore"
            ):  # what is too large becomes infinite, and is told below
                vectors = np.array(answer, dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise BadAnswer(f"what came is no vectors: {in_words(error)}") from error
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise BadAnswer("what came is no vectors")
        if self.dimensions is not None and vectors.shape[1] != self.dimensions:
            raise BadAnswer(f"vectors of {vectors.shape[1]} dimensions came, not {self.dimensions}")
        if not np.isfinite(vectors).all():
            raise BadAnswer("a vector came with a value that is no finite number")
        return vectors


def _kept(length: int, refusal: str) -> int | None:
    """How many characters of a text that is too long to keep; None when that is not why it is refused."""
    if length < 2 or not _TOO_LONG.search(refusal):
        return None
    share = 0.75
    found = _LIMIT_AND_ASKED.search(refusal)
    if found:
        limit, asked = (int(number.replace(",", "")) for number in found.groups())
        if 0 < limit < asked:
            share = 0.97 * limit / asked
    return max(1, min(int(length * share), length - 1))


class LlmEncoder:
    """Vectors of texts, as the provider gives them."""

    metric: Metric = "cosine"
    device = "whatever the provider has"
    computation: Mapping[str, Any] = MappingProxyType({"device": "auto"})

    def __init__(self, asked: Asked, title: str) -> None:
        """title: what titles are called in the metadata, "" for none."""
        assert asked.dimensions is not None
        self._asked, self.dimensions = asked, asked.dimensions
        self.title = title or None

    @property
    def spent(self) -> dict[str, int]:
        """How many requests there were so far, and how many of them were repetitions."""
        return {"requests": self._asked.requests, "retries": self._asked.retries}

    def forecast(self, items: int, n_bytes: int) -> str:
        """How many tokens so many texts are, and what they cost where that is known."""
        tokens = n_bytes / _BYTES_A_TOKEN
        said = f"that is about {_rounded(tokens)} tokens (4 bytes each) for {self._asked.model_id}"
        price = _price(self._asked.model)
        if price is None:
            return said
        return (
            f"{said}, about ${tokens * price / 1e6:,.4f} at ${price:.2f} a million (OpenAI, 2025)"
        )

    def prepare(self, content: bytes | str) -> str:
        """The text itself."""
        assert isinstance(content, str)
        return content

    def __call__(self, batch: Batch) -> Columns:
        """The vectors of a batch. Raises UserError when the model answers no more."""
        found = self._asked.vectors(batch["prepared"])
        vectors = np.zeros((len(found), self.dimensions), dtype=np.float32)
        for row, got in enumerate(found):
            if got.vector is not None:
                vectors[row] = got.vector
        return {
            "item_id": batch["item_id"],
            "vector": vectors,
            "problem": [got.problem for got in found],
            "truncated": [got.truncated for got in found],
        }


class LlmTower:
    """Texts that are looked for, in the space of those that are there."""

    def __init__(self, asked: Asked) -> None:
        assert asked.dimensions is not None
        self._asked, self.dimensions = asked, asked.dimensions

    def embed(self, text: str) -> Vectors:
        """The vector of one text, of which as much counts as of an item. Raises CannotEncode, UserError."""
        (got,) = self._asked.vectors([text])
        if got.vector is None:
            raise CannotEncode(str(got.problem))
        return got.vector


def _rounded(tokens: float) -> str:
    """A number of which two digits are known at best."""
    if tokens >= 1e6:
        return f"{tokens / 1e6:,.1f} million"
    return f"{int(float(f'{tokens:.2g}')):,}"


def _price(model: Any) -> float | None:
    """US dollars for a million tokens, where the model is OpenAI's own and nobody stands in for it."""
    from llm.default_plugins.openai_models import OpenAIEmbeddingModel

    if not isinstance(model, OpenAIEmbeddingModel) or os.environ.get("OPENAI_BASE_URL"):
        return None
    return _OPENAI_PRICES.get(model.openai_model_id)
