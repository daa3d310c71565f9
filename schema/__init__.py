"""What the database is: one .sql file per table group, view and named question. No logic.

`migrations/` is what builds a file; the files here are what every migrated file must equal.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

# In this order: a group refers only to groups before it, and views come last.
TABLE_GROUPS = (
    "metadata",
    "provenance",
    "things",
    "vectors",
    "detector",
    "search",
    "clusters",
    "maps",
    "judgement",
    "curation",
    "isolation",
)


def table_sql(group: str) -> str:
    """The CREATE statements of one table group, for example `vectors`."""
    return (files(__name__) / f"{group}.sql").read_text(encoding="utf-8")


def view_files() -> list[Traversable]:
    """The .sql files of the public views, by name; each holds one view."""
    return _sql_files("views")


def query_files() -> list[Traversable]:
    """The .sql files of the named questions, by name; the first comment line is the title."""
    return _sql_files("queries")


def _sql_files(folder: str) -> list[Traversable]:
    found = [f for f in (files(__name__) / folder).iterdir() if f.name.endswith(".sql")]
    return sorted(found, key=lambda f: f.name)
