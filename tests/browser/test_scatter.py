"""The renderer of maps in a real browser: what it draws, where points are, and how the view moves.

It is asked as a page's script asks it, on a page that has nothing else. Which points are where is held
against every point looked at one by one. Both painters must draw the same.
"""

from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from chromium import Watched, chromium
from PIL import Image

pytestmark = pytest.mark.browser

STATIC = files("nearsql.datasette_plugins.static")
ORIGIN = "http://127.0.0.1:9"
WIDTH, HEIGHT = 600, 400
PAGE = f"""<!doctype html><meta charset="utf-8"><style>
html {{ --ink: #101010; --paper: #ffffff; --noise: #aaaaaa; --without: #dddddd; --c0: #0000ff; }}
body {{ margin: 0; background: #ffffff; }}
#host {{ width: {WIDTH}px; height: {HEIGHT}px; }}
</style><div id="host"></div>"""
RED, GREEN, BLUE = (220, 0, 0), (0, 160, 0), (0, 0, 255)
WHITE = (255, 255, 255)
PALETTE = ["#dc0000", "#00a000", "#0000ff"]
PAINTERS = ("webgl", "raster")

MAKE = """async ([painter, x, y]) => {
    const { Scatter } = await import("/static/scatter.js");
    window.told = [];
    window.s = new Scatter(document.getElementById("host"), {
        onHover: (i) => told.push(["hover", i]),
        onClick: (i) => told.push(["click", i]),
        onLasso: (found, polygon) => told.push(["lasso", [...found], polygon]),
        onView: (view) => { window.seen = view; },
    }, painter);
    s.setPoints({ x: Float32Array.from(x), y: Float32Array.from(y) });
}"""


