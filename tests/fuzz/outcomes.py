"""What may come of a hostile input, and what must not: shared by the process that asks and the one that tries."""

import re
from dataclasses import dataclass
from typing import Literal

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
    """What came of one input. message: the sentence, or what went wrong, for a person who looks for it."""

    kind: Kind
    message: str = ""

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
        return Outcome("leaked", f"{found[0]!r} is Python's: {message[:500]}")
    if names and names not in message:
        return Outcome("leaked", f"it does not name {names}: {message[:500]}")
    return Outcome("refused", message[:500])
