"""The database that the documents' examples run on: the demo's digits, with a PCA map (quick, exact)."""

from pathlib import Path

from nearsql.pipeline import demo
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.udfs import connection


def build(path: Path) -> None:
    """Makes it: space `digits/pixels`, clusters by run 3, a map by run 4, clusters of each second item by 5."""
    db = connection.create(path)
    demo.build(db, method="pca")
    cluster_spaces(db, [demo.SPACE], min_cluster_size=20, min_samples=5, downsample=2)
    db.close()
