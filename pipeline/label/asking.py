"""Names from a language model: what each cluster is called, and whether the name tells its members."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nearsql.pipeline.label.answers import Answers, Stored
from nearsql.pipeline.label.clusters import Cluster, Mix
from nearsql.pipeline.label.contents import Content, read_contents
from nearsql.pipeline.label.held_out import Judgement, judged
from nearsql.pipeline.label.keywords import made_distinct
from nearsql.pipeline.label.levels import Level, Reading
from nearsql.pipeline.label.model import CannotAnswer, NothingToShow
from nearsql.pipeline.label.pictures import read_pictures
from nearsql.pipeline.label.prompts import (
    Name,
    Question,
    parse_belonging,
    parse_name,
    question_of_another_name,
    question_of_belonging,
    question_of_name,
)
from nearsql.pipeline.label.store import Label
from nearsql.udfs import dbapi

# Groups beside a cluster that its question tells of: those most like it, by so many words each.
_BESIDE = 5
_WORDS_BESIDE = 5

# How often another name is asked for when a cluster beside it has that name already.
_OTHER_NAMES = 2


@dataclass(frozen=True, slots=True)
class Showing:
    """What of a cluster is shown to a model; recorded with the run.

    items: so many. characters: of a text. images: whether images are sent along.
    """

    items: int = 12
    characters: int = 400
    images: bool = False


class Asker:
    """Asks for names, one cluster after another.

    names_of: casefolded names that were given, with their summaries, by level and parent, to be told from.
    unreadable: told of images that cannot be sent, and why.
    """

    def __init__(
        self,
        db: dbapi.Connection,
        answers: Answers,
        model: str,
        reading: Reading,
        showing: Showing,
        unreadable: Callable[[Mapping[int, str]], None] = lambda reasons: None,
    ) -> None:
        self._db, self._answers, self._model = db, answers, model
        self._reading, self._showing, self._unreadable = reading, showing, unreadable
        self._taken: dict[tuple[int, int | None], dict[str, str | None]] = {}

    def take(self, cluster: Cluster, name: str, summary: str | None) -> None:
        """From now on, no cluster beside this one gets this name."""
        beside = self._taken.setdefault((cluster.level, cluster.parent_id), {})
        beside[name.casefold()] = summary

    def question(self, level: Level, place: int) -> tuple[Question, list[int]]:
        """The question for a cluster's name, and the ids of the items that it shows.

        Raises NothingToShow when there is none to show.
        """
        cluster, members = level.clusters[place], level.members[place]
        usable = [
            item
            for item in members.surest.tolist()
            if self._showing.images or item not in level.empty
        ]
        chosen = _half_surest(usable, self._showing.items, self._reading.seed, cluster)
        contents, pictures = self._read(chosen)
        if not contents:
            raise NothingToShow(
                "its items have neither text nor labels nor predicted classes"
                + ("" if self._showing.images else "; --images shows a model the images themselves")
            )
        keywords = level.words.keywords
        alike = level.words.nearest(place, level.beside(place), _BESIDE)
        question = question_of_name(
            cluster.size,
            keywords[place],
            [keywords[i][:_WORDS_BESIDE] for i in alike],
            contents,
            pictures,
        )
        return question, [content.item_id for content in contents]

    def label(self, level: Level, place: int) -> Label:
        """Names a cluster and has the name judged. Raises CannotAnswer when there is no name."""
        cluster = level.clusters[place]
        question, shown = self.question(level, place)
        question, stored, name = self._distinct_name(level, place, question)
        label = Label(
            cluster,
            name.name,
            name.summary,
            level.words.keywords[place],
            Judgement(None, None, None, None),
            category=name.category,
            strength=float(name.strength),
            model=self._model,
            prompt=question.sent_prompt(with_schema=self._answers.with_schema),
            shown=shown,
            response_id=stored[-1].id,
        )
        stored += self._judge(level, place, name, label)
        label.prompt_tokens = _sum([row.prompt_tokens for row in stored])
        label.completion_tokens = _sum([row.completion_tokens for row in stored])
        self.take(cluster, label.name, label.description)
        return label

    def _distinct_name(
        self, level: Level, place: int, question: Question
    ) -> tuple[Question, list[Stored], Name]:
        """The question that got the name, all answers on the way, and a name that none beside it has."""
        cluster = level.clusters[place]
        taken = self._taken.get((cluster.level, cluster.parent_id), {})
        row, name = self._answers.ask(question, parse_name)
        stored = [row]
        for _ in range(_OTHER_NAMES):
            if name.name.casefold() not in taken:
                return question, stored, name
            another = question_of_another_name(question, name.name, taken[name.name.casefold()])
            try:
                row, name = self._answers.ask(another, parse_name)
            except CannotAnswer:
                break  # the name that there is will have to be told apart by a keyword
            question = another
            stored.append(row)
        told_apart = made_distinct(
            name.name, level.words.keywords[place], cluster.label, set(taken)
        )
        return question, stored, Name(told_apart, name.summary, name.category, name.strength)

    def _judge(self, level: Level, place: int, name: Name, label: Label) -> list[Stored]:
        """Fills the label's judgement; gives the answers that it took."""
        mix = level.mixes[place]
        if mix.reason is not None:
            label.judgement = judged(mix, ())
            return []
        contents, pictures = self._read(mix.items)
        mix = _of_these(mix, {content.item_id for content in contents})
        if mix.reason is not None:
            label.judgement = judged(mix, ())
            return []
        contents = [content for content in contents if content.item_id in mix.items]
        question = question_of_belonging(name, contents, pictures)
        try:
            row, numbers = self._answers.ask(
                question, lambda text: parse_belonging(text, len(contents))
            )
        except CannotAnswer as error:
            label.did_fail = True
            label.judgement = Judgement(None, None, None, f"the question got no answer: {error}")
            return []
        label.judgement = judged(mix, {contents[n - 1].item_id for n in numbers})
        label.held_out_response_id = row.id
        return [row]

    def _read(self, item_ids: Sequence[int]) -> tuple[list[Content], dict[int, bytes]]:
        """The contents of items in this order, and their pictures; without those that show nothing."""
        pictures: dict[int, bytes] = {}
        if self._showing.images:
            pictures, unreadable = read_pictures(self._db, item_ids)
            self._unreadable(unreadable)
        contents = {
            content.item_id: content
            for content in read_contents(
                self._db,
                item_ids,
                characters=self._showing.characters,
                label_names=self._reading.label_names,
            )
        }
        shown = [contents[item] for item in item_ids if item in contents]
        return [c for c in shown if c.item_id in pictures or not c.is_empty], pictures


def _half_surest(items: Sequence[int], n: int, seed: int, cluster: Cluster) -> list[int]:
    """n of the items: the surest half of them, and others at random, so that its breadth shows, too."""
    surest, rest = list(items[: (n + 1) // 2]), list(items[(n + 1) // 2 :])
    rng = np.random.default_rng([seed, cluster.level, cluster.label, 2])
    others = rng.choice(len(rest), min(n - len(surest), len(rest)), replace=False) if rest else ()
    return surest + [rest[int(i)] for i in sorted(others)]


def _of_these(mix: Mix, usable: set[int]) -> Mix:
    """The mix without the items that cannot be shown; still half of it are members."""
    members = [item for item in mix.items if item in usable and item in mix.members]
    others = [item for item in mix.items if item in usable and item not in mix.members]
    each = min(len(members), len(others))
    if each == 0:
        return Mix((), frozenset(), "there is nothing to read in what is held out")
    kept = {*members[:each], *others[:each]}
    return Mix(tuple(i for i in mix.items if i in kept), frozenset(members[:each]))


def _sum(tokens: Sequence[int | None]) -> int | None:
    """The sum, unknown when a part of it is."""
    known = [n for n in tokens if n is not None]
    return sum(known) if len(known) == len(tokens) else None
