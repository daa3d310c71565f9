"""Import: what other programs made, brought in from the files in which they left it."""

from nearsql.pipeline.importing.again import recompute
from nearsql.pipeline.importing.run import ImportResult, import_file

__all__ = ["ImportResult", "import_file", "recompute"]
