"""The images themselves: are they still there, the same bytes, and readable?"""

from nearsql.pipeline import images
from nearsql.pipeline.check.finding import Finding, finding
from nearsql.pipeline.console import progress
from nearsql.pipeline.item_contents import CannotRead, Item, read_items
from nearsql.udfs import dbapi


def check_images(db: dbapi.Connection, *, quiet: bool = True) -> Finding:
    """Reads every image item, from the database or its file, compares its SHA-256, and decodes it."""
    ids = [item for (item,) in db.execute("select id from items where kind = 'image' order by id")]
    faults = []
    with progress("images read", len(ids), quiet=quiet) as bar, images.quiet_decoders():
        for item in read_items(db, ids, "image"):
            if fault := _fault(item):
                faults.append(f"item {item.id}, {item.uri or 'stored in the file'}: {fault}")
            bar.advance(1)
    cure = "put the file back as it was, or ingest it again"
    return finding("images", len(ids), faults, cure=cure)


def _fault(item: Item) -> str | None:
    try:
        data = item.read()
        assert isinstance(data, bytes), "an image item has no text"
        images.examine(data)
    except (CannotRead, images.NotAnImage, images.UnreadableImage) as error:
        return str(error)
    return None
