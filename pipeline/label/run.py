"""Label: names for the clusters of a run, as a run of its own.

    label_clusters(db, 3)                                   # keywords
    label_clusters(db, 3, asking=Asking("gpt-4o-mini"))     # a language model, by the `llm` library

Everything is read before anything is named, with no transaction open. Names by keywords are written in
one short transaction; those of a language model one by one, as they come, so that nothing that was paid
for is lost: stopped, the same command goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.label.answers import RecordedAnswers
from nearsql.pipeline.label.asking import Asker
from nearsql.pipeline.label.by_keywords import labels_by_keywords
from nearsql.pipeline.label.by_model import Asking, label_by_model, labels_from_stored_answers
from nearsql.pipeline.label.clusters import Cluster, clusters_of_run
from nearsql.pipeline.label.levels import (
    DEFAULT_READING,
    ContentsHash,
    Level,
    Reading,
    read_level,
)
from nearsql.pipeline.label.model import CannotAnswer
from nearsql.pipeline.label.prompts import Question
from nearsql.pipeline.label.store import (
    hash_of_stored,
    labels_again,
    pooled,
    write_label,
)
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.run_spaces import run_read_by
from nearsql.pipeline.runs import Run, immediate, run, run_input
from nearsql.udfs import dbapi

KIND = "label"

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "keywords": ("scikit-learn", "scipy"),
    "llm": ("scikit-learn", "scipy", "llm"),
}


@dataclass(frozen=True, slots=True)
class LabelResult:
    """How labelling went.

    counts: clusters, named; by a model also requests, retries, answers from earlier runs, tokens paid.
    precision, recall: over all held-out items together, None when none was judged.
    """

    run_id: int
    method: str
    counts: Mapping[str, int | float]
    precision: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class _Read:
    """All levels to be named, and what tells whether they would be read the same again."""

    levels: list[Level]
    parameters: dict[str, Any]


def label_clusters(
    db: dbapi.Connection,
    cluster_run: int,
    *,
    level: int | None = None,
    min_size: int = 1,
    reading: Reading = DEFAULT_READING,
    asking: Asking | None = None,
    quiet: bool = True,
) -> LabelResult:
    """Names the clusters of a run, from the coarsest level to the finest.

    level: only this one. min_size: only clusters of so many members. asking: by a language model; None:
    by keywords. Clusters of one level and parent never share a name. Raises LookupError when there is no
    such run, and UserError when there is nothing to name, or the model answers nothing.
    """
    model = None if asking is None else asking.open()
    read = _read(db, cluster_run, level, min_size, reading, quiet=quiet)
    method = "keywords" if asking is None else "llm"
    parameters = {"method": method, **read.parameters}
    if asking is not None:
        assert model is not None
        parameters |= {
            "model": model.id,
            "options": model.options,
            "takes_schema": model.takes_schema,
            "showing": asdict(asking.showing),
        }
    with run(
        db,
        KIND,
        parameters=parameters,
        seed=reading.seed,
        inputs=[run_input(db, cluster_run)],
        packages=PACKAGES[method],
        resume=asking is not None,
    ) as current:
        current.counts["clusters"] = sum(len(each.named) for each in read.levels)
        current.counts["too_small"] = sum(
            len(each.clusters) - len(each.named) for each in read.levels
        )
        if asking is None:
            with current.timed("name"):
                labels = labels_by_keywords(read.levels)
            with immediate(db):
                with current.timed("write"):
                    for label in labels:
                        write_label(db, current.id, method, label)
                precision, recall = _sum_up(db, current, method)
                current.result_sha256 = hash_of_stored(db, current.id)
                current.finish()
        else:
            assert model is not None
            label_by_model(db, current, read.levels, reading, asking, model, quiet=quiet)
            precision, recall = _sum_up(db, current, method)
            current.result_sha256 = hash_of_stored(db, current.id)
    return LabelResult(current.id, method, dict(current.counts), precision, recall)


def questions(
    db: dbapi.Connection,
    cluster_run: int,
    asking: Asking,
    *,
    level: int | None = None,
    min_size: int = 1,
    reading: Reading = DEFAULT_READING,
    quiet: bool = True,
) -> list[tuple[Cluster, Question | str]]:
    """What label_clusters would ask for names first; instead of a question, why there is none.

    Nobody is asked and nothing is written.
    """
    model = asking.open()
    read = _read(db, cluster_run, level, min_size, reading, quiet=quiet)
    nobody = RecordedAnswers(db, 0, model.id, model.options, with_schema=model.takes_schema)
    asker = Asker(db, nobody, model.id, reading, asking.showing)
    found: list[tuple[Cluster, Question | str]] = []
    for each in read.levels:
        for place in each.named:
            asked: Question | str
            try:
                question, _ = asker.question(each, place)
            except CannotAnswer as reason:
                asked = str(reason)
            else:
                prompt = question.sent_prompt(with_schema=model.takes_schema)
                asked = replace(question, prompt=prompt)
            found.append((each.clusters[place], asked))
    return found


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A labelling run's result, computed anew; no model is asked.

    Its stored answers are parsed, told apart and judged again. Raises CannotReplay when what was read has
    changed, or an answer is gone.
    """
    parameters = recorded.parameters
    reading = Reading(**{**parameters["reading"], "label_names": _tuple(parameters)})
    cluster_run = run_read_by(
        db, recorded, f"the clusters that run {recorded.id} named are deleted"
    )
    read = _read(db, cluster_run, parameters["level"], parameters["min_size"], reading, quiet=True)
    if cluster_run != parameters["cluster_run"]:
        raise CannotReplay(
            f"run {recorded.id} named the clusters of run {parameters['cluster_run']}, and its input is"
            f" run {cluster_run}"
        )
    if read.parameters["contents_sha256"] != parameters["contents_sha256"]:
        raise CannotReplay(
            f"the members of the clusters that run {recorded.id} named, or their texts, labels or"
            " predicted classes, have changed"
        )
    if parameters["method"] == "keywords":
        labels = labels_by_keywords(read.levels)
    else:
        labels = labels_from_stored_answers(db, recorded, read.levels, reading)
    return labels_again(db, recorded.id, labels)


