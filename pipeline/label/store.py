"""The rows of cluster_labels that a labelling run makes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline.label.clusters import Cluster
from nearsql.pipeline.label.held_out import Judgement
from nearsql.pipeline.label.keywords import Keyword
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.row_hash import hash_rows
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# The columns of labels_of_run.sql, and of Label.result.
_RESULT = (
    *("level", "label", "name", "description", "category", "strength", "keywords_json"),
    *("shown_item_ids_json", "held_out_precision", "held_out_recall", "held_out_json"),
)


@dataclass(slots=True)
class Label:
    """A cluster's name and all that is known of how it came about; what a method lacks is None."""

    cluster: Cluster
    name: str
    description: str | None
    keywords: Sequence[Keyword]
    judgement: Judgement
    category: str | None = None
    strength: float | None = None
    model: str | None = None
    prompt: str | None = None
    shown: Sequence[int] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    response_id: int | None = None
    held_out_response_id: int | None = None
    did_fail: bool = field(default=False)  # something of it was asked for in vain

    @property
    def keywords_json(self) -> str:
        """As stored: [[word, weight, share of members], ...]."""
        return json.dumps([list(keyword) for keyword in self.keywords], ensure_ascii=False)

    @property
    def shown_json(self) -> str | None:
        """As stored."""
        return None if self.shown is None else json.dumps(list(self.shown))

    def result(self) -> tuple[Any, ...]:
        """What a replay must reproduce of it: the columns of labels_of_run.sql."""
        judgement = self.judgement
        return (
            self.cluster.level,
            self.cluster.label,
            self.name,
            self.description,
            self.category,
            self.strength,
            self.keywords_json,
            self.shown_json,
            judgement.precision,
            judgement.recall,
            judgement.said,
        )


def write_label(db: dbapi.Connection, run_id: int, method: str, label: Label) -> None:
    """Inserts the label in the caller's transaction."""
    judgement = label.judgement
    db.execute(
        read_sql(__package__, "insert_label"),
        (
            label.cluster.id,
            run_id,
            label.name,
            label.description,
            label.category,
            label.strength,
            method,
            label.model,
            label.prompt,
            label.shown_json,
            label.prompt_tokens,
            label.completion_tokens,
            judgement.precision,
            label.keywords_json,
            label.response_id,
            label.held_out_response_id,
            judgement.recall,
            judgement.said,
            judgement.reason,
        ),
    )


def hash_of_stored(db: dbapi.Connection, run_id: int) -> str:
    """The SHA-256 of what a run has named."""
    return hash_rows(_stored(db, run_id))


def labels_again(db: dbapi.Connection, run_id: int, labels: Sequence[Label]) -> Again:
    """The names that a run gave, made anew, beside those that are stored."""
    again = _sorted([label.result() for label in labels])
    return Again([ResultTable("cluster_labels", _RESULT, 2, _stored(db, run_id), again)])


def _stored(db: dbapi.Connection, run_id: int) -> list[tuple[Any, ...]]:
    return _sorted(db.execute(read_sql(__package__, "labels_of_run"), (run_id,)).fetchall())


def _sorted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: (row[0], row[1]))


def pooled(said: Sequence[str | None]) -> tuple[float | None, float | None]:
    """Precision and recall over all judgements together; None where there is nothing to divide by.

    said: the column held_out_json.
    """
    right = wrong = members = 0
    for judged in said:
        if judged is not None:
            found = json.loads(judged)
            right += sum(yes for _, yes in found["members"])
            wrong += sum(yes for _, yes in found["others"])
            members += len(found["members"])
    return (
        round(right / (right + wrong), 4) if right + wrong else None,
        round(right / members, 4) if members else None,
    )
