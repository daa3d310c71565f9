"""What the renderer of maps draws in a real browser, and what it is told to draw.

Both painters must draw the same.
"""

from typing import Any

import numpy as np
import pytest
from chromium import window
from scatter_page import (
    BLUE,
    GREEN,
    HEIGHT,
    MAKE,
    PAINTERS,
    PALETTE,
    RED,
    WHITE,
    WIDTH,
    Map,
    clustered,
    seen_as,
)  # fmt: skip

from nearsql.datasette_plugins import map_columns
from nearsql.datasette_plugins.map_points import Points, sample

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("painter", PAINTERS)
def test_each_point_is_drawn_where_it_is_in_its_colour(drawn: Map, painter: str) -> None:
    drawn.make([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], painter)
    drawn.colour([0, 1, 2, -1, -2, 3])
    picture = drawn.picture()
    noise, without = (170,) * 3, (221,) * 3
    for point, colour in enumerate((RED, GREEN, BLUE, noise, without, RED)):
        assert seen_as(colour, drawn.at(picture, point)), point
    # Discs of 8 pixels, and nothing else.
    area = np.count_nonzero((picture < 250).any(axis=2)) / 6
    assert 40 <= area <= 70
    # y is upwards, x to the right, and both have one scale.
    (left, low), (right, _), (_, high) = drawn.screen(0), drawn.screen(1), drawn.screen(3)
    assert right > left
    assert high < low
    assert right - left == pytest.approx(low - high)


def test_both_painters_draw_the_same(drawn: Map) -> None:
    x, y = clustered(400)
    pictures = []
    for painter in PAINTERS:
        drawn.make(x, y, painter)
        drawn.colour([i % 5 - 2 for i in range(400)])
        drawn.js("s.setView({ x: [-5, 5], y: [-5, 5] })")
        drawn.mask([i % 7 % 3 for i in range(400)])
        pictures.append(drawn.picture())
        drawn.js("s.destroy()")
    assert (pictures[0] != 255).any()
    # Soft edges differ by fractions of a pixel.
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.5
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 60).mean() < 0.002


@pytest.mark.parametrize("painter", PAINTERS)
def test_very_many_points_are_drawn_whole(drawn: Map, painter: str) -> None:
    n = 200_001  # one more than are drawn softly
    drawn.page.evaluate(MAKE, [painter, [0, 1, 0.5], [0, 1, 0.5]])
    drawn.js(
        """([n, palette]) => {
            const x = new Float32Array(n).fill(0.5), y = new Float32Array(n).fill(0.5);
            x.set([0, 1]), y.set([0, 1]);
            s.setPoints({ x, y });
            s.setColours({ codes: new Int32Array(n).fill(2).fill(0, 0, 1).fill(1, 1, 2), palette });
        }""",
        [n, PALETTE],
    )
    picture = drawn.picture()
    for point, colour in enumerate((RED, GREEN, BLUE)):
        assert seen_as(colour, drawn.at(picture, point), opacity=1)
    assert np.count_nonzero((picture < 250).any(axis=2)) == 3 * 9


@pytest.mark.parametrize("painter", PAINTERS)
def test_a_mask_hides_and_dims(drawn: Map, painter: str) -> None:
    drawn.make([0, 1, 2], [0, 1, 0], painter)
    drawn.colour([0, 0, 0])
    drawn.mask([0, 1, 2])
    picture = drawn.picture()
    assert tuple(drawn.at(picture, 0)) == WHITE
    assert seen_as(RED, drawn.at(picture, 1))
    dimmed = np.array(RED) * 0.16 + 255 * 0.84
    assert seen_as(tuple(dimmed), drawn.at(picture, 2))
    drawn.js("s.setMask(null)")
    picture = drawn.picture()
    assert all(seen_as(RED, drawn.at(picture, point)) for point in range(3))


@pytest.mark.parametrize("painter", PAINTERS)
def test_what_is_in_no_group_lies_below(drawn: Map, painter: str) -> None:
    drawn.make([0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0], painter)
    drawn.colour([1, -1, -2, 0, 2, 1])
    drawn.mask([1, 1, 1, 1, 1, 2])
    picture = drawn.picture()

    def over(colour: tuple, below: np.ndarray) -> np.ndarray:
        return np.array(colour) * 0.85 + below * 0.15

    noise, without = 170 * 0.85 + 255 * 0.15, 221 * 0.85 + 255 * 0.15
    assert np.abs(drawn.at(picture, 0) - over(GREEN, np.full(3, noise))).max() <= 4
    assert np.abs(drawn.at(picture, 2) - over(RED, np.full(3, without))).max() <= 4
    dim = (np.array(GREEN) * 0.16 + 255 * 0.84) * 0.85 + 255 * 0.15
    assert np.abs(drawn.at(picture, 4) - over(BLUE, dim)).max() <= 4