class Map(Watched):
    """A page with a map of its own."""

    def __init__(self, page: Any) -> None:
        super().__init__(page)
        page.route(f"{ORIGIN}/**", self._answer)
        self.bodies: dict[str, tuple[int, bytes]] = {}
        self.x = self.y = np.zeros(0)
        page.goto(ORIGIN)

    def _answer(self, route: Any) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path in self.bodies:
            status, body = self.bodies[path]
            route.fulfill(status=status, body=body)
        elif path.startswith("/static/"):
            text = STATIC.joinpath(path.removeprefix("/static/")).read_text("utf-8")
            route.fulfill(body=text, content_type="text/javascript")
        else:
            route.fulfill(body=PAGE, content_type="text/html")

    def make(self, x: Any, y: Any, painter: str = "raster") -> None:
        """A map of these places; they are kept as the browser has them, as float32."""
        self.x = np.asarray(x, np.float32).astype(float)
        self.y = np.asarray(y, np.float32).astype(float)
        self.page.evaluate(MAKE, [painter, self.x.tolist(), self.y.tolist()])

    def js(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def colour(self, codes: list[int]) -> None:
        script = "([codes, palette]) => s.setColours({ codes: Int32Array.from(codes), palette })"
        self.js(script, [codes, PALETTE])

    def mask(self, mask: Any) -> None:
        self.js("(mask) => s.setMask(Uint8Array.from(mask))", np.asarray(mask).tolist())

    def picture(self) -> np.ndarray:
        """What the screen shows of the map: (height, width, 3), each from 0 to 255."""
        self.js("s.whenDrawn()")
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shot = self.page.locator("#host").screenshot()
        return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(int)

    def screen(self, point: int) -> tuple[float, float]:
        px, py = self.js("(i) => s.screen(i)", point)
        return px, py

    def at(self, picture: np.ndarray, point: int, ratio: int = 1) -> np.ndarray:
        px, py = self.screen(point)
        return picture[int(py * ratio), int(px * ratio)]

    def told(self, kind: str) -> list[Any]:
        return [event[1:] for event in self.js("told") if event[0] == kind]


def seen_as(colour: tuple[int, int, int], seen: np.ndarray, opacity: float = 0.85) -> bool:
    """Whether this is the colour, drawn with an opacity on white."""
    mixed = np.array(colour) * opacity + 255 * (1 - opacity)
    return bool(np.abs(seen - mixed).max() <= 4)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    opened = browser.new_context(viewport={"width": 700, "height": 500})
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


@pytest.fixture
def drawn(context: Any) -> Iterator[Map]:
    page = Map(context.new_page())
    yield page
    page.close()


def clustered(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places in clumps of different density, some of them the very same."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 6, n)
    centres = random.normal(size=(6, 2)) * 10
    places = (
        centres[kind] + random.normal(size=(n, 2)) * np.array([0, 0.01, 0.1, 1, 2, 5])[kind, None]
    )
    return places[:, 0], places[:, 1]


# --- what is drawn ------------------------------------------------------------------------------


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
    page = browser.new_page(viewport={"width": 700, "height": 500}, device_scale_factor=2)
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
    assert drawn.js("s.painter.constructor.name") == painter
    drawn.colour([0, 1])
    assert seen_as(GREEN, drawn.at(drawn.picture(), 1))


# --- the view -----------------------------------------------------------------------------------


def test_everything_is_in_the_view_and_stays_there(drawn: Map) -> None:
    x, y = clustered(1000)
    drawn.make(x, y)

    def all_inside(width: int, height: int) -> None:
        places = np.array(drawn.js("Array.from(s.x, (_, i) => s.screen(i))"))
        assert places.min() > 0
        assert (places < [width, height]).all()
        span = np.ptp(places, axis=0) / [width, height]
        assert span.max() == pytest.approx(0.92)

    all_inside(WIDTH, HEIGHT)
    drawn.js("document.getElementById('host').style.width = '200px'")
    drawn.page.wait_for_function("s.canvas.width === 200")
    all_inside(200, HEIGHT)
    # A view of somebody's choice is kept when the size changes.
    drawn.js("s.setView({ x: [0, 2], y: [0, 1] })")
    drawn.js("document.getElementById('host').style.width = '300px'")
    drawn.page.wait_for_function("s.canvas.width === 300")
    view = drawn.js("s.view()")
    assert (sum(view["x"]) / 2, sum(view["y"]) / 2) == (1, 0.5)


def test_the_view_is_what_was_set(drawn: Map) -> None:
    drawn.make(*clustered(100))
    drawn.js("s.setView({ x: [1, 4], y: [2, 4] })")  # the frame's own shape
    view = drawn.js("s.view()")
    assert np.allclose([view["x"], view["y"]], [[1, 4], [2, 4]])
    assert drawn.js("seen") == view
    assert drawn.js("s.toData(0, 0)") == pytest.approx([1, 4])
    assert drawn.js("s.toScreen(4, 2)") == pytest.approx([WIDTH, HEIGHT])
    # Bounds that hold more than the points.
    drawn.js("s.setBounds({ x: [-100, 100], y: [-1, 1] })")
    assert drawn.js("s.view()") == view
    drawn.js("s.fit()")
    assert drawn.js("s.view().x") == pytest.approx([-100 / 0.92, 100 / 0.92])


def test_dragging_pans_and_the_wheel_zooms_at_the_pointer(drawn: Map) -> None:
    drawn.make(*clustered(500))
    drawn.js("s.whenDrawn()")
    mouse = drawn.page.mouse
    before = drawn.screen(0)
    mouse.move(100, 100)
    mouse.down()
    mouse.move(120, 130, steps=4)
    mouse.move(150, 90, steps=3)
    mouse.up()
    after = drawn.screen(0)
    assert (after[0] - before[0], after[1] - before[1]) == pytest.approx((50, -10))
    assert drawn.told("click") == []
    place = drawn.js("s.toData(200, 150)")
    scale = drawn.js("s.seen.scale")
    mouse.move(200, 150)
    mouse.wheel(0, -200)
    drawn.page.wait_for_function(f"s.seen.scale > {scale * 1.2}")
    assert drawn.js("s.toData(200, 150)") == pytest.approx(place)
    mouse.wheel(0, 5000)
    drawn.page.wait_for_function(f"s.seen.scale < {scale * 1.2}")
    assert drawn.js("s.toData(200, 150)") == pytest.approx(place)
    mouse.dblclick(30, 30)
    assert drawn.js("s.fitted")
    assert drawn.js("s.seen.scale") == pytest.approx(scale)


def test_zoom_has_ends(drawn: Map) -> None:
    drawn.make(*clustered(100))
    whole = drawn.js("s.seen.scale")
    drawn.js("s.zoomBy(1e12)")
    assert drawn.js("s.seen.scale") == pytest.approx(whole * 50_000)
    drawn.js("s.zoomBy(1e-12)")
    assert drawn.js("s.seen.scale") == pytest.approx(whole / 4)


def test_two_fingers_pinch_and_one_taps(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 700, "height": 500}, has_touch=True)
    drawn = Map(page)
    drawn.make([0, 1, 2], [0, 1, 0])
    drawn.js("s.whenDrawn()")
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[int, int]) -> None:
        points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = drawn.js("[s.seen.scale, s.toData(300, 200)]")
    touch("touchStart", (250, 200))
    touch("touchStart", (250, 200), (350, 200))
    touch("touchMove", (200, 200), (400, 200))
    touch("touchMove", (150, 220), (450, 220))
    touch("touchEnd")
    scale, _ = before
    assert drawn.js("s.seen.scale") == pytest.approx(3 * scale, rel=0.02)
    assert drawn.js("(p) => s.toScreen(...p)", before[1]) == pytest.approx([300, 220], abs=2)
    assert drawn.told("click") == []
    drawn.js("s.fit()")
    px, py = drawn.screen(1)
    page.touchscreen.tap(px + 18, py)  # a finger is not exact
    drawn.page.wait_for_function("told.some(([kind]) => kind === 'click')")
    assert drawn.told("click") == [[1]]
    drawn.close()


