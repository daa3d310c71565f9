"""A language model by way of the `llm` library: any provider and any local model it has a plugin for.

Keys, aliases and models are those of the `llm` command. Nothing is written to its log of prompts: only
the command does that, and `Response.log_to_db`, which is not called here.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from nearsql.pipeline.console import UserError
from nearsql.pipeline.label.prompts import BadAnswer, Question
from nearsql.pipeline.providers import (
    REFUSES_ALL,
    REFUSES_THIS,
    in_a_thread,
    in_words,
    pause_before,
    retry_after,
    status_of,
)

T = TypeVar("T")


class CannotAnswer(Exception):
    """A question got no answer of use, however often it was asked; the sentence says why."""


class NothingToShow(CannotAnswer):
    """There is no question to ask, which is no fault of any model."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, and what it took; a provider may not say how many tokens."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    duration_ms: float


@dataclass
class Asked:
    """How often a model was asked, and why again."""

    requests: int = 0
    retries: int = 0


class LanguageModel:
    """A model that is asked until it answers, within limits.

    options: those of the model, as for `llm -o`. timeout: seconds for an answer. retries: how often a
    question is asked again when there was an error, no answer in time or none of use. backoff: seconds
    before the first retry, doubled for each further one; what the provider asks for, if that is longer.
    Raises UserError when there is no such model, or it has no such options.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        timeout: float = 60.0,
        retries: int = 4,
        backoff: float = 1.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._model = _find(name)
        self.id: str = self._model.model_id
        self.takes_schema = bool(self._model.supports_schema)
        self.takes_images = "image/jpeg" in self._model.attachment_types
        self.options = _checked_options(self._model, options)
        self.asked = Asked()
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._pause = pause

    def ask(self, question: Question, parse: Callable[[str], T]) -> tuple[Answer, T]:
        """The first answer that `parse` takes, and what it makes of it; parse raises BadAnswer.

        Raises CannotAnswer when this question gets none, and UserError when no question would.
        """
        for attempt in range(self._retries + 1):
            self.asked.requests += 1
            asked_for = 0.0
            try:
                answer = self._answer(question)
                return answer, parse(answer.text)
            except BadAnswer as error:
                reason = str(error)
            except TimeoutError:
                reason = f"no answer within {self._timeout:g} s"
            except Exception as error:  # whatever a provider's plugin raises
                reason, asked_for = self._reason(error), retry_after(error)
                if status_of(error) in REFUSES_THIS:
                    raise CannotAnswer(reason) from error
            if attempt < self._retries:
                self.asked.retries += 1
                self._pause(pause_before(attempt, self._backoff, asked_for))
        times = "once" if self._retries == 0 else f"{self._retries + 1} times"
        raise CannotAnswer(f"{reason} (asked {times})")

    def _reason(self, error: Exception) -> str:
        """What went wrong, in a line. Raises UserError when it will go wrong with every question."""
        from llm import NeedsKeyException

        words = in_words(error)
        if isinstance(error, NeedsKeyException) or status_of(error) in REFUSES_ALL:
            raise UserError(f"the model {self.id!r} answers nothing: {words}") from error
        return f"{type(error).__name__}: {words}"

    def _answer(self, question: Question) -> Answer:
        """One request. Raises TimeoutError, or whatever the provider's plugin raises."""
        import llm

        asked: dict[str, Any] = {
            **self.options,
            "prompt": question.sent_prompt(with_schema=self.takes_schema),
            "system": question.system,
            "stream": self._model.can_stream,
        }
        if self.takes_schema:
            asked["schema"] = dict(question.schema)
        if question.attachments:
            asked["attachments"] = [
                llm.Attachment(type="image/jpeg", content=data) for data in question.attachments
            ]
        start = time.perf_counter()
        if isinstance(self._model, llm.AsyncModel | llm.AsyncKeyModel):
            text, usage = _in_the_loop(self._model, asked, self._timeout)
        else:

            def in_full() -> tuple[str, Any]:
                response = self._model.prompt(**asked)
                return response.text(), response.usage()

            text, usage = in_a_thread(in_full, self._timeout)
        elapsed = (time.perf_counter() - start) * 1000
        return Answer(text, usage.input, usage.output, round(elapsed, 3))


def _in_the_loop(model: Any, asked: dict[str, Any], timeout: float) -> tuple[str, Any]:
    """Asks a model that can be interrupted: after the time-out its connection is closed."""

    async def answer() -> tuple[str, Any]:
        async with asyncio.timeout(timeout):
            response = model.prompt(**asked)
            return await response.text(), await response.usage()

    future = asyncio.run_coroutine_threadsafe(answer(), _event_loop())
    try:
        return future.result()
    except BaseException:  # Ctrl-C, too
        future.cancel()
        raise


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One loop for the life of the process: clients outlive their requests, and close in their own loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="language models").start()
    return loop


def _find(name: str) -> Any:
    """The model of that name or alias; one that can be interrupted, where the plugin has both."""
    try:
        import llm
    except ImportError:
        raise UserError(
            "--method llm needs the llm library: install it with `pip install 'nearsql[llm]'`"
        ) from None
    try:
        return llm.get_async_model(name)
    except llm.UnknownModelError:
        pass
    try:
        return llm.get_model(name)
    except llm.UnknownModelError:
        raise UserError(
            f"the llm library knows no model {name!r}: `llm models` lists those it knows, and `llm"
            " install` adds providers"
        ) from None


def _checked_options(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the model understands them: numbers, where they came as text."""
    from pydantic import ValidationError

    try:
        return {
            name: value
            for name, value in model.Options(**options).model_dump(mode="json").items()
            if name in options
        }
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors() if e["loc"])
        known = ", ".join(model.Options.model_fields) or "none"
        raise UserError(
            f"the model {model.model_id!r} does not take that option: {wrong or error}. It has {known}"
        ) from None
