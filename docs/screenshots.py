"""Makes the pictures of docs/browser.md anew, from the demo's digits: `python -m docs.screenshots`.

Needs Chromium, and the digits that scikit-learn brings. Takes about a minute.
"""

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from nearsql.pipeline.select import select
from nearsql.udfs import connection

IMAGES = Path(__file__).parent / "images"
WINDOW = {"width": 1280, "height": 800}
PORT = 8765
NEARSQL = (sys.executable, "-c", "from nearsql.pipeline.cli import main; main()")


def pages(path: Path) -> list[tuple[str, str, str]]:
    """(name of the picture, address below the database's pages, light or dark)."""
    with closing(connection.connect(path)) as db:
        select(db, "threes", sql="select item_id from item_labels where value = '3'")
        select(
            db,
            "first hundred",
            sql="select id from items order by id limit 100",
            note="to begin with",
        )
        runs = dict(db.execute("select kind, max(id) from runs group by kind"))
    return [
        ("map", "/map#item=42", "light"),
        ("clusters", f"/clusters/{runs['cluster']}", "light"),
        ("evaluation", f"/evaluations/{runs['evaluate']}", "light"),
        ("findings", f"/findings/{runs['find']}?kind=label_error", "dark"),
        ("selections", "/selections", "dark"),
    ]


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """The link by which `nearsql serve` lets its user write."""
    process = subprocess.Popen(
        [*NEARSQL, "serve", str(path), "--port", str(PORT), "--no-open"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline() + process.stderr.readline()
    try:
        yield re.findall(r"open (http\S+) once", said)[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def main() -> None:
    """Builds the demo, opens its pages and writes the pictures."""
    from playwright.sync_api import sync_playwright

    from tests.chromium import ARGUMENTS

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.db"
        subprocess.run([*NEARSQL, "demo", str(path)], check=True)
        wanted = pages(path)
        with serving(path) as link, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
            context = browser.new_context(viewport=WINDOW)
            enter(context, link)
            root = re.sub(r"/-/nearsql-enter.*", "/-/nearsql/digits", link)
            for name, address, scheme in wanted:
                page = context.new_page()
                page.emulate_media(color_scheme=scheme)
                page.goto(root + address)
                page.wait_for_timeout(5000)
                page.screenshot(path=IMAGES / f"browser_{name}_{scheme}.png")
                page.close()
            browser.close()


def enter(context: Any, link: str) -> None:
    """Follows the link once the server answers."""
    for _ in range(300):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            break
        time.sleep(0.1)
    page = context.new_page()
    page.goto(link)
    page.close()


def chromium() -> str | None:
    """The system's own browser, where there is one."""
    import shutil

    return shutil.which("chromium") or shutil.which("chromium-browser")


if __name__ == "__main__":
    main()
