"""Names by a language model, one by one: each is stored before the next is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.label.answers import KeptAnswers, RecordedAnswers
from nearsql.pipeline.label.asking import Asker, Showing
from nearsql.pipeline.label.levels import Level, Reading
from nearsql.pipeline.label.model import CannotAnswer, LanguageModel, NothingToShow
from nearsql.pipeline.label.store import Label, write_label
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.runs import Run, immediate
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Asking:
    """How a language model is asked; see LanguageModel.

    max_errors: so many clusters in a row without an answer end the run. ask_again: ask also what an
    earlier run was answered.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    showing: Showing = field(default_factory=Showing)
    timeout: float = 60.0
    retries: int = 4
    backoff: float = 1.0
    max_errors: int = 3
    ask_again: bool = False

    def open(self) -> LanguageModel:
        """The model. Raises UserError when there is none of that name."""
        model = LanguageModel(
            self.model,
            self.options,
            timeout=self.timeout,
            retries=self.retries,
            backoff=self.backoff,
        )
        if self.showing.images and not model.takes_images:
            raise UserError(f"the model {model.id!r} takes no images: leave --images away")
        return model


def label_by_model(
    db: dbapi.Connection,
    current: Run,
    levels: Sequence[Level],
    reading: Reading,
    asking: Asking,
    model: LanguageModel,
    *,
    quiet: bool,
) -> None:
    """Names what is not named yet, one by one.

    Raises UserError after too many errors in a row, and when nothing got a name.
    """
    if current.is_resumed:
        with immediate(db):  # what went wrong is tried again
            db.execute("delete from item_errors where run_id = ?", (current.id,))
        current.counts.pop("errors", None)
    done = _named(db, current.id)

    def unreadable(reasons: Mapping[int, str]) -> None:
        with immediate(db):
            for item in sorted(reasons.keys() - missed):
                current.item_error("picture", reasons[item], item_id=item)
        missed.update(reasons)

    missed: set[int] = set()
    answers = KeptAnswers(db, current.id, model, ask_again=asking.ask_again)
    asker = Asker(db, answers, model.id, reading, asking.showing, unreadable)
    todo = [
        (level, place)
        for level in levels
        for place in level.named
        if level.clusters[place].id not in done
    ]
    for level in levels:
        for cluster in level.clusters:
            if cluster.id in done:
                asker.take(cluster, *done[cluster.id])
    if todo and not quiet:
        each = 2 if reading.held_out else 1
        say(f"{len(todo):,} clusters to name: about {each * len(todo):,} questions to {model.id}")
    in_a_row, problem = 0, None
    try:
        with current.timed("name"), progress("clusters named", len(todo), quiet=quiet) as bar:
            for level, place in todo:
                problem, is_the_models = _name_one(db, current, asker, level, place)
                in_a_row = in_a_row + 1 if is_the_models else 0
                if in_a_row == asking.max_errors:
                    raise UserError(
                        f"stopped: {in_a_row} clusters in a row got no answer, the last because {problem}."
                        f" What is named is kept, and the same command goes on with the rest"
                    )
                bar.advance()
        if problem is not None and not _named(db, current.id):
            raise UserError(f"no cluster was named, the last because {problem}")
    finally:
        asked = {"requests": model.asked.requests, "retries": model.asked.retries}
        for name, n in asked.items():
            current.counts[name] = current.counts.get(name, 0) + n


def _name_one(
    db: dbapi.Connection, current: Run, asker: Asker, level: Level, place: int
) -> tuple[str | None, bool]:
    """Names a cluster and stores the name; gives what went wrong, and whether the model was asked in vain."""
    cluster = level.clusters[place]
    try:
        label = asker.label(level, place)
    except CannotAnswer as error:
        with immediate(db):
            current.item_error("name", str(error), uri=str(cluster))
        return f"of {cluster}: {error}", not isinstance(error, NothingToShow)
    with immediate(db):
        write_label(db, current.id, "llm", label)
        if label.did_fail:
            current.item_error("held out", str(label.judgement.reason), uri=str(cluster))
    return (f"of {cluster}: {label.judgement.reason}", True) if label.did_fail else (None, False)


def _named(db: dbapi.Connection, run_id: int) -> dict[int, tuple[str, str | None]]:
    """Name and summary by cluster, in the order in which the run gave them."""
    return {
        cluster: (name, summary)
        for cluster, name, summary in db.execute(
            "select cluster_id, name, description from cluster_labels where run_id = ? order by id",
            (run_id,),
        )
    }


def labels_from_stored_answers(
    db: dbapi.Connection, recorded: RecordedRun, levels: Sequence[Level], reading: Reading
) -> list[Label]:
    """The names again, in the order in which they were given: each was told from those before it."""
    parameters = recorded.parameters
    answers = RecordedAnswers(
        db,
        recorded.id,
        parameters["model"],
        parameters["options"],
        with_schema=parameters["takes_schema"],
    )
    showing = Showing(**parameters["showing"])
    asker = Asker(db, answers, parameters["model"], reading, showing)
    places = {level.clusters[place].id: (level, place) for level in levels for place in level.named}
    try:
        return [asker.label(*places[cluster]) for cluster in _named(db, recorded.id)]
    except CannotAnswer as error:
        raise CannotReplay(
            f"the answers that run {recorded.id} got are not those that its names came from"
        ) from error