@pytest.mark.parametrize("painter", PAINTERS)
def test_numbers_are_places_on_a_scale(drawn: Map, painter: str) -> None:
    drawn.make([0, 1, 2, 3, 4], [0, 1, 0, 1, 0], painter)
    drawn.js(
        """() => s.setColours({
            values: Float32Array.of(-5, 10, 15, 99, NaN), range: [10, 20],
            scale: ["#dc0000", "#00a000", "#0000ff"], without: "#dddddd",
        })"""
    )
    picture = drawn.picture()
    expected = (RED, RED, GREEN, BLUE, (221,) * 3)
    for point, colour in enumerate(expected):
        assert seen_as(colour, drawn.at(picture, point)), point


@pytest.mark.parametrize("painter", PAINTERS)
def test_on_a_fine_screen_points_are_as_large(browser: Any, painter: str) -> None:
    page = window(browser, viewport={"width": 700, "height": 500}, device_scale_factor=2).new_page()
    drawn = Map(page)
    drawn.make([0, 1, 0.5], [0, 0.5, 0.25], painter)
    drawn.colour([0, 1, 2])
    picture = drawn.picture()
    assert picture.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    for point, colour in enumerate((RED, GREEN, BLUE)):
        assert seen_as(colour, drawn.at(picture, point, ratio=2))
    area = np.count_nonzero((picture < 250).any(axis=2)) / 3 / 4
    assert 45 <= area <= 65
    drawn.close()


def test_rings_lie_around_points(drawn: Map) -> None:
    drawn.make([0, 1], [0, 0])
    drawn.js(
        "s.setRings([{ index: 1, size: 30, width: 3, colour: '#00a000' }, { index: 0, size: 20, width: 2 }])"
    )
    picture = drawn.picture()
    px, py = map(int, drawn.screen(1))
    assert np.abs(picture[py, px + 15] - GREEN).max() < 60
    assert np.abs(picture[py + 15, px] - GREEN).max() < 60
    assert tuple(picture[py, px + 10]) == WHITE
    px, py = map(int, drawn.screen(0))
    assert picture[py, px + 10].max() < 90  # the ink
    drawn.js("s.setRings([])")
    assert tuple(drawn.picture()[py, px + 10]) == WHITE


def test_the_paper_is_what_lies_behind(drawn: Map) -> None:
    drawn.make([0, 1], [0, 0])
    drawn.js("document.body.style.background = 'rgb(20, 30, 40)'")
    drawn.js("s.redraw()")
    assert tuple(drawn.picture()[5, 5]) == (20, 30, 40)


@pytest.mark.parametrize("painter", PAINTERS)
def test_few_points_or_none(drawn: Map, painter: str) -> None:
    drawn.make([], [], painter)
    assert (drawn.picture() == 255).all()
    assert drawn.js(
        "[s.pick(300, 200), s.nearest(-1, [1, 0]), s.inPolygon([[0,0],[1,0],[1,1]]).length]"
    ) == [-1, -1, 0]
    drawn.js("s.setPoints({ x: Float32Array.of(7), y: Float32Array.of(-3) })")
    assert seen_as(BLUE, drawn.at(drawn.picture(), 0))
    assert drawn.screen(0) == (WIDTH / 2, HEIGHT / 2)
    assert drawn.js("[s.pick(300, 200), s.nearest(0, [1, 0])]") == [0, -1]


def test_a_lost_context_comes_back(drawn: Map) -> None:
    drawn.make([0, 1], [0, 0], "webgl")
    drawn.colour([0, 1])
    assert seen_as(RED, drawn.at(drawn.picture(), 0))
    drawn.js(
        """async () => {
            const lose = s.painter.gl.getExtension("WEBGL_lose_context");
            const heard = (name) => new Promise((done) => s.canvas.addEventListener(name, done));
            const lost = heard("webglcontextlost"), restored = heard("webglcontextrestored");
            lose.loseContext();
            await lost;
            s.panBy(1, 0);
            await new Promise((done) => setTimeout(done, 50));
            lose.restoreContext();
            await restored;
        }"""
    )
    picture = drawn.picture()
    assert seen_as(RED, drawn.at(picture, 0))
    assert seen_as(GREEN, drawn.at(picture, 1))


# Of a browser: what its WebGL2 says of itself, or null where it has none.
PRETEND = """(name) => {
    const get = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, options) {
        if (kind !== "webgl2") return get.call(this, kind, options);
        if (name === null) return null;
        const gl = get.call(this, kind, options);
        const parameter = gl.getParameter.bind(gl);
        gl.getParameter = (which) => (which === 0x9246 || which === gl.RENDERER ? name : parameter(which));
        return gl;
    };
}"""