def test_while_the_view_moves_a_part_is_drawn_and_then_all(drawn: Map) -> None:
    drawn.js(MAKE, ["raster", [], []])
    drawn.js(
        """() => {
            const x = Float32Array.from({ length: 100000 }, (_, i) => (i * 0.618) % 1);
            s.setPoints({ x, y: x.map((v, i) => i / 100000) });
            return s.whenDrawn();
        }"""
    )
    drawn.js(
        """() => {
            window.shares = [];
            const draw = s.painter.draw.bind(s.painter);
            s.painter.draw = (frame) => { shares.push(frame.share); draw(frame); };
            s.share = 0.001; // as if a frame had taken a second
            s.panBy(5, 5);
        }"""
    )
    drawn.page.wait_for_function("shares.length > 0")
    drawn.page.wait_for_function("shares.at(-1) === 1")
    shares = drawn.js("shares")
    assert shares[0] == 0.3  # never fewer than 30,000 points
    # A frame that was quick allows more in the next.
    assert drawn.js("s.share") > 0


# --- which point --------------------------------------------------------------------------------


def nearest(away: np.ndarray, radius: float) -> set[int]:
    """The points at the least of these distances, if that is within the radius; else -1."""
    least = away.min()
    return set(np.flatnonzero(away <= least + 1e-6).tolist()) if least <= radius else {-1}


def test_the_pointer_finds_the_nearest_point(drawn: Map) -> None:
    n, radius = 3000, 12
    drawn.make(*clustered(n))
    random = np.random.default_rng(1)
    mask = random.integers(0, 3, n)
    for view, masked in (("s.fit()", False), ("s.setView({x:[-3,3],y:[-3,3]})", True)):
        drawn.js(view)
        if masked:
            drawn.mask(mask)
        screen = np.array(drawn.js("Array.from(s.x, (_, i) => s.screen(i))"))
        anywhere = random.uniform(-20, [WIDTH + 20, HEIGHT + 20], (60, 2))
        beside = screen[random.integers(0, n, 60)] + random.normal(size=(60, 2)) * 4
        asked = np.vstack([anywhere, beside])
        found = drawn.js("(places) => places.map((place) => s.pick(...place))", asked.tolist())
        for place, point in zip(asked, found, strict=True):
            away = np.hypot(*(screen - place).T)
            shown = np.where(mask == 1, away, np.inf) if masked else away
            expected = nearest(shown, radius)
            if expected == {-1} and masked:  # a dimmed one, where there is no other
                expected = nearest(np.where(mask == 2, away, np.inf), radius)
            assert point in expected
        assert sum(point >= 0 for point in found) > 20


def test_the_keyboard_finds_the_next_point(drawn: Map) -> None:
    drawn.make(*clustered(1500))
    mask = np.random.default_rng(2).integers(0, 3, 1500)
    drawn.mask(mask)
    least = drawn.js("s.pointSize / 2 / s.seen.scale")
    middle = drawn.js("s.toData(300, 200)")
    away = np.hypot(drawn.x - middle[0], drawn.y - middle[1])
    assert drawn.js("s.nearest(-1, [1, 0])") in nearest(np.where(mask == 1, away, np.inf), np.inf)
    directions = ((1, 0), (-1, 0), (0, 1), (0, -1))
    asked = [(point, way) for point in range(0, 1500, 60) for way in directions]
    found = drawn.js("(asked) => asked.map(([i, way]) => s.nearest(i, way))", asked)
    for (point, way), next_one in zip(asked, found, strict=True):
        dx, dy = drawn.x - drawn.x[point], drawn.y - drawn.y[point]
        ahead = dx * way[0] + dy * way[1]
        aside = np.abs(dx * way[1]) + np.abs(dy * way[0])
        away = np.where((mask == 1) & (ahead > least) & (aside <= ahead), dx**2 + dy**2, np.inf)
        if np.isinf(away.min()):
            assert next_one == -1
        else:
            assert away[next_one] == pytest.approx(away.min(), rel=1e-9)
    assert sum(next_one >= 0 for next_one in found) > 50


