"""What an evaluation is asked for, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

from nearsql.pipeline.console import UserError
from nearsql.udfs.evaluation_votes import DISTANCE, OWN, SOFTMAX, UNIFORM

KS = (1, 3, 5, 10, 20, 100, 200)
WEIGHTINGS = ("uniform", "distance", "softmax")
TEMPERATURE = 0.07
FOLDS = 5

_CODES = {"uniform": UNIFORM, "distance": DISTANCE, "softmax": SOFTMAX}
LOSS = "loss:"


@dataclass(frozen=True, slots=True)
class Settings:
    """ks ascending; weightings in their order; each once."""

    ks: tuple[int, ...]
    weightings: tuple[str, ...]
    temperature: float
    folds: int


def settings(
    ks: Sequence[int], weightings: Sequence[str], temperature: float, folds: int
) -> Settings:
    """Raises UserError for values that make no sense."""
    if not ks or min(ks) < 1:
        raise UserError(f"-k must be whole numbers of at least 1, not {', '.join(map(str, ks))!r}")
    if not weightings:
        raise UserError(f"--weighting must be some of {', '.join(WEIGHTINGS)} or loss:COMPONENT")
    for weighting in weightings:
        if weighting not in WEIGHTINGS and not component(weighting):
            raise UserError(
                f"--weighting must be some of {', '.join(WEIGHTINGS)} or loss:COMPONENT,"
                f" not {weighting!r}"
            )
    if not 0 < temperature < float("inf"):
        raise UserError(f"--temperature must be a number above 0, not {temperature}")
    if folds < 2:
        raise UserError(f"--folds must be at least 2, not {folds}")
    return Settings(
        tuple(sorted(set(ks))), tuple(dict.fromkeys(weightings)), float(temperature), folds
    )


def component(weighting: str) -> str | None:
    """The loss that a weighting goes by; None for one that goes by distance alone."""
    return weighting.removeprefix(LOSS) if weighting.startswith(LOSS) else None


def code(weighting: str) -> int:
    """How `evaluation_votes` calls it."""
    return _CODES.get(weighting, OWN)
