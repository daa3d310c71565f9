"""Texts sent to an embedding model of the `llm` library, in requests that it accepts, until it answers.

What is refused is told apart from what goes wrong for a while: a refused request is halved down to the text
that it is refused for, a text that is too long is cut, and all else is tried again with growing pauses.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import Vectors
from nearsql.pipeline.providers import (
    REFUSES_ALL,
    REFUSES_THIS,
    in_a_thread,
    in_words,
    pause_before,
    retry_after,
    status_of,
)

# For one request; the clients of some providers try again by themselves meanwhile.
TIMEOUT_S = 120.0
RETRIES = 5
BACKOFF_S = 1.0  # before the first retry, doubled for each further one

# OpenAI takes 300,000 tokens a request. A token of English is four bytes; a byte is never more than one.
_MOST_BYTES_A_REQUEST = 600_000
# A text that may be too long by itself goes alone, so that the others are not refused with it.
_BYTES_THAT_GO_ALONE = 24_000

# How a refusal says that the text is too long, and OpenAI by how much.
_TOO_LONG = re.compile(
    r"context length|too long|too many tokens|token limit|max(imum)? .{0,30}tokens", re.IGNORECASE
)
_LIMIT_AND_ASKED = re.compile(r"is ([\d,]+) tokens.*?requested ([\d,]+) tokens", re.DOTALL)
# A text that is cut so often and is still too long is refused for another reason.
_MOST_CUTS = 12


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
