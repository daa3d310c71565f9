"""A page of its own for the renderer of maps: asked as a page's script asks it, with nothing else."""

from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from chromium import Watched
from PIL import Image

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


def clustered(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places in clumps of different density, some of them the very same."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 6, n)
    centres = random.normal(size=(6, 2)) * 10
    places = (
        centres[kind] + random.normal(size=(n, 2)) * np.array([0, 0.01, 0.1, 1, 2, 5])[kind, None]
    )
    return places[:, 0], places[:, 1]
