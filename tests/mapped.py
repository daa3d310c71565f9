"""The map page as the browser tests use it."""

import io
from typing import Any

from chromium import Watched

# Where point n of a map lies in the window.
_PLACE = """([canvas, n]) => {
    const host = document.getElementById(canvas), frame = host.getBoundingClientRect();
    const [x, y] = host.map.scatter.screen(n);
    return [frame.left + x, frame.top + y];
}"""


class MapPage(Watched):
    """A browser page with one map or two."""

    def open(self, url: str, *, names: bool = False) -> None:
        """Opens it, and waits until all points are on the canvas. Names would cover some of them."""
        if not names:
            url += ("&" if "#" in url else "#") + "names=off"
        self.page.goto("about:blank")  # so that another address after # is another visit
        self.page.goto(url)
        self.drawn()

    def drawn(self, key: str | None = None) -> None:
        """Waits until the points are drawn, in the colours of a key if there is one."""
        drawn = "document.getElementById('nearsql-map').dataset.drawn"
        self.page.wait_for_function(drawn if key is None else f"{drawn} === {key!r}")
        self.page.evaluate("document.getElementById('canvas').map.scatter.whenDrawn()")

    def value(self, expression: str, canvas: str = "canvas") -> Any:
        """Of a map, `view`, an expression's value."""
        return self.page.evaluate(
            f"(id) => {{ const view = document.getElementById(id).map; return {expression}; }}",
            canvas,
        )

    def until(self, expression: str, canvas: str = "canvas") -> None:
        """Waits until an expression of a map, `view`, is true."""
        self.page.wait_for_function(
            f"(id) => {{ const view = document.getElementById(id).map; return {expression}; }}",
            arg=canvas,
        )

    def place(self, point: int, canvas: str = "canvas") -> tuple[float, float]:
        """Where a point lies in the window."""
        x, y = self.page.evaluate(_PLACE, [canvas, point])
        return x, y

    def hover(self, point: int, canvas: str = "canvas") -> str:
        """Moves to the point; gives the item of the card."""
        x, y = self.place(point, canvas)
        self.page.mouse.move(x - 1, y - 1)
        self.page.mouse.move(x, y)
        picked = (
            f"view.scatter.pick(...view.scatter.screen({point}))"  # of two in one place, either
        )
        item = str(self.value(f"view.points.ids[{picked}]", canvas))
        self.page.locator(f"#card[data-item='{item}']").wait_for(state="visible")
        return item

    def lasso(self, corners: list[tuple[float, float]], canvas: str = "canvas") -> None:
        """Draws around a part of the map with Shift held, corners in the map's units."""
        frame = self.page.locator(f"#{canvas}").bounding_box()
        drawn = [list(corner) for corner in corners]
        places = self.value(f"{drawn}.map(([x, y]) => view.scatter.toScreen(x, y))", canvas)
        self.page.keyboard.down("Shift")
        x, y = places[0]
        self.page.mouse.move(frame["x"] + x, frame["y"] + y)
        self.page.mouse.down()
        for x, y in [*places[1:], places[0]]:
            self.page.mouse.move(frame["x"] + x, frame["y"] + y, steps=5)
        self.page.mouse.up()
        self.page.keyboard.up("Shift")

    def colours(self) -> set[tuple[int, int, int]]:
        """The distinct colours in the middles of all points, as the screen shows them."""
        from PIL import Image

        box = self.page.locator("#canvas").bounding_box()
        shot = Image.open(io.BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB")
        found = set()
        for point in range(self.value("view.points.n")):
            x, y = self.place(point)
            found.add(shot.getpixel((int(x - box["x"]), int(y - box["y"]))))
        return found
