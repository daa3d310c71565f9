"""How fast is the map of a large file? `python -m benchmarks.browser_map`

Makes a file with that many points in clusters, serves it by a real Datasette, and opens its map in
Chromium without a graphics card: what is drawn, the processor draws, WebGL included. Beside it, the same
points from the same server by plotly's scattergl, which needs WebGL.

Prints for each number of points:
- page: seconds from the request of the map's page until all its points are drawn in the colours of
  their clusters, when the server has just started, and when it is asked again;
- alone: the same for nothing but the points, fetched and drawn on an empty page; and plotly's;
- pan, zoom: frames a second while the view moves each frame, and what part of the points was drawn in
  such a frame; of plotly, how often a second it could show another view;
- bytes a point: what came over the wire for places, ids and colours.

A map of more than a million points is shown as an even sample of a million. It also prints how long a
denser sample of a small window of it takes. The first figures of a process are the slowest: nothing is
repeated, and nothing is left out.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.datasette_threads import served
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection

CLUSTERS = 60
SECONDS = 3  # of panning, and of zooming
SIZE = {"width": 1280, "height": 800}
WITHOUT_CARD = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]

# Frames a second while `step` moves the view each frame, and the smallest part of the points drawn.
FRAMES = """async ([seconds, isPan]) => {
    const s = window.s;
    let smallest = 1;
    const draw = s.painter.draw.bind(s.painter);
    s.painter.draw = (frame) => { smallest = Math.min(smallest, frame.share); draw(frame); };
    const start = performance.now();
    let frames = 0;
    while (performance.now() - start < 1000 * seconds) {
        await new Promise(requestAnimationFrame);
        if (isPan) s.panBy(9 * Math.cos(frames / 15), 9 * Math.sin(frames / 15));
        else s.zoomBy(frames % 60 < 30 ? 1.05 : 1 / 1.05, 500, 300);
        frames++;
    }
    s.painter.draw = draw;
    return [(1000 * frames) / (performance.now() - start), smallest];
}"""

EMPTY = """async ({ base, map, colours, key }) => {
    document.body.replaceChildren();
    document.body.style = "margin: 0; background: white";
    const host = document.createElement("div");
    host.style = "width: 1280px; height: 760px; position: relative";
    document.body.append(host);
    const { fetchMap, fetchColours } = await import(`${base}columns.js`);
    const { Scatter } = await import(`${base}scatter.js`);
    const palette = Array.from({ length: 20 }, (_, i) => `hsl(${18 * i} 70% 45%)`);
    window.fetched = async () => {
        const [points, found] = await Promise.all([fetchMap(map), fetchColours(colours, key)]);
        return { points, found };
    };
    Object.assign(window, { host, Scatter, palette, fetchMap });
}"""

OURS = """async () => {
    const start = performance.now();
    const { points, found } = await fetched();
    window.s = new Scatter(host);
    s.setPoints(points);
    s.setColours({ codes: found.codes, palette, noise: "#bbb", without: "#ddd" });
    await s.whenDrawn();
    return (performance.now() - start) / 1000;
}"""

PLOTLY = """async () => {
    const start = performance.now();
    const { points, found } = await fetched();
    const steps = ["#ddd", "#bbb", ...palette];
    const marker = {
        size: 3,
        color: Float32Array.from(found.codes, (c) => (c < 0 ? c + 2 : (c % palette.length) + 2)),
        colorscale: steps.flatMap((colour, i) =>
            [[i / steps.length, colour], [(i + 1) / steps.length, colour]]),
        cmin: -0.5,
        cmax: steps.length - 0.5,
    };
    const axis = { visible: false };
    await Plotly.newPlot(
        host,
        [{ type: "scattergl", mode: "markers", x: points.x, y: points.y, hoverinfo: "none", marker }],
        { margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, dragmode: "pan", xaxis: axis,
          yaxis: { ...axis, scaleanchor: "x" } },
    );
    await drawn();
    return (performance.now() - start) / 1000;
}"""

# Until WebGL has drawn what it was asked to: reading a pixel waits for it.
DRAWN = """() => {
    window.drawn = async () => {
        await new Promise(requestAnimationFrame);
        for (const canvas of host.querySelectorAll("canvas")) {
            const gl = canvas.getContext("webgl") ?? canvas.getContext("webgl2");
            gl?.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
        }
    };
}"""

PLOTLY_FRAMES = """async ([seconds, isPan]) => {
    const start = performance.now();
    const { xaxis, yaxis } = host._fullLayout;
    const [x, y] = [xaxis.range.slice(), yaxis.range.slice()];
    const width = x[1] - x[0];
    let frames = 0;
    while (performance.now() - start < 1000 * seconds) {
        await new Promise(requestAnimationFrame);
        const by = isPan ? [0.01 * width * (frames % 20), 0.01 * width * (frames % 20)]
                         : [0.01 * width * (frames % 20), -0.01 * width * (frames % 20)];
        await Plotly.relayout(host, { "xaxis.range": [x[0] + by[0], x[1] + by[1]] });
        await drawn();
        frames++;
    }
    return (1000 * frames) / (performance.now() - start);
}"""


def make(path: Path, n: int) -> tuple[int, int]:
    """A file with a map of n texts in clusters, one in seven of them noise; gives (map, clustering)."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, CLUSTERS, n)
    centres = random.normal(size=(CLUSTERS, 2)) * 10
    places = (
        centres[kinds] + random.normal(size=(n, 2)) * random.uniform(0.3, 1.5, (CLUSTERS, 1))[kinds]
    )
    is_noise = (random.random(n) < 1 / 7).tolist()
    db = connection.create(path)
    with immediate(db):
        db.apsw.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'c', printf('%064x', ?), 'x', ?)",
            ((i, i, i) for i in range(1, n + 1)),
        )
    with run(db, "project", parameters={"method": "made up"}) as projection, immediate(db):
        db.apsw.executemany(
            f"insert into projection_points (run_id, item_id, x, y) values ({projection.id}, ?, ?, ?)",
            ((i, x, y) for i, (x, y) in enumerate(places.tolist(), 1)),
        )
    with run(db, "cluster", parameters={}) as clustering, immediate(db):
        db.apsw.executemany(
            f"insert into clusters (id, run_id, level, label, size) values (?, {clustering.id}, 1, ?, ?)",
            ((k + 1, k, int(size)) for k, size in enumerate(np.bincount(kinds))),
        )
        db.apsw.executemany(
            "insert into memberships (run_id, level, item_id, cluster_id)"
            f" values ({clustering.id}, 1, ?, ?)",
            (
                (i, None if noise else kind + 1)
                for i, (kind, noise) in enumerate(zip(kinds.tolist(), is_noise, strict=True), 1)
            ),
        )
    db.close()
    return projection.id, clustering.id


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a graphics card."""
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        launched = playwright.chromium.launch(executable_path=path, args=WITHOUT_CARD)
        yield launched
        launched.close()


def map_page(page: Any, url: str) -> tuple[float, int]:
    """Seconds from the request of the page until its points are drawn, and the bytes of the points."""
    answers: list[Any] = []
    page.on("response", lambda response: answers.append(response))
    page.goto(url)
    page.wait_for_function(
        "document.getElementById('nearsql-map').dataset.drawn !== undefined", timeout=300_000
    )
    seconds = page.evaluate(
        """async () => {
            window.s = document.querySelector(".canvas").map.scatter;
            await s.whenDrawn();
            return performance.now() / 1000; // since the page was asked for
        }"""
    )
    columns = [a for a in answers if "/columns" in a.url or "/colours" in a.url]
    return seconds, sum(len(answer.body()) for answer in columns)


def measure(folder: Path, n: int, *, with_peer: bool) -> list[dict[str, Any]]:
    """The rows of the table for n points."""
    path = folder / f"map{n}.db"
    projection, clustering = make(path, n)
    key = f"cluster:{clustering}:1"
    plotly = distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
    with served(path, 3, 1) as port, browser() as chromium:
        root = f"http://127.0.0.1:{port}/-/nearsql/map{n}/map/{projection}"
        page = chromium.new_page(viewport=SIZE)
        first, received = map_page(page, root)
        page.close()
        page = chromium.new_page(viewport=SIZE)
        again, _ = map_page(page, root)
        shown = page.evaluate("s.x.length")
        base = page.evaluate("document.querySelector('script[src*=\"map.js\"]').src")
        pan, share = page.evaluate(FRAMES, [SECONDS, True])
        zoom, _ = page.evaluate(FRAMES, [SECONDS, False])
        row = {
            "points": n,
            "shown": shown,
            "drawn by": "ours, the page",
            "first s": first,
            "again s": again,
            "pan /s": pan,
            "zoom /s": zoom,
            "part drawn": share,
            "bytes a point": received / shown,
        }
        page.close()
        rows = [row]
        asked = {
            "base": base.rsplit("/", 1)[0] + "/",
            "map": f"{root}/columns",
            "colours": f"{root}/colours",
            "key": key,
        }
        page = chromium.new_page(viewport=SIZE)
        page.goto(f"http://127.0.0.1:{port}/-/versions.json")
        page.evaluate(EMPTY, asked)
        rows.append(
            {"points": n, "shown": shown, "drawn by": "ours, alone", "again s": page.evaluate(OURS)}
        )
        if n > shown:
            low, high = page.evaluate("[s.toData(600, 400), s.toData(680, 320)]")
            window = f"{root}/columns?x={low[0]},{high[0]}&y={low[1]},{high[1]}"
            seconds, inside = page.evaluate(
                """async (url) => {
                    const start = performance.now();
                    const found = await fetchMap(url);
                    return [(performance.now() - start) / 1000, found.n];
                }""",
                window,
            )
            print(
                f"A window of {n:,} points, with {inside:,} of them, came within {seconds:.2f} s."
            )
        page.close()
        if with_peer:
            page = chromium.new_page(viewport=SIZE)
            page.goto(f"http://127.0.0.1:{port}/-/versions.json")
            page.evaluate(EMPTY, asked)
            page.evaluate(DRAWN)
            page.add_script_tag(path=str(plotly))
            rows.append(
                {
                    "points": n,
                    "shown": shown,
                    "drawn by": "plotly, alone",
                    "again s": page.evaluate(PLOTLY),
                    "pan /s": page.evaluate(PLOTLY_FRAMES, [SECONDS, True]),
                    "zoom /s": page.evaluate(PLOTLY_FRAMES, [SECONDS, False]),
                    "part drawn": 1.0,
                }
            )
            page.close()
    path.unlink()
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.browser_map",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--points", type=int, nargs="+", default=[100_000, 1_000_000, 3_000_000], metavar="N"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave plotly out")
    arguments = parser.parse_args()
    formats = ("", "", "", ".2f", ".2f", ".1f", ".1f", ".2f", ".1f")
    with tempfile.TemporaryDirectory() as folder:
        for n in arguments.points:
            rows = measure(Path(folder), n, with_peer=not arguments.no_peer)
            print(tabulate(rows, headers="keys", floatfmt=formats, intfmt=","), flush=True)


if __name__ == "__main__":
    main()
