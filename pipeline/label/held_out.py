"""How well a name tells members that it was not made from, out of a mix with as many others.

Precision: of the items said to belong, the share that do. Recall: of those that belong, the share said
to. By chance half of what is said to belong does.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

from nearsql.pipeline.label.clusters import Mix
from nearsql.pipeline.label.keywords import LevelKeywords


@dataclass(frozen=True, slots=True)
class Judgement:
    """Precision and recall, each NULL where there is none, for the reason; said: how each item was judged.

    said: JSON, {"members": [[id, 1 or 0], ...], "others": [...]}, None when nothing was judged.
    """

    precision: float | None
    recall: float | None
    said: str | None
    reason: str | None


def judged(mix: Mix, said_to_belong: Collection[int]) -> Judgement:
    """What it means that these items of the mix were said to belong."""
    if mix.reason is not None:
        return Judgement(None, None, None, mix.reason)
    said = {
        "members": [[i, int(i in said_to_belong)] for i in sorted(mix.members)],
        "others": [[i, int(i in said_to_belong)] for i in sorted(set(mix.items) - mix.members)],
    }
    right = sum(yes for _, yes in said["members"])
    wrong = sum(yes for _, yes in said["others"])
    return Judgement(
        precision=right / (right + wrong) if right + wrong else None,
        recall=right / len(mix.members),
        said=json.dumps(said),
        reason=None if right + wrong else "no item was said to belong",
    )


def belonging_by_keywords(
    level: LevelKeywords, mix: Mix, place: int, others: Collection[int]
) -> set[int]:
    """The items of the mix whose words speak of this cluster more than of any of the others."""
    if not mix.items:
        return set()
    scores = level.scores(mix.items, [place, *others])
    own, best_other = scores[:, 0], scores[:, 1:].max(axis=1)
    return {item for item, a, b in zip(mix.items, own, best_other, strict=True) if a > b}
