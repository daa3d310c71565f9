"""`llm:NAME`: text embeddings by any embedding model of the `llm` library: OpenAI's, and all that has a plugin.

Names, aliases and keys are those of the `llm` command, and texts are sent to whoever runs the model. SQL's
embed_text asks such a model only where NEARSQL_LLM_IN_SQL is 1: a query must not send texts away, nor spend
money, because of what a database file names.
"""

import os
from collections.abc import Mapping
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
from nearsql.pipeline.encoders.llm_requests import Asked
from nearsql.udfs.spaces import Metric

KIND: Kind = "text"
OPTIONS: Mapping[str, Option] = {"title": "title"}
DEVICES = ("auto", "cpu")  # nothing is computed here
BATCH_SIZE = 100  # as many as the library itself sends to OpenAI at once
PACKAGES = ("llm",)

# Set to 1 where embed_text may ask.
ALLOWED_IN_SQL = "NEARSQL_LLM_IN_SQL"

# Of English.
_BYTES_A_TOKEN = 4

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
