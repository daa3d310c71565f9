"""The database that the documents' examples run on: the demo's digits, with a PCA map (quick, exact)."""

from pathlib import Path

from nearsql.pipeline import demo
from nearsql.udfs import connection


def build(path: Path) -> None:
    """Makes it: collection and label `digits`, space `digits/pixels`, clusters by run 3, map by run 4."""
    db = connection.create(path)
    demo.build(db, method="pca")
    db.close()
