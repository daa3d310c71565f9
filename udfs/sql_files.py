"""The SQL statements that lie in files beside the modules that execute them."""

from functools import cache
from importlib.resources import files


@cache
def read_sql(package: str | None, name: str) -> str:
    """The text of `<name>.sql` in a package: for a module's own folder, give `__package__`."""
    return files(package or "").joinpath(f"{name}.sql").read_text("utf-8")