def _read(
    db: dbapi.Connection,
    cluster_run: int,
    level: int | None,
    min_size: int,
    reading: Reading,
    *,
    quiet: bool,
) -> _Read:
    _refuse_unknown_labels(db, reading.label_names)
    by_level = clusters_of_run(db, cluster_run, level, min_size)
    contents_hash = ContentsHash()
    levels = [
        read_level(db, each, min_size, reading, contents_hash, quiet=quiet) for each in by_level
    ]
    parameters = {
        "cluster_run": cluster_run,
        "level": level,
        "min_size": min_size,
        "reading": asdict(reading),
        "contents_sha256": contents_hash.hexdigest(),
    }
    return _Read(levels, parameters)


def _refuse_unknown_labels(db: dbapi.Connection, names: Sequence[str] | None) -> None:
    for name in names or ():
        if not db.execute("select 1 from item_labels where name = ? limit 1", (name,)).fetchone():
            there_are = [
                n for (n,) in db.execute("select distinct name from item_labels order by 1")
            ]
            listed = ", ".join(map(repr, there_are)) or "none"
            raise UserError(f"no item has a label named {name!r}: the names are {listed}")


def _tuple(parameters: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = parameters["reading"]["label_names"]
    return None if names is None else tuple(names)


def _sum_up(db: dbapi.Connection, current: Run, method: str) -> tuple[float | None, float | None]:
    """Completes the run's counts from what it stored, also before it was stopped."""
    rows = db.execute(
        "select held_out_json from cluster_labels where run_id = ?", (current.id,)
    ).fetchall()
    precision, recall = pooled([said for (said,) in rows])
    current.counts["named"] = len(rows)
    for name, value in (("held_out_precision", precision), ("held_out_recall", recall)):
        if value is not None:
            current.counts[name] = value
    if method == "keywords":
        return precision, recall
    paid, cached, prompt_tokens, completion_tokens = db.execute(
        "select count(*) filter (where not is_cached), count(*) filter (where is_cached),"
        " sum(prompt_tokens) filter (where not is_cached),"
        " sum(completion_tokens) filter (where not is_cached)"
        " from llm_responses where run_id = ?",
        (current.id,),
    ).fetchone()
    current.counts |= {
        "answers": paid,
        "answers_of_earlier_runs": cached,
        "prompt_tokens": prompt_tokens or 0,
        "completion_tokens": completion_tokens or 0,
    }
    return precision, recall
