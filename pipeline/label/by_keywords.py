"""Names by keywords, for all levels at once."""

from collections.abc import Sequence

from nearsql.pipeline.console import UserError
from nearsql.pipeline.label.held_out import belonging_by_keywords, judged
from nearsql.pipeline.label.keywords import description, names_of_siblings
from nearsql.pipeline.label.levels import Level
from nearsql.pipeline.label.store import Label


def labels_by_keywords(levels: Sequence[Level]) -> list[Label]:
    """Names all clusters that have words. Raises UserError when none has."""
    found = []
    for level in levels:
        for places in level.siblings():
            names = names_of_siblings(
                [level.words.keywords[i] for i in places], [level.clusters[i].label for i in places]
            )
            for place, name in zip(places, names, strict=True):
                if name is not None:
                    found.append(_keyword_label(level, place, name))
    if not found:
        raise UserError(
            "the items have neither text nor labels nor predicted classes to make names of: run `nearsql"
            " detect`, or ask a model that sees images with --method llm --images"
        )
    return found


def _keyword_label(level: Level, place: int, name: str) -> Label:
    keywords, mix = level.words.keywords[place], level.mixes[place]
    said = belonging_by_keywords(level.words, mix, place, level.beside(place))
    return Label(level.clusters[place], name, description(keywords), keywords, judged(mix, said))
