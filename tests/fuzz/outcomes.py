"""What may come of a hostile input, and what must not: shared by the process that asks and the one that tries."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

# taken: there is a result. refused: by a sentence. leaked: by an exception that is none of ours, or by words
# that are no sentence for a person. wrong: a result that cannot be right. died: the process, by a signal,
# or by too much time.
Kind = Literal["taken", "refused", "leaked", "wrong", "died"]

# What Python says to programmers.
_PYTHONS = re.compile(
    r"Traceback|has no attribute|\b[A-Z][a-z]\w*(?:Error|Exception)\b|<class |<\w+(\.\w+)* object"
    r"|unsupported operand|not supported between|positional argument|unhashable|codec can't"
    r"|not subscriptable|not iterable|expected .* got |argument must be|NoneType|\bnp\.\w+\("
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one input. message: the sentence, or what went wrong, for a person who looks for it.

    word: what in the sentence is Python's.
    """

    kind: Kind
    message: str = ""
    word: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether this may happen."""
        return self.kind in ("taken", "refused")


def refused(message: str, *, names: str = "") -> Outcome:
    """The outcome of an error of a class that is for users: fine if its text is, too.

    names: what the sentence has to name, if anything.
    """
    if len(message.split()) < 3:
        return Outcome("leaked", f"no sentence: {message!r}")
    if found := _PYTHONS.search(message):
        return Outcome("leaked", f"{found[0]!r} is Python's: {message[:500]}", found[0])
    if names and names not in message:
        return Outcome("leaked", f"it does not name {names}: {message[:500]}")
    return Outcome("refused", message[:500])


def judged(outcome: Outcome, given: Iterable[Any]) -> Outcome:
    """The outcome, knowing what was given, of which texts and bytes count: a sentence may quote Python's words."""
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in given]
    if outcome.word and any(outcome.word in text for text in texts if isinstance(text, str)):
        return Outcome("refused", outcome.message)
    return outcome
