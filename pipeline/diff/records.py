"""What two runs of one kind were asked to do, and read, and in what that differs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Record:
    """A finished run. parameters: by name, those within others as `settings.conf`; its seed and model,
    too, if it has them. spaces: (generation, token) of those it read, by (id, name)."""

    id: int
    kind: str
    parameters: dict[str, Any]
    spaces: dict[tuple[int, str], tuple[int, int]]


def read_record(db: dbapi.Connection, run: int) -> Record:
    """Raises LookupError for a run that is not there, UserError for one that is not finished."""
    row = db.execute(
        "select r.kind, r.status, r.parameters_json, r.seed, m.name from runs r"
        " left join models m on m.id = r.model_id where r.id = ?",
        (run,),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run} in this file: see `nearsql runs`")
    kind, status, parameters_json, seed, model = row
    if status != "finished":
        raise UserError(f"run {run} is {status}: only a finished run can be compared")
    parameters = dict(_flat(json.loads(parameters_json)))
    for name, value in (("seed", seed), ("model", model)):
        if value is not None:
            parameters[name] = value
    read = db.execute(
        "select space_id, name, generation, generation_token from run_inputs"
        " where run_id = ? and kind = 'space' and space_id is not null order by id",
        (run,),
    )
    return Record(
        run, kind, parameters, {(space, name): (gen, token) for space, name, gen, token in read}
    )


def differences(a: Record, b: Record) -> dict[str, str]:
    """In what the runs differ, for a summary: each parameter as `before -> after`, and vectors that
    changed between the two."""
    names = [*a.parameters, *(b.parameters.keys() - a.parameters.keys())]
    found = {
        name: f"{_value(a.parameters.get(name))} -> {_value(b.parameters.get(name))}"
        for name in names
        if a.parameters.get(name) != b.parameters.get(name)
    }
    changed = [name for _, name in changed_spaces(a, b)]
    if changed:
        of = "" if len(a.spaces) == 1 else f"of {', '.join(changed)} "
        found["vectors"] = f"{of}changed between the two runs"
    return found


def changed_spaces(a: Record, b: Record) -> list[tuple[int, str]]:
    """(id, name) of the spaces that both read, and whose vectors changed in between."""
    of_b = {space: state for (space, _), state in b.spaces.items()}
    return [
        (space, name)
        for (space, name), state in a.spaces.items()
        if of_b.get(space, state) != state
    ]


def _flat(parameters: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _value(value: Any) -> str:
    if value is None:
        return "not given"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
