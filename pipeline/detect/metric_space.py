"""The space MODEL/metrics: where images lie near each other on which the detector behaves alike.

A vector holds an image's losses and metrics, each standardised over all images of the space, so that
`knn('yolov8n-seg/metrics', 42, 5)` compares them as equals. A value that is undefined for an image, such
as the box loss where nothing is to be found, stands at the mean. Each detect run makes the space anew,
since a further image moves every mean, and holds the images judged with that run's settings only: those
of runs with others (another --conf, say) are not comparable. With which, `models` says under its name.
"""

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.console import UserError
from nearsql.pipeline.runs import Run, immediate
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

METRICS = ("mean_iou", "mean_conf", "hit_freq", "dice_score")

# One image alone has no deviation to be measured in.
FEWEST_ITEMS = 2

Values = npt.NDArray[np.float64]


def standardise(values: Values) -> tuple[Values, Values, Values]:
    """Each column with mean 0 and standard deviation 1; NaN becomes 0, and so does a constant column.

    values: (items, columns). Gives the standardised values, the means and the standard deviations,
    both over what is defined.
    """
    defined = np.isfinite(values)
    counts = defined.sum(0)
    means = np.where(defined, values, 0.0).sum(0) / np.maximum(counts, 1)
    from_mean = np.where(defined, values - means, 0.0)
    deviations = np.sqrt((from_mean**2).sum(0) / np.maximum(counts, 1))
    # A column whose values differ by rounding only is constant.
    is_constant = deviations <= 1e-12 * np.maximum(1.0, np.abs(means))
    scaled = np.where(is_constant, 0.0, from_mean / np.where(is_constant, 1.0, deviations))
    return scaled, means, deviations


def refresh(run: Run, model: str, components: Sequence[str], settings: str) -> int:
    """Makes the space anew from the latest losses and metrics of each image; gives its items.

    settings: the run's, as JSON text: rows of runs with other settings are not mixed in. Images without
    ground truth are left out. With fewer than two images there is no space, and the answer is 0.
    """
    # Read and written in one transaction: another run may be at the same space.
    with immediate(run.db):
        return _refresh(run, model, components, settings)


def _refresh(run: Run, model: str, components: Sequence[str], settings: str) -> int:
    columns = (*components, *METRICS)
    item_ids, values = _read(run.db, run.id, components, settings)
    if len(item_ids) < FEWEST_ITEMS:
        return 0
    vectors, means, deviations = standardise(values)
    rows = dict(zip(item_ids, vectors.astype("<f4"), strict=True))
    parameters = {
        "columns": list(columns),
        "means": means.tolist(),
        "standard_deviations": deviations.tolist(),
        "undefined": "0, the mean",
        "settings": json.loads(settings),
    }
    space_id = _space(run, f"{model}/metrics", len(columns), parameters)
    stored = dict(
        run.db.execute("select item_id, vector from vectors where space_id = ?", (space_id,))
    )
    new = [
        (item_id, vector.tobytes())
        for item_id, vector in rows.items()
        if stored.get(item_id) != vector.tobytes()
    ]
    gone = stored.keys() - rows.keys() | {i for i, _ in new if i in stored}
    run.db.execute(
        "delete from vectors where space_id = ? and item_id in (select value from json_each(?))",
        (space_id, json.dumps(sorted(gone))),
    )
    insert_vectors(run.db, space_id, run.id, new)
    return len(rows)


def _read(
    db: dbapi.Connection, run_id: int, components: Sequence[str], settings: str
) -> tuple[list[int], Values]:
    """Item ids and their values as (items, columns); NaN for NULL."""
    sql = read_sql(__package__, "metric_rows")
    item_ids, values = [], []
    for item_id, losses, *metrics in db.execute(sql, {"run_id": run_id, "settings": settings}):
        losses = json.loads(losses)
        row = [losses.get(component) for component in components] + metrics
        item_ids.append(item_id)
        values.append([np.nan if value is None else value for value in row])
    return item_ids, np.array(values, np.float64).reshape(
        len(item_ids), len(components) + len(METRICS)
    )


def _space(run: Run, name: str, dimensions: int, parameters: dict[str, object]) -> int:
    """The space's id. What its numbers mean is kept with its model, a row of `models` of its name."""
    db = run.db
    sql = read_sql(__package__, "metric_space_taken")
    taken = db.execute(sql, {"name": name, "dimensions": dimensions}).fetchone()
    if taken is not None:
        raise UserError(
            f"{name!r} is the name of something else in this database: give the detector another name"
            " with --name"
        )
    db.execute(
        "insert into models (name, family, parameters_json) values (?, 'other', ?)"
        " on conflict (name) do update set parameters_json = excluded.parameters_json",
        (name, json.dumps(parameters, sort_keys=True)),
    )
    db.execute(
        "insert into spaces (name, kind, model_id, run_id, dimensions, metric)"
        " values (?, 'metric', (select id from models where name = ?), ?, ?, 'l2')"
        " on conflict (name) do nothing",
        (name, name, run.id, dimensions),
    )
    (space_id,) = db.execute("select id from spaces where name = ?", (name,)).fetchone()
    return int(space_id)
