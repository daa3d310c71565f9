"""Ingest: images from a folder or from memory, texts from a table, into a collection.

The SHA-256 of an image's bytes, or of a text as UTF-8, is what makes an item: the same bytes are one
item of a collection, and ingesting again adds only what is new.
"""

from nearsql.pipeline.ingest import folders as from_folders
from nearsql.pipeline.ingest import texts as from_tables
from nearsql.pipeline.ingest.folders import ingest_image_bytes, ingest_images
from nearsql.pipeline.ingest.texts import ingest_texts
from nearsql.pipeline.ingest.writer import IngestResult
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.udfs import dbapi

__all__ = ["IngestResult", "ingest_image_bytes", "ingest_images", "ingest_texts", "recompute"]


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """What a recorded ingest would bring now; for `nearsql replay`.

    Raises CannotReplay when its sources are gone, changed, or were never on disk.
    """
    if recorded.parameters["source_kind"] in ("folder", "memory"):
        return from_folders.recompute(db, recorded)
    return from_tables.recompute(db, recorded)
