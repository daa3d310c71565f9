"""Answers of language models, kept: no question is asked twice, and a replay asks none.

An answer is stored the moment it comes, in a transaction of its own: it was paid for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from nearsql.pipeline.label.model import Answer, CannotAnswer, LanguageModel
from nearsql.pipeline.label.prompts import BadAnswer, Question
from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

T = TypeVar("T")

_COLUMNS = "id, response, prompt_tokens, completion_tokens, duration_ms"


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of llm_responses."""

    id: int
    prompt_tokens: int | None
    completion_tokens: int | None


class Answers(Protocol):
    """Whoever answers questions."""

    with_schema: bool

    def ask(self, question: Question, parse: Callable[[str], T]) -> tuple[Stored, T]:
        """The stored answer and what `parse` makes of it. Raises CannotAnswer."""


class NotRecorded(CannotAnswer):
    """A run that is replayed got no answer to this question."""


class KeptAnswers:
    """Answers of a run under way: what it knows already, what earlier runs know, then the model's.

    ask_again: leave the answers of earlier runs aside.
    """

    def __init__(
        self, db: dbapi.Connection, run_id: int, model: LanguageModel, *, ask_again: bool = False
    ) -> None:
        self._db, self._run, self._model, self._ask_again = db, run_id, model, ask_again
        self.with_schema = model.takes_schema

    def ask(self, question: Question, parse: Callable[[str], T]) -> tuple[Stored, T]:
        """As Answers says; raises UserError when no question would be answered."""
        sha256 = question.sha256(self._model.id, self._model.options, with_schema=self.with_schema)
        known = _of_run(self._db, self._run, sha256, parse)
        if known is not None:
            return known
        earlier = None if self._ask_again else _of_any_run(self._db, sha256, parse)
        if earlier is not None:
            answer, parsed = earlier
        else:
            answer, parsed = self._model.ask(question, _storable(parse))
        with immediate(self._db):
            row_id = self._db.execute(
                read_sql(__package__, "insert_response"),
                (
                    self._run,
                    sha256,
                    self._model.id,
                    json.dumps(self._model.options, sort_keys=True),
                    question.system,
                    question.sent_prompt(with_schema=self.with_schema),
                    json.dumps(question.schema) if self.with_schema else None,
                    json.dumps(question.attachment_hashes()),
                    answer.text,
                    answer.prompt_tokens,
                    answer.completion_tokens,
                    answer.duration_ms,
                    int(earlier is not None),
                ),
            ).lastrowid
        assert row_id is not None
        return Stored(row_id, answer.prompt_tokens, answer.completion_tokens), parsed


class RecordedAnswers:
    """The answers that a finished run got, and no others."""

    def __init__(
        self,
        db: dbapi.Connection,
        run_id: int,
        model: str,
        options: Mapping[str, Any],
        *,
        with_schema: bool,
    ) -> None:
        self._db, self._run, self._model, self._options = db, run_id, model, options
        self.with_schema = with_schema

    def ask(self, question: Question, parse: Callable[[str], T]) -> tuple[Stored, T]:
        """As Answers says; raises NotRecorded."""
        sha256 = question.sha256(self._model, self._options, with_schema=self.with_schema)
        known = _of_run(self._db, self._run, sha256, parse)
        if known is None:
            raise NotRecorded(f"run {self._run} has no answer to this question")
        return known


def _of_run(
    db: dbapi.Connection, run_id: int, sha256: str, parse: Callable[[str], T]
) -> tuple[Stored, T] | None:
    row = db.execute(
        f"select {_COLUMNS} from llm_responses where run_id = ? and request_sha256 = ?",
        (run_id, sha256),
    ).fetchone()
    if row is None:
        return None
    row_id, text, prompt_tokens, completion_tokens, _ = row
    try:
        return Stored(row_id, prompt_tokens, completion_tokens), parse(text)
    except BadAnswer as error:
        raise CannotAnswer(f"row {row_id} of llm_responses is no answer: {error}") from error


def _of_any_run(
    db: dbapi.Connection, sha256: str, parse: Callable[[str], T]
) -> tuple[Answer, T] | None:
    """The newest answer of use; one that somebody else wrote into the file may be of none."""
    for _, text, prompt_tokens, completion_tokens, duration_ms in db.execute(
        f"select {_COLUMNS} from llm_responses where request_sha256 = ? order by id desc limit 10",
        (sha256,),
    ).fetchall():
        try:
            return Answer(text, prompt_tokens, completion_tokens, duration_ms), parse(text)
        except BadAnswer:
            continue
    return None


def _storable(parse: Callable[[str], T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadAnswer("the answer has characters that are none") from error
        return parse(text)

    return parsed
