"""The space that an embedding run fills, and the model that measures in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import Encoder, EncoderModule, Model
from nearsql.pipeline.model_arrays import load_arrays, save_arrays
from nearsql.pipeline.runs import Run, immediate
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Target:
    """A space with the model it was made with."""

    space_id: int
    name: str
    dimensions: int
    metric: str
    model_id: int
    model: Model

    def check(self, dimensions: int, metric: str) -> None:
        """Raises UserError when the space's model, as it was loaded, does not measure as the space says."""
        if (dimensions, metric) != (self.dimensions, self.metric):
            raise UserError(
                f"the space {self.name!r} has {self.dimensions} dimensions and the metric"
                f" {self.metric}, but its model {self.model.name!r} gives {dimensions} and"
                f" {metric}: give another name with --space"
            )


def load_encoder(module: EncoderModule, model: Model, device: str) -> Encoder:
    """The encoder of a model that the database kept. Raises UserError when it is damaged."""
    try:
        return module.load(model, device)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the model {model.name!r} cannot be loaded: {error}") from error


def find_target(db: dbapi.Connection, space: str) -> Target | None:
    """The space of that name with its model, if there is one. Raises UserError if it has no model."""
    row = db.execute(
        "select id, dimensions, metric, model_id from spaces where name = ?", (space,)
    ).fetchone()
    if row is None:
        return None
    space_id, dimensions, metric, model_id = row
    if model_id is None:
        raise UserError(
            f"the space {space!r} was not made by a model: give another name with --space"
        )
    return Target(space_id, space, dimensions, metric, model_id, read_model(db, model_id))


def read_model(db: dbapi.Connection, model_id: int) -> Model:
    """The model of that id, with what it learned."""
    name, family, parameters, checkpoint_sha256, licence = db.execute(
        "select name, family, parameters_json, checkpoint_sha256, licence from models where id = ?",
        (model_id,),
    ).fetchone()
    arrays = load_arrays(db, model_id)
    return Model(name, family, json.loads(parameters), arrays, checkpoint_sha256, licence)


def check_same(target: Target, model: str, asked: Mapping[str, Any]) -> None:
    """Raises UserError, naming what differs, when the space was made in another way than is asked now.

    model: its full name. asked: options, and `checkpoint_sha256` when a checkpoint is given. What is
    not asked for follows the space.
    """
    made_by = target.model.parameters.get("model")
    if made_by != model:
        shown = target.model.name if target.model.checkpoint_sha256 is None else made_by
        raise UserError(
            f"the space {target.name!r} was made by {shown}, not by {model}:"
            " give another name with --space"
        )
    options = target.model.parameters.get("options", {})
    for option, value in asked.items():
        if option == "checkpoint_sha256":
            if value != target.model.checkpoint_sha256:
                raise UserError(
                    f"the space {target.name!r} was made with another checkpoint (SHA-256"
                    f" {str(target.model.checkpoint_sha256)[:12]}..., and this one's is"
                    f" {value[:12]}...): give another name with --space"
                )
        elif options.get(option) != value:
            flag = "--" + option.replace("_", "-")
            raise UserError(
                f"the space {target.name!r} was made with {flag} {options.get(option)}, not {value}:"
                f" give another name with --space, or leave {flag} out to add to it"
            )


def save_model(db: dbapi.Connection, model: Model) -> int:
    """Writes a model with its arrays, and gives its id.

    A model that learned nothing is the same in every space, and is written once. One that was fitted
    gets a name of its own, since the older fits of that name still explain the runs they made; so does
    one with another checkpoint.
    """
    find = "select id, parameters_json, checkpoint_sha256 from models where name = ?"
    with immediate(db):
        name, number = model.name, 1
        while (row := db.execute(find, (name,)).fetchone()) is not None:
            model_id, parameters, sha256 = row
            if not model.arrays:
                there = json.loads(parameters)
                is_same = sha256 == model.checkpoint_sha256
                if is_same and same_parameters(there, model.parameters):
                    _move_checkpoint(db, model_id, there, model.parameters)
                    return int(model_id)
                if model.checkpoint_sha256 is None:
                    raise UserError(
                        f"this database has another model called {name!r}, with the parameters"
                        f" {parameters}"
                    )
            elif _was_left(db, model_id, parameters, model):
                return int(model_id)
            number += 1
            name = f"{model.name}#{number}"
        new_id = db.execute(
            "insert into models (name, family, checkpoint_sha256, licence, parameters_json)"
            " values (?, ?, ?, ?, ?)",
            (
                name,
                model.family,
                model.checkpoint_sha256,
                model.licence,
                json.dumps(model.parameters, sort_keys=True),
            ),
        ).lastrowid
        assert new_id is not None
        save_arrays(db, new_id, model.arrays)
    return new_id


def _was_left(db: dbapi.Connection, model_id: int, parameters: str, model: Model) -> bool:
    """Whether this is the model, fitted before to the same, by who was killed before it made its space."""
    used = db.execute("select 1 from spaces where model_id = ? limit 1", (model_id,)).fetchone()
    if used is not None or not same_parameters(json.loads(parameters), model.parameters):
        return False
    return dict(load_arrays(db, model_id)) == dict(model.arrays)


def move_checkpoint(db: dbapi.Connection, target: Target, checkpoint: Mapping[str, Any]) -> Target:
    """Records where the space's checkpoint lies now: a file with the same bytes as before."""
    parameters = {**target.model.parameters, "checkpoint": checkpoint}
    with immediate(db):
        _move_checkpoint(db, target.model_id, target.model.parameters, parameters)
    return replace(target, model=replace(target.model, parameters=parameters))


def same_parameters(there: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether two models' parameters are the same, wherever their checkpoint lies."""
    there, parameters = dict(there), dict(parameters)
    if "checkpoint" in parameters:
        there.pop("checkpoint", None)
        parameters.pop("checkpoint")
    return there == parameters


def _move_checkpoint(
    db: dbapi.Connection, model_id: int, there: Mapping[str, Any], parameters: Mapping[str, Any]
) -> None:
    if there.get("checkpoint") != parameters.get("checkpoint"):
        db.execute(
            "update models set parameters_json = ? where id = ?",
            (json.dumps(parameters, sort_keys=True), model_id),
        )


def create_space(
    run: Run, space: str, model_id: int, model: Model, dimensions: int, metric: str
) -> Target:
    """Makes the run's space. Raises UserError when another process was quicker."""
    db = run.db
    with immediate(db):
        if find_target(db, space) is not None:
            raise UserError(f"another process has just made the space {space!r}: run this again")
        space_id = db.execute(
            "insert into spaces (name, kind, model_id, run_id, dimensions, metric)"
            " values (?, 'embedding', ?, ?, ?, ?)",
            (space, model_id, run.id, dimensions, metric),
        ).lastrowid
        assert space_id is not None
    return Target(space_id, space, dimensions, metric, model_id, model)
