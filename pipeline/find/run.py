"""`nearsql find`: looks for findings of the kinds asked for in one space, as a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.find.graph import SharedGraph
from nearsql.pipeline.find.kinds import KINDS, Found, Settings, find_all, known_kinds
from nearsql.pipeline.find.store import as_rows, write_findings
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.run_spaces import add_runs_read, refuse_if_changed
from nearsql.pipeline.runs import RunInput, immediate, run, run_input, space_input
from nearsql.pipeline.within import Within, within_ids, within_parameters
from nearsql.udfs import dbapi
from nearsql.udfs.arguments import number
from nearsql.udfs.finding_searches import matrix_to_search
from nearsql.udfs.findings.duplicates import NEIGHBORS
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.item_values import Values, collections, label_values
from nearsql.udfs.run_members import finished_run
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.stored_graph import noting_graph_runs
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql
from nearsql.udfs.vote_functions import WEIGHTINGS

KIND = "find"
# What the result depends on, besides what every run's does.
PACKAGES = ("faiss-cpu", "scipy")
# The label that leaks are looked for across, where items have it and no other is named.
SPLIT = "split"


@dataclass(frozen=True, slots=True)
class FindResult:
    """How it went. counts: items, findings of each kind, decided (by a person, in an earlier run), and the
    thresholds. reasons: of kinds that could not be decided on, why."""

    run_id: int
    space: str
    counts: dict[str, int | float] = field(default_factory=dict)
    thresholds: dict[str, float | None] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    graph_run: int | None = None


def find(
    db: dbapi.Connection,
    space: str,
    kinds: Sequence[str] = (),
    *,
    label: str | None = None,
    split: str | None = None,
    threshold: float | None = None,
    k: int = 10,
    within: str | None = None,
    clustering: int | None = None,
    weighting: str = "uniform",
    temperature: float = 0.07,
    quiet: bool = True,
) -> FindResult:
    """Looks for findings in a space, stores them with their evidence, and says how many there are.

    kinds: of KINDS; by default duplicates and outliers, label_errors if a label is named, leaks if there
    is a split or more than one collection, and cluster_outliers if a clustering is named. label: whose values
    may be wrong. split: the label that leaks are looked for across; by default 'split' where items have
    it, else collections. threshold: of duplicates and leaks, chosen from the data unless given. k:
    neighbours of outliers and label errors. within: as `--within`. clustering: the run of
    `nearsql cluster` whose outlier scores are looked at, by default the newest of the space. weighting,
    temperature: of votes on labels, as in the SQL function `vote`.

    Raises SqlFunctionError for a space that is not there or a label that no item has, and UserError for
    what else makes no sense, and when the space changes meanwhile: then nothing is written.
    """
    known_kinds(kinds)
    if k < 1:
        raise UserError(f"-k must be at least 1, not {k}")
    if threshold is not None:
        number("threshold", threshold, at_least=0)
    if weighting not in WEIGHTINGS:
        raise UserError(f"--weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    if number("temperature", temperature) <= 0:
        raise UserError(f"--temperature must be above 0, not {temperature}")
    find_space(db.apsw, space)  # whose error names the spaces there are
    source = space_input(db, space)
    only = within_ids(db, within)
    matrix = matrix_to_search(db.apsw, space, None if only is None else only.ids)
    refuse_if_changed(db, source)
    if len(matrix.ids) < 2:
        raise UserError(
            f"{space} has {len(matrix.ids)} of the items asked for, and 2 are needed to be neighbours"
        )
    chosen = _kinds(db, matrix, kinds, label, split, clustering)
    _refuse_unused(chosen, label=label, split=split, clustering=clustering, threshold=threshold)
    if "leaks" in chosen:
        split = _split(db, matrix, split)
    if "cluster_outliers" in chosen:
        clustering = _clustering(db, source, clustering)
    votes = "label_errors" in chosen
    settings = Settings(
        space=source.name,
        kinds=chosen,
        k=k if votes or "outliers" in chosen else None,
        threshold=threshold,
        label=label,
        split=split,
        weighting=weighting if votes else None,
        temperature=temperature if votes and weighting == "softmax" else None,
        clustering=clustering,
    )
    return _run(db, source, matrix, only, settings, quiet)


def _run(
    db: dbapi.Connection,
    source: RunInput,
    matrix: Matrix,
    only: Within | None,
    settings: Settings,
    quiet: bool,
) -> FindResult:
    pinned = labels_read(db, matrix, settings)
    parameters = {**asdict(settings), **within_parameters(only), **pinned}
    inputs = [source]
    if settings.clustering is not None:
        inputs.append(run_input(db, settings.clustering))
    with run(db, KIND, parameters=parameters, inputs=inputs, packages=PACKAGES) as current:
        with current.timed("compute"), noting_graph_runs() as graphs:
            found = compute(db, matrix, settings, quiet=quiet)
        rows = as_rows(found.findings)
        current.result_sha256 = hash_rows(rows)
        current.counts |= {"items": len(matrix.ids), **_counts(settings, found)}
        with immediate(db):
            with current.timed("write"):
                refuse_if_changed(db, source)
                if labels_read(db, matrix, settings) != pinned:
                    raise UserError(
                        "labels changed during this run, so that its findings would not be about them: "
                        "nothing was written, run it again"
                    )
                add_runs_read(current, graphs, "neighbors")
                current.counts["decided"] = write_findings(db, current.id, rows)
            current.finish()
    return FindResult(
        current.id,
        source.name,
        dict(current.counts),
        dict(found.thresholds),
        tuple(found.reasons),
        max(graphs, default=None),
    )


def compute(
    db: dbapi.Connection, matrix: Matrix, settings: Settings, *, quiet: bool = True
) -> Found:
    """What there is to be found among the rows of a matrix."""
    poll = Poll(db.apsw)
    graph = SharedGraph(db, max(settings.k or 0, NEIGHBORS), poll, quiet=quiet)
    return find_all(db, matrix, settings, graph, poll)


def labels_read(db: dbapi.Connection, matrix: Matrix, settings: Settings) -> dict[str, str]:
    """The SHA-256 of what the items are called, as far as findings depend on it: they may be called
    otherwise later."""
    found = {}
    if settings.label is not None:
        found["label_sha256"] = _hash(matrix, label_values(db.apsw, matrix, settings.label))
    if "leaks" in settings.kinds:
        found["split_sha256"] = _hash(matrix, _sides(db, matrix, settings.split))
    return found


def _hash(matrix: Matrix, values: Values) -> str:
    return hash_rows((item, values.of(place)) for place, item in enumerate(matrix.ids.tolist()))


def _sides(db: dbapi.Connection, matrix: Matrix, split: str | None) -> Values:
    if split is None:
        return collections(db.apsw, matrix)
    return label_values(db.apsw, matrix, split)


def _kinds(
    db: dbapi.Connection,
    matrix: Matrix,
    kinds: Sequence[str],
    label: str | None,
    split: str | None,
    clustering: int | None,
) -> tuple[str, ...]:
    """The kinds to look for, in the order of KINDS."""
    if not kinds:
        wanted = {"duplicates", "outliers"}
        if label is not None:
            wanted.add("label_errors")
        if split is not None or _has_sides(db, matrix):
            wanted.add("leaks")
        if clustering is not None:
            wanted.add("cluster_outliers")
    else:
        wanted = set(kinds)
        if "label_errors" in wanted and label is None:
            raise UserError("label_errors needs --label NAME, the label whose values may be wrong")
    return tuple(kind for kind in KINDS if kind in wanted)


# The options that only some kinds look at.
_FOR = {
    "label": ("label_errors", "outliers"),
    "split": ("leaks",),
    "clustering": ("cluster_outliers",),
    "threshold": ("duplicates", "leaks"),
}


def _refuse_unused(kinds: Sequence[str], **options: Any) -> None:
    """Raises UserError for an option that none of the kinds looks at."""
    for name, value in options.items():
        if value is not None and not set(_FOR[name]) & set(kinds):
            raise UserError(
                f"--{name} is for {' and '.join(_FOR[name])}, and this looks for {', '.join(kinds)}"
            )


def _has_sides(db: dbapi.Connection, matrix: Matrix) -> bool:
    return _has_label(db, matrix, SPLIT) or len(collections(db.apsw, matrix).names) > 1


def _has_label(db: dbapi.Connection, matrix: Matrix, label: str) -> bool:
    (there,) = db.execute(
        "select exists (select 1 from vectors v join item_labels l on l.item_id = v.item_id"
        " where v.space_id = ? and l.name = ?)",
        (matrix.space.id, label),
    ).fetchone()
    return bool(there)


def _split(db: dbapi.Connection, matrix: Matrix, split: str | None) -> str | None:
    """The label to look for leaks across; None for collections."""
    if split is None and _has_label(db, matrix, SPLIT):
        split = SPLIT
    names = _sides(db, matrix, split).names
    if len(names) < 2:
        of = "one collection" if split is None else f"one value of the label {split!r}"
        raise UserError(
            f"leaks are between two sides, and all items have {of}, {names[0]!r}: name a label with "
            "--split NAME"
        )
    return split


def _clustering(db: dbapi.Connection, source: RunInput, clustering: int | None) -> int:
    """A finished clustering of the space that has outlier scores."""
    if clustering is None:
        row = db.execute(
            read_sql(__package__, "newest_clustering"), {"space_id": source.space_id}
        ).fetchone()
        if row is None:
            raise UserError(
                f"no clustering of {source.name} has outlier scores: run `nearsql cluster` first"
            )
        return int(row[0])
    _, space, _ = finished_run(
        db.apsw, clustering, "cluster", called="clusterings", lacks="no outlier scores yet"
    )
    if space != source.name:
        raise UserError(f"run {clustering} clustered {space or 'no space'}, not {source.name}")
    return clustering


def _counts(settings: Settings, found: Found) -> Mapping[str, int | float]:
    counts: dict[str, Any] = {kind: 0 for kind in settings.kinds}
    for finding in found.findings:
        counts[f"{finding.kind}s"] += 1
    return counts | {
        f"{name}_threshold": value for name, value in found.thresholds.items() if value is not None
    }