@pytest.mark.parametrize(
    ("renderer", "painter"),
    [
        (None, "RasterPainter"),
        ("ANGLE (Google, Vulkan 1.3.0 (SwiftShader Device (Subzero)))", "RasterPainter"),
        ("llvmpipe (LLVM 15.0.6, 256 bits)", "RasterPainter"),
        ("ANGLE (NVIDIA, NVIDIA GeForce RTX 3060 Direct3D11)", "PointPainter"),
        ("Apple GPU", "PointPainter"),
    ],
)
def test_a_graphics_card_draws_where_there_is_one(
    drawn: Map, renderer: str | None, painter: str
) -> None:
    drawn.page.evaluate(PRETEND, renderer)
    drawn.make([0, 1], [0, 0], "best")
    drawn.colour([0, 1])
    # The first picture does not wait for it.
    assert drawn.js("s.painter.constructor.name") == "RasterPainter"
    assert seen_as(GREEN, drawn.at(drawn.picture(), 1))
    drawn.page.wait_for_function("s.isSettled")
    assert drawn.js("s.painter.constructor.name") == painter
    assert seen_as(GREEN, drawn.at(drawn.picture(), 1))
    drawn.colour([2, 0])
    picture = drawn.picture()
    assert seen_as(BLUE, drawn.at(picture, 0))
    assert seen_as(RED, drawn.at(picture, 1))
    # Canvases of points, and of what lies over them; neither is left behind.
    assert drawn.js("host.querySelectorAll('canvas').length") == 2


# --- what the server sends ----------------------------------------------------------------------


def test_points_and_colours_arrive_as_they_were_sent(
    drawn: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(4)
    x, y = random.normal(size=(2, 500)).astype(np.float32)
    ids = np.cumsum(random.integers(1, 1000, 500)) + 2**40
    points = Points(ids, x, y, ())
    chosen = sample(points, None, 400)
    codes = random.integers(-2, 300, 500).astype(np.int32)
    values = np.where(codes < 0, np.nan, codes / 7)
    names = {code: f"group {code}" for code in range(300)}
    identity = map_columns._identity(points, chosen)
    drawn.bodies = {
        "/columns": (200, map_columns._points_answer(points, chosen)),
        "/colours?by=codes": (200, map_columns._codes_answer(dict(identity), codes, chosen, names)),
        "/colours?by=values": (200, map_columns._numbers_answer(dict(identity), values, chosen)),
        "/colours?by=plain": (200, map_columns._packed({"kind": "plain", **identity}, {})),
    }
    monkeypatch.setattr(map_columns, "EXACT_POINTS", 0)
    drawn.bodies["/columns?limit=400"] = (200, map_columns._points_answer(points, chosen))
    drawn.bodies["/colours?limit=400&by=plain"] = drawn.bodies["/colours?by=plain"]
    told = drawn.js(
        """async () => {
            const { fetchMap, fetchColours } = await import("/static/columns.js");
            const plainly = (found) => JSON.parse(JSON.stringify(found, (_, value) =>
                ArrayBuffer.isView(value) ? Array.from(value, (v) => (v === v ? v : null)) : value));
            const map = await fetchMap("/columns"), coarse = await fetchMap("/columns?limit=400");
            const colours = [];
            for (const key of ["codes", "values", "plain"]) {
                colours.push(plainly(await fetchColours("/colours", key, map)));
            }
            const again = await fetchColours("/colours", "plain", coarse);
            return [plainly(map), plainly(coarse), again.n, ...colours];
        }"""
    )
    exact, coarse, again, by_codes, by_values, plain = told
    for answer in (exact, coarse):
        assert (answer["n"], answer["total"]) == (400, 500)
        assert answer["ids"] == ids[chosen].tolist()
        assert answer["bounds"]["x"] == [x.min(), x.max()]
    assert exact["x"] == x[chosen].tolist()
    assert exact["y"] == y[chosen].tolist()
    assert np.allclose(coarse["x"], x[chosen], atol=np.ptp(x) / 65535)
    assert again == 400
    assert by_codes["codes"] == codes[chosen].tolist()
    items = {entry["name"]: entry["items"] for entry in by_codes["legend"]}
    assert items == {f"group {c}": n for c, n in enumerate(np.bincount(codes[codes >= 0])) if n}
    assert by_values["values"] == [None if np.isnan(v) else np.float32(v) for v in values[chosen]]
    assert by_values["range"] == [0, values[codes >= 0].max()]
    assert plain["codes"] == [0] * 400


def test_what_went_wrong_is_said(drawn: Map) -> None:
    points = Points(np.arange(3), np.zeros(3, np.float32), np.zeros(3, np.float32), ())
    others = map_columns._identity(points, np.array([0, 1]))
    drawn.bodies = {
        "/columns": (400, b"<main><p class='problem'> There is &lt;no&gt; such map. </p></main>"),
        "/colours?by=plain": (200, map_columns._packed({"kind": "plain", **others}, {})),
        "/broken": (500, b"oops"),
    }
    script = """async (call) => {
        const columns = await import("/static/columns.js");
        return Function("c", `return ${call}`)(columns).catch((error) => error.message);
    }"""
    assert drawn.js(script, "c.fetchMap('/columns')") == "There is <no> such map."
    assert drawn.js(script, "c.fetchMap('/broken')") == "The points did not come."
    call = "c.fetchColours('/colours', 'plain', { points: 'others', query: '' })"
    assert "have changed meanwhile" in drawn.js(script, call)
    drawn.said = [line for line in drawn.said if "the server responded with a status" not in line]
