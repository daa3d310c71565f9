"""The space that an import fills, and the model that made what it brings."""

from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing.parts import Part
from nearsql.pipeline.runs import Run, immediate
from nearsql.udfs import dbapi

# An imported model cannot be asked: its name is kept apart from those that can.
PREFIX = "imported/"

_FAMILIES = {
    "yolo": "yolo",
    "rtdetr": "yolo",
    "clip": "clip",
    "siglip": "clip",
    "dino": "dino",
    "minilm": "text",
    "text-embedding": "text",
    "sentence": "text",
    "bge": "text",
    "e5-": "text",
    "gte": "text",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A space that is there."""

    space_id: int
    model_id: int | None


def find_space(
    db: dbapi.Connection, name: str | None, part: Part, metric: str | None, model: str | None
) -> Target | None:
    """The space of that name, if it is there. Raises UserError when the vectors are not of its making."""
    if name is None:
        return None
    row = db.execute(
        "select s.id, s.kind, s.dimensions, s.metric, s.model_id, m.name"
        " from spaces s left join models m on m.id = s.model_id where s.name = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None
    space_id, kind, dimensions, its_metric, model_id, its_model = row
    mine = (part.space_kind, part.dimensions, metric)
    if (kind, dimensions, its_metric) != mine:
        raise UserError(
            f"the space {name!r} is of kind {kind} with {dimensions:,} dimensions and the metric"
            f" {its_metric}, and what is to be imported {mine[0]} with {mine[1]:,} and {metric}: give"
            " another name with --space"
        )
    if model is not None and its_model not in (model, PREFIX + model):
        raise UserError(
            f"the space {name!r} is by {its_model or 'no model'}, not by {model}: give another name"
            " with --space"
        )
    return Target(space_id, model_id)


def make_space(run: Run, plan: Any, part: Part, model_id: int | None) -> Target:
    """Makes the run's space, in the caller's transaction; or finds the one that an earlier try made."""
    found = find_space(run.db, plan["space"], part, plan["metric"], plan["model"])
    if found is not None:
        return found
    space_id = run.db.execute(
        "insert into spaces (name, kind, model_id, run_id, dimensions, metric)"
        " values (?, ?, ?, ?, ?, ?)",
        (plan["space"], part.space_kind, model_id, run.id, part.dimensions, plan["metric"]),
    ).lastrowid
    assert space_id is not None
    return Target(space_id, model_id)


def family_of(part: Part, model: str | None, stem: str) -> tuple[str | None, str]:
    """The model's name and family. What only detectors say needs one, called like the file for want of a name.

    Raises UserError for losses, metrics or predictions of a model that is known not to be a detector.
    """
    says = [name for name in ("losses", "predictions", "metrics") if name in part.holds]
    known = next((f for word, f in _FAMILIES.items() if word in (model or "").lower()), None)
    if not says:
        return model, known or "other"
    if known not in (None, "yolo"):
        raise UserError(
            f"{part.name} has {says[0]} of {model}, which is no detector (family {known}): name the"
            " detector with --model, or leave this part out with --part"
        )
    return model or stem, "yolo"


def model_of(
    db: dbapi.Connection, part: Part, model: str | None, stem: str, target: Target | None
) -> tuple[int | None, str | None]:
    """The id of the model's row, which is made when it is not there, and the model's name; None for none."""
    name, family = family_of(part, model, stem)
    if target is not None and target.model_id is not None:
        (its_family,) = db.execute(
            "select family from models where id = ?", (target.model_id,)
        ).fetchone()
        if family == its_family or family == "other":
            return target.model_id, name
    if name is None:
        return None, None
    called, number = PREFIX + name, 1
    with immediate(db):
        while True:
            row = db.execute("select id, family from models where name = ?", (called,)).fetchone()
            if row is None:
                break
            if row[1] == family:
                return int(row[0]), name
            number += 1
            called = f"{PREFIX}{name}#{number}"
        made = db.execute(
            "insert into models (name, family, parameters_json)"
            " values (?, ?, json_object('model', ?))",
            (called, family, name),
        ).lastrowid
        assert made is not None
    return made, name