def inside(drawn: Map, polygon: np.ndarray) -> np.ndarray:
    """Which points are in the polygon, by the even-odd rule; every point looked at."""
    found = np.zeros(len(drawn.x), bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = ((y1 > drawn.y) != (y2 > drawn.y)) & (
                drawn.x < (x2 - x1) * (drawn.y - y1) / (y2 - y1) + x1
            )
        found ^= crosses
    return found


def test_a_polygon_holds_what_is_inside(drawn: Map) -> None:
    drawn.make(*clustered(5000))
    random = np.random.default_rng(3)
    polygons = [
        np.array([[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]]),  # around everything
        np.array([[1e6, 1e6], [2e6, 1e6], [1e6, 2e6]]),  # beside everything
        np.array([[-5, -5], [5, 5], [5, -5], [-5, 5]]),  # crosses itself
        np.array([[0, -50], [0, 50], [1e-9, 0]]),  # next to nothing
    ]
    for corners in (3, 4, 7, 12, 200):
        for reach in (0.5, 5, 30):
            angles = np.sort(random.uniform(0, 2 * np.pi, corners))
            star = np.column_stack([np.cos(angles), np.sin(angles)])
            polygons.append(star * random.uniform(0.2, reach, (corners, 1)) + random.normal(size=2))
            polygons.append(random.normal(size=(corners, 2)) * reach)
    counts = []
    script = "(polygons) => polygons.map((polygon) => [...s.inPolygon(polygon)])"
    answers = drawn.js(script, [polygon.tolist() for polygon in polygons])
    for polygon, found in zip(polygons, answers, strict=True):
        assert found == np.flatnonzero(inside(drawn, polygon)).tolist()
        counts.append(len(found))
    assert counts[0] == 5000
    assert counts[1] == 0
    assert sum(0 < count < 5000 for count in counts) > 20
    mask = random.integers(0, 3, 5000)
    drawn.mask(mask)
    found = drawn.js("(polygon) => [...s.inPolygon(polygon)]", polygons[2].tolist())
    assert found == np.flatnonzero(inside(drawn, polygons[2]) & (mask == 1)).tolist()


@pytest.mark.parametrize("how", ["button", "shift"])
def test_the_lasso_tells_what_is_inside(drawn: Map, how: str) -> None:
    drawn.make(*clustered(2000))
    drawn.js("s.whenDrawn()")
    before = drawn.js("s.view()")
    if how == "button":
        drawn.js("s.mode = 'lasso'")
    else:
        drawn.page.keyboard.down("Shift")
    mouse = drawn.page.mouse
    mouse.move(150, 100)
    mouse.down()
    for corner in ((450, 90), (460, 320), (300, 200), (140, 300)):
        mouse.move(*corner, steps=8)
    assert (drawn.picture() != 255).any()
    mouse.up()
    drawn.page.keyboard.up("Shift")
    ((found, polygon),) = drawn.told("lasso")
    assert len(polygon) > 20
    assert found == np.flatnonzero(inside(drawn, np.array(polygon))).tolist()
    assert 0 < len(found) < 2000
    assert drawn.js("s.view()") == before
    # One that is given up tells nothing.
    drawn.js("s.mode = 'lasso'")
    mouse.move(150, 100)
    mouse.down()
    mouse.move(450, 90, steps=5)
    mouse.move(450, 300, steps=5)
    assert drawn.js("s.cancelLasso()")
    mouse.up()
    assert len(drawn.told("lasso")) == 1
    assert not drawn.js("s.cancelLasso()")


def test_hover_and_click_tell_the_point(drawn: Map) -> None:
    drawn.make([0, 1, 2], [0, 1, 0])
    drawn.js("s.whenDrawn()")
    mouse = drawn.page.mouse
    for point in (1, 2):
        px, py = drawn.screen(point)
        mouse.move(px + 5, py - 5)
        drawn.page.wait_for_function(f"told.at(-1)?.[1] === {point}")
        mouse.move(px + 2, py)  # still the same one: nothing more to tell
        mouse.down()
        mouse.move(px + 4, py)  # a shaking hand
        mouse.up()
        mouse.move(px + 60, py + 60)
        drawn.page.wait_for_function("told.at(-1)[0] === 'hover' && told.at(-1)[1] === -1")
    mouse.click(5, 5)  # nothing there
    assert drawn.js("told") == [
        ["hover", 1], ["click", 1], ["hover", -1], ["hover", 2], ["click", 2], ["hover", -1],
    ]  # fmt: skip


def test_what_was_taken_away_is_gone(drawn: Map) -> None:
    drawn.make(*clustered(100))
    drawn.js("s.panBy(1, 1)")
    drawn.js("s.destroy()")
    assert drawn.js("document.querySelectorAll('canvas').length") == 0
    drawn.js("document.getElementById('host').style.width = '300px'")
    drawn.page.wait_for_timeout(300)
    drawn.make(*clustered(50))
    assert (drawn.picture() != 255).any()
