"""How a file becomes a nearsql database of this version, and what version a file is.

Each `NNNN_subject.sql` is one forward step. A new file takes all of them; an older file the ones it
lacks. `schema/` shows what comes out: a test compares the two.
"""

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

# "near" in ASCII: tells `file` and nearsql itself whose database this is.
APPLICATION_ID = 0x6E656172

State = Literal["empty", "foreign", "current", "behind", "newer"]


def step_files() -> list[Traversable]:
    """The migration steps in order; the position of a step, from 1, is the schema version it gives."""
    found = [f for f in files(__name__).iterdir() if f.name.endswith(".sql")]
    return sorted(found, key=lambda f: f.name)


def latest_version() -> int:
    """The schema version of a database that has every step."""
    return len(step_files())


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file is to this nearsql: its schema version, and how that compares to ours."""

    state: State
    version: int

    def problem(self, path: str) -> str | None:
        """What is wrong with using this file as it is, in a sentence that says what would work."""
        if self.state == "newer":
            return (
                f"{path} has schema version {self.version}, newer than the {latest_version()} that this "
                f"nearsql knows: upgrade nearsql to open it"
            )
        if self.state == "behind":
            return (
                f"{path} has schema version {self.version}, older than {latest_version()}: "
                f"run `nearsql migrate {path}`"
            )
        return None


def file_state(connection: Any) -> FileState:
    """Reads what the open file is. `connection` is anything with sqlite3's `execute`."""
    (application_id,) = next(iter(connection.execute("pragma application_id")))
    (version,) = next(iter(connection.execute("pragma user_version")))
    if application_id == APPLICATION_ID:
        latest = latest_version()
        state: State = "newer" if version > latest else "behind" if version < latest else "current"
        return FileState(state, version)
    (tables,) = next(iter(connection.execute("select count(*) from sqlite_schema")))
    return FileState("foreign" if tables else "empty", 0)


def pending(connection: Any) -> list[str]:
    """The names of the steps that the file still lacks, in order."""
    state = file_state(connection)
    return [f.name.removesuffix(".sql") for f in step_files()[state.version :]]
