"""The findings of a recorded run, found again."""

from nearsql.pipeline.find.kinds import KINDS, Settings
from nearsql.pipeline.find.run import compute, labels_read
from nearsql.pipeline.find.store import as_rows, findings_table
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.run_spaces import run_read_by, space_read_by
from nearsql.pipeline.within import recorded_within
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.finding_searches import matrix_to_search


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A run's findings, computed anew, beside those that it stored.

    Raises CannotReplay when the labels that it read have changed, or the clustering is deleted.
    """
    only = recorded_within(db, recorded)
    space = space_read_by(db, recorded)
    matrix = matrix_to_search(db.apsw, space, None if only is None else only.ids)
    parameters = recorded.parameters
    settings = Settings(
        **{name: parameters[name] for name in Settings.__dataclass_fields__}
        | {"kinds": tuple(parameters["kinds"])}
    )
    unknown = [kind for kind in settings.kinds if kind not in KINDS]
    if unknown:
        raise CannotReplay(
            f"run {recorded.id} looked for {unknown[0]!r}, which is no kind of finding"
        )
    if settings.clustering is not None:
        deleted = f"the clustering that run {recorded.id} read is deleted"
        if run_read_by(db, recorded, deleted) != settings.clustering:
            raise CannotReplay(
                f"the record of run {recorded.id} contradicts itself: it names clustering"
                f" {settings.clustering}, and read another"
            )
    try:
        now = labels_read(db, matrix, settings)
    except SqlFunctionError as error:
        raise CannotReplay(f"run {recorded.id} read labels that are no more: {error}") from None
    for name, sha256 in now.items():
        if parameters.get(name) != sha256:
            what = settings.label if name == "label_sha256" else settings.split or "collection"
            raise CannotReplay(
                f"run {recorded.id} read what items are called by {what!r}, and that has changed since"
            )
    rows = as_rows(compute(db, matrix, settings).findings)
    # NULL and 0 are told apart in the hash of what is stored.
    return Again((findings_table(db, recorded.id, rows),), lambda: hash_rows(rows))
