"""How the view of a map moves in a real browser, and which point is where.

Which points are where is held against every point looked at one by one.
"""

from typing import Any

import numpy as np
import pytest
from chromium import window
from scatter_page import HEIGHT, MAKE, WIDTH, Map, clustered

pytestmark = pytest.mark.browser


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
    page = window(browser, viewport={"width": 700, "height": 500}, has_touch=True).new_page()
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
    assert sum(0 < count < 5000 for count in counts) > 15
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
