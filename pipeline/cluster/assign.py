"""Assign: items that a clustering did not see join its clusters.

    assign(db, 3)

Those that a downsample left out, and those that came later. The SQL function `cluster_assignments`
decides, with no transaction open; short transactions write, each some items at all levels. So a run that
is stopped goes on where it was. The rows are memberships of the clustering run with is_assigned = 1 and
name the run that made them: with it they go.

On a run with levels, an item goes into the cluster that its place at level 1 says, and further down with
the member that it hangs on.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nearsql.pipeline.cluster.held_out import held_out_agreement
from nearsql.pipeline.cluster.run import PACKAGES
from nearsql.pipeline.console import progress
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.run_spaces import refuse_if_changed, refuse_other_result, run_read_by
from nearsql.pipeline.runs import has_stopped, immediate, run, run_input, space_input
from nearsql.udfs import dbapi
from nearsql.udfs.clustering.cluster_model import find_model
from nearsql.udfs.sql_files import read_sql

KIND = "assign"

# Items that are computed and written together.
_BLOCK = 4096

# item, None for noise at level 1, the member that it hangs on, and how surely it belongs there
Assignment = tuple[int, int | None, int, float | None]
# item, level, label or None for noise, and at level 1 the probability
Place = tuple[int, int, int | None, float | None]


@dataclass(frozen=True, slots=True)
class AssignResult:
    """How it went; run_id is None when there was nothing to assign.

    counts: assigned (items), joined and noise of them at level 1, noise_share, and what held_out.py
    measured.
    """

    clustering_run: int
    space: str
    run_id: int | None
    counts: dict[str, int | float] = field(default_factory=dict)


def assign(db: dbapi.Connection, clustering_run: int, *, quiet: bool = True) -> AssignResult:
    """Gives each item of the space that is not yet in the run to one of its clusters, or to the noise.

    Raises SqlFunctionError when the run is no clustering by hdbscan, or its members' vectors are no
    longer those that were clustered; UserError when vectors change meanwhile: what is written stays, and
    the same call goes on.
    """
    _, matrix = find_model(db.apsw, clustering_run)
    source = space_input(db, matrix.space.name)
    asked = {"run": clustering_run, "space_id": source.space_id}
    to_do = [item for (item,) in db.execute(read_sql(__package__, "not_in_run"), asked)]
    (sha256,) = db.execute(
        "select result_sha256 from runs where id = ?", (clustering_run,)
    ).fetchone()
    parameters = {
        "run": clustering_run,
        # So that only a run on these very clusters and vectors is gone on with.
        "run_sha256": sha256,
        "generation": source.generation,
        "generation_token": source.generation_token,
    }
    if not to_do and not has_stopped(db, KIND, parameters=parameters, packages=PACKAGES):
        return AssignResult(clustering_run, source.name, None, {"assigned": 0})
    inputs = [run_input(db, clustering_run), source]
    with run(
        db, KIND, parameters=parameters, inputs=inputs, packages=PACKAGES, resume=True
    ) as current:
        with current.timed("held out"):
            current.counts |= held_out_agreement(db, clustering_run)
        with progress(f"items of {source.name} assigned", len(to_do), quiet=quiet) as bar:
            for start in range(0, len(to_do), _BLOCK):
                block = to_do[start : start + _BLOCK]
                with current.timed("compute"):
                    rows = _compute(db, clustering_run, block)
                with current.timed("write"), immediate(db):
                    refuse_if_changed(db, source)
                    _write(db, current.id, clustering_run, rows)
                bar.advance(len(block))
        written = _written(db, current.id)
        first = [label for _, level, label, _ in written if level == 1]
        noise = first.count(None)
        current.counts |= {
            "assigned": len(first),
            "joined": len(first) - noise,
            "noise": noise,
            "noise_share": round(noise / max(1, len(first)), 4),
        }
        current.result_sha256 = hash_rows(row[: _width(written)] for row in written)
    return AssignResult(clustering_run, source.name, current.id, dict(current.counts))


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """What a run assigned, computed anew for the same items."""
    what = f"the clustering that run {recorded.id} added to"
    read = run_read_by(db, recorded, f"{what} is deleted")
    refuse_other_result(db, recorded, read, what)
    written = _written(db, recorded.id)
    places = _places(db, read, sorted({item for item, *_ in written}))
    columns = ("item_id", "level", "label", "probability")[: _width(written)]
    stored = (row[: len(columns)] for row in written)
    again = (row[: len(columns)] for row in places)
    return Again([ResultTable("memberships", columns, 2, stored, again)])


def _compute(db: dbapi.Connection, run_id: int, items: Sequence[int]) -> list[Assignment]:
    return db.execute(
        "select id, cluster, member, probability from cluster_assignments(?, ?) order by id",
        (run_id, json.dumps(list(items))),
    ).fetchall()


def _write(
    db: dbapi.Connection, assign_run: int, clustering_run: int, rows: Sequence[Assignment]
) -> None:
    """At each level an item goes where its member is, or is noise at all. In one statement: each makes
    SQLite copy the pages that it touches."""
    placed = [(item, label is not None, *rest) for item, label, *rest in rows]
    db.execute(
        read_sql(__package__, "assign_items"),
        {"run": clustering_run, "assigned_by": assign_run, "rows": json.dumps(placed)},
    )


def _written(db: dbapi.Connection, assign_run: int) -> list[Place]:
    """All that a run assigned."""
    return db.execute(read_sql(__package__, "assigned_by_run"), (assign_run,)).fetchall()


def _places(db: dbapi.Connection, clustering_run: int, items: Sequence[int]) -> Iterator[Place]:
    """The places of these items, as _write would have them."""
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK]
        for item, label, member, probability in _compute(db, clustering_run, block):
            of_member = db.execute(
                read_sql(__package__, "levels_of_member"),
                {"run": clustering_run, "member": member},
            )
            yield from (
                (
                    item,
                    level,
                    None if label is None else at_level,
                    probability if level == 1 else None,
                )
                for level, at_level in of_member
            )


def _width(written: Sequence[Place]) -> int:
    """How many columns count: not the probability where an older nearsql, or to a run of one, wrote none."""
    return 4 if any(place[3] is not None for place in written) else 3
