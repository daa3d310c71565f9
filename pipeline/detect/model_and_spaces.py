"""The rows that a detect run needs before it can write: its model, and a feature space a layer."""

import json

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.settings import Settings
from nearsql.pipeline.detect.weights import Detector
from nearsql.pipeline.runs import Run, immediate
from nearsql.udfs import dbapi


def model_name(name: str) -> str:
    """The name. Raises UserError for one that its spaces MODEL/gap/LAYER could not be told apart by."""
    if not name.strip() or "/" in name:
        raise UserError(
            f"a model's spaces are called MODEL/gap/LAYER, so {name!r} is no name for it: give one"
            " without a slash with --name"
        )
    return name


def save_detector(db: dbapi.Connection, detector: Detector, name: str) -> int:
    """The model's id; its row is made when it is not there.

    Raises UserError when the name belongs to another checkpoint.
    """
    parameters = {
        "architecture": detector.architecture,
        "task": detector.task,
        "classes": list(detector.classes),
        "components": list(detector.components),
        "strides": list(detector.strides),
        "loss_settings": detector.loss_settings,
        "end_to_end": detector.is_end_to_end,
    }
    with immediate(db):
        row = db.execute(
            "select id, family, checkpoint_sha256 from models where name = ?", (name,)
        ).fetchone()
        if row is None:
            model_id = db.execute(
                "insert into models (name, family, checkpoint_sha256, licence, parameters_json)"
                " values (?, 'yolo', ?, ?, ?)",
                (name, detector.sha256, detector.licence, json.dumps(parameters, sort_keys=True)),
            ).lastrowid
            assert model_id is not None
            return model_id
    model_id, family, sha256 = row
    if (family, sha256) != ("yolo", detector.sha256):
        raise UserError(
            f"this database has another model called {name!r} (SHA-256 {str(sha256)[:12]}...; that of"
            f" {detector.path} is {detector.sha256[:12]}...): give this one a name with --name"
        )
    return int(model_id)


def feature_spaces(
    run: Run, model: str, model_id: int, dimensions: dict[str, int], settings: Settings
) -> dict[str, int]:
    """The id of each layer's space MODEL/gap/LAYER; those that are not there are made.

    dimensions: layer -> channels. Raises UserError when a space was made otherwise: features of
    another image size or precision are not comparable.
    """
    with immediate(run.db):
        return {
            layer: _feature_space(run, f"{model}/gap/{layer}", model_id, n, settings)
            for layer, n in dimensions.items()
        }


def _feature_space(run: Run, name: str, model_id: int, dimensions: int, settings: Settings) -> int:
    db = run.db
    row = db.execute(
        "select s.id, s.model_id, s.dimensions, r.parameters_json from spaces s"
        " left join runs r on r.id = s.run_id where s.name = ?",
        (name,),
    ).fetchone()
    if row is None:
        space_id = db.execute(
            "insert into spaces (name, kind, model_id, run_id, dimensions, metric)"
            " values (?, 'feature', ?, ?, ?, 'cosine')",
            (name, model_id, run.id, dimensions),
        ).lastrowid
        assert space_id is not None
        return space_id
    space_id, its_model, its_dimensions, parameters = row
    its_settings = json.loads(parameters or "{}").get("settings", {})
    here = (model_id, dimensions, settings.imgsz, settings.autocast)
    there = (
        *(its_model, its_dimensions),
        *(its_settings.get("imgsz"), its_settings.get("autocast")),
    )
    if here[:2] != there[:2]:
        raise UserError(
            f"the space {name!r} was not made by this model: give the model another name with --name"
        )
    if here != there:
        raise UserError(
            f"the space {name!r} was made with --imgsz {there[2]}"
            f"{' and autocast' if there[3] else ''}, and its features cannot be compared with those of"
            f" --imgsz {here[2]}{' and autocast' if here[3] else ''}: give the model another name"
            " with --name"
        )
    return int(space_id)
