"""What a unit of work costs, and what that makes of many: `python -m benchmarks.scale`

In seconds of CPU, which hang less than those of a clock on what else the machine does, and in bytes of the
file. --ray also measures what a batch costs that is sent to a worker and back.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nearsql.pipeline.embed import embed
from nearsql.pipeline.index import index
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.runs import immediate
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

MANY = 100_000_000
K = 10


class Costs:
    """Lines of a table: what a unit of each kind of work takes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[tuple[str, float, float]] = []

    @contextmanager
    def of(self, what: str, units: int) -> Iterator[None]:
        """Measures the block, which does so many units of it."""
        size, started = self._size(), time.process_time()
        yield
        seconds = time.process_time() - started
        self.lines.append((what, seconds / units, (self._size() - size) / units))

    def _size(self) -> int:
        with closing(connection.connect(self._path)) as db:
            (n_bytes,) = db.execute(
                "select page_count * page_size from pragma_page_count, pragma_page_size"
            ).fetchone()
        return int(n_bytes)


def main() -> None:
    """Prints a table for docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="of 256 x 256 pixels; 1000")
    parser.add_argument("--vectors", type=int, default=20_000, help="20000")
    parser.add_argument("--dimensions", type=int, default=512, help="512")
    parser.add_argument("--ray", action="store_true", help="also what Ray adds")
    asked = parser.parse_args()
    images, vectors, dimensions = asked.images, asked.vectors, asked.dimensions
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.db"
        connection.create(path).close()
        costs = Costs(path)
        _write_images(Path(folder) / "images", images)
        with closing(connection.connect(path)) as db:
            with costs.of("ingest an image of a folder", images):
                ingest_images(db, Path(folder) / "images", collection="images")
            with costs.of("embed an image with pixels: read, decode, scale", images):
                embed(db, "pixels", collection="images")
            ids = _add_items(db, vectors)
            space_id = _add_space(db, dimensions)
            rows = np.random.default_rng(0).standard_normal((vectors, dimensions)).astype("<f4")
            with costs.of(f"write a vector of {dimensions} dimensions", vectors):
                for start in range(0, vectors, 1000):
                    some = slice(start, start + 1000)
                    blobs = [row.tobytes() for row in rows[some]]
                    with immediate(db):
                        insert_vectors(db, space_id, None, list(zip(ids[some], blobs, strict=True)))
            with costs.of(f"its {K} nearest of {vectors:,}, exactly, and written", vectors):
                neighbors(db, ["v"], k=K)
            with costs.of("its place in an hnsw index, measured", vectors):
                index(db, ["v"], "hnsw")
            with costs.of("its place in an ivf index, measured", vectors):
                index(db, ["v"], "ivf")
        if asked.ray:
            _send(costs)
    _print(costs)


def _write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(coarse).resize((256, 256)).save(folder / f"{number}.jpg")


def _add_items(db: dbapi.Connection, count: int) -> list[int]:
    ids = list(range(1_000_000, 1_000_000 + count))
    with immediate(db):
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'texts', ?, 'a text', ?)",
            [(i, f"{i:064x}", n) for n, i in enumerate(ids)],
        )
    return ids


def _add_space(db: dbapi.Connection, dimensions: int) -> int:
    with immediate(db):
        space_id = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values ('v', 'embedding', ?, 'l2')",
            (dimensions,),
        ).lastrowid
    assert space_id is not None
    return space_id


def _send(costs: Costs) -> None:
    """What is sent to a worker and back, by the clock: the driver waits for most of it."""
    from nearsql.pipeline.encode_items import EncodeTask
    from nearsql.pipeline.encoders import find_module
    from nearsql.pipeline.engines.ray_engine import RayEngine
    from nearsql.pipeline.item_contents import Item

    pixels: Any = find_module("pixels")
    model = pixels.fit("pixels", "pixels", {"size": 16}, [])
    items = [Item(n, "", None, None, b"no image" * 10) for n in range(32 * 200)]
    started = time.perf_counter()
    with RayEngine(workers=1).workers(EncodeTask("pixels", model, "cpu")) as workers:
        ready = time.perf_counter()
        for _ in workers.map(items, 32):
            pass
        sent = time.perf_counter()
    ended = time.perf_counter()
    costs.lines.append(("Ray: begin and end, by the clock", ready - started + ended - sent, 0.0))
    costs.lines.append(
        ("Ray: a batch of 32 sent and answered, by the clock", (sent - ready) / 200, 0.0)
    )


def _print(costs: Costs) -> None:
    print(f"| a unit | CPU seconds | bytes in the file | {MANY:,}: CPU hours | and TB |")
    print("|---|---|---|---|---|")
    say = "{:,.3g}".format
    for what, seconds, n_bytes in costs.lines:
        if what.startswith("Ray"):
            print(f"| {what} | {say(seconds)} | | | |")
            continue
        hours, terabytes = say(seconds * MANY / 3600), n_bytes * MANY / 1e12
        if "exactly" in what:  # which grows with their number, besides
            hours = ""
        size, of_many = (f"{n_bytes:,.0f}", say(terabytes)) if n_bytes > 0 else ("", "")
        print(f"| {what} | {say(seconds)} | {size} | {hours} | {of_many} |")


if __name__ == "__main__":
    main()
