"""`nearsql share`: one page that holds a map; what is in it, what is not, and how large it gets."""

import base64
import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery import IMAGES, SCRIPT, TEXTS, Gallery, build

from nearsql.pipeline import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.pipeline.share.contents import point_ids
from nearsql.pipeline.share.make import Shared, share
from nearsql.pipeline.share.modules import bundle
from nearsql.udfs import connection


@pytest.fixture(scope="module")
def texts_too(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The gallery, with a second map: of its texts."""
    gallery = build(tmp_path_factory.mktemp("gallery") / "gallery.db")
    db = connection.connect(gallery.path)
    inputs = [space_input(db, "words/space")]
    with run(db, "project", parameters={"method": "pca"}, inputs=inputs) as made, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
            [(made.id, IMAGES + 1 + i, i, i % 2) for i in range(TEXTS)],
        )
    db.close()
    return gallery


def shared(gallery: Gallery, to: Path, **options: Any) -> Shared:
    db = connection.connect(gallery.path, read_only=True)
    try:
        return share(db, gallery.path, to, quiet=True, **options)
    finally:
        db.close()


def parts_of(page: Path) -> dict[str, bytes]:
    """What a page holds, by the ids of its elements, unpacked."""
    found = re.findall(
        r'<script type="application/octet-stream" id="([\w-]+)">([^<]*)</script>', page.read_text()
    )
    raw = {name: base64.b64decode(text) for name, text in found}
    return {
        name: data if name == "thumbnails" else zlib.decompress(data) for name, data in raw.items()
    }


@pytest.fixture(scope="module")
def images_page(
    texts_too: Gallery, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Shared]:
    to = tmp_path_factory.mktemp("site") / "site.html"
    return to, shared(texts_too, to, run=texts_too.projection, title=f"Ours {SCRIPT}")


def test_what_it_holds(texts_too: Gallery, images_page: tuple[Path, Shared]) -> None:
    to, made = images_page
    assert (made.points, made.all_points, made.thumbnails, made.images) == (IMAGES,) * 4
    assert (made.texts, made.unreadable, made.left_out) == (0, 0, ())
    assert made.bytes == to.stat().st_size
    parts = parts_of(to)
    facts = json.loads(parts["facts"])
    assert [each["key"] for each in facts["colourings"]] == [
        f"cluster:{texts_too.clusters}:1",
        "label:colour",
        f"outlier:{texts_too.clusters}:1",
    ]
    assert sorted(point_ids(parts["points"]).tolist()) == list(range(1, IMAGES + 1))
    # Every thumbnail is the picture of its own item.
    data = parts["thumbnails"]
    (n,) = np.frombuffer(data, "<u4", 1)
    table = np.frombuffer(data, "<u4", 2 * n, 4)
    ends = 4 + 8 * n + np.cumsum(table[n:])
    assert ends[-1] == len(data)
    from io import BytesIO

    from PIL import Image

    for item, end, length in zip(table[:n], ends, table[n:], strict=True):
        picture = Image.open(BytesIO(data[end - length : end])).convert("RGB")
        assert np.argmax(picture.getpixel((5, 5))) == (item - 1) // 30


def test_its_policy_lets_nothing_else_run(images_page: tuple[Path, Shared]) -> None:
    page = images_page[0].read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "blob:"
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    # Nothing of it names another place, but for the namespace of SVG.
    script = re.sub(r'"http://www\.w3\.org/2000/svg"', "", page)
    assert not re.findall(r"(?:https?:)?//[a-z]+\.[a-z]", script)
    assert not re.findall(r"<(?:link|img|iframe|object|embed)\b|\ssrc=|\son\w+=", page)


def test_names_are_inert(images_page: tuple[Path, Shared]) -> None:
    page = images_page[0].read_text()
    assert SCRIPT not in page
    assert "<title>Ours &lt;script&gt;" in page


def test_private_things_stay_at_home(texts_too: Gallery, images_page: tuple[Path, Shared]) -> None:
    everything = images_page[0].read_text() + str(parts_of(images_page[0]))
    assert str(texts_too.path.parent) not in everything
    db = connection.connect(texts_too.path)
    for (sha256,) in db.execute("select sha256 from items").fetchall():
        assert sha256 not in everything
    db.close()


def test_texts(texts_too: Gallery, tmp_path: Path) -> None:
    to = tmp_path / "texts.html"
    made = shared(texts_too, to)  # the newest map
    assert (made.points, made.texts, made.images) == (TEXTS, TEXTS, 0)
    texts = json.loads(parts_of(to)["texts"])
    assert texts[str(IMAGES + 1)] == f"text 0 {SCRIPT}"
    assert SCRIPT not in to.read_text()


def test_as_many_thumbnails_as_fit(
    texts_too: Gallery, images_page: tuple[Path, Shared], tmp_path: Path
) -> None:
    whole = images_page[1].bytes
    made = shared(
        texts_too, tmp_path / "some.html", run=texts_too.projection, most_bytes=whole + 13_000
    )
    assert 5 < made.thumbnails < IMAGES
    assert made.bytes <= whole + 13_000
    facts = json.loads(parts_of(tmp_path / "some.html")["facts"])
    assert facts["thumbnails"]["shown"] == made.thumbnails
    # The exemplars of clusters come first.
    table = np.frombuffer(parts_of(tmp_path / "some.html")["thumbnails"], "<u4", 4, 4)
    assert set(table[:3].tolist()) == {1, 31, 61}
    with pytest.raises(UserError, match=r"--max-bytes 50000 is too few: the page and \d+ points"):
        shared(texts_too, tmp_path / "none.html", most_bytes=50_000)
    assert not (tmp_path / "none.html").exists()


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    gallery = build(tmp_path / "gallery.db")
    gallery.image_file.unlink()
    made = shared(gallery, tmp_path / "site.html")
    assert (made.thumbnails, made.unreadable) == (IMAGES - 1, 1)


def test_many_points_are_sampled(tmp_path: Path) -> None:
    gallery = build(tmp_path / "gallery.db")
    db = connection.connect(gallery.path)
    n = 4000
    with immediate(db):
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'many', ?, ?, ?)",
            [(1000 + i, f"{i:064x}", f"x{i}" * 20, i) for i in range(n)],
        )
        random = np.random.default_rng(0).normal(size=(n, 2)).tolist()
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
            [(gallery.projection, 1000 + i, x, y) for i, (x, y) in enumerate(random)],
        )
    db.close()
    everything = shared(gallery, tmp_path / "all.html")
    assert everything.points == everything.all_points == n + IMAGES
    with pytest.raises(UserError, match="1,000 points alone take") as refused:
        shared(gallery, tmp_path / "none.html", most_bytes=1)
    few = int(str(refused.value).rsplit(" ", 1)[1].replace(",", "")) + 6_000
    made = shared(gallery, tmp_path / "few.html", most_bytes=few)
    assert 500 < made.points < made.all_points == n + IMAGES
    assert made.bytes <= few
    facts = json.loads(parts_of(tmp_path / "few.html")["facts"])
    assert facts["points"] == {"shown": made.points, "all": n + IMAGES}
    ids = set(point_ids(parts_of(tmp_path / "few.html")["points"]).tolist())
    assert len(ids) == made.points
    texts = json.loads(parts_of(tmp_path / "few.html").get("texts", b"{}"))
    assert {int(item) for item in texts} <= ids


# The command ----------------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line by which the command refuses."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["share", *arguments])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("nearsql: ")


def test_the_command(
    texts_too: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "site.html"
    with pytest.raises(SystemExit) as ended:
        cli.main(["share", str(texts_too.path), "--to", str(to), "--max-bytes", "1 MB"])
    assert ended.value.code == 0
    said = capsys.readouterr().err
    assert f"texts       {TEXTS}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["site.html"]
    before = to.read_bytes()
    assert "--replace writes over it" in refusal(capsys, str(texts_too.path), "--to", str(to))
    assert to.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--map", "99"), "run 99 is no map of"),
        (
            ("--max-bytes", "many"),
            "--max-bytes must be a number of bytes, such as 20MB, not 'many'",
        ),
        (("--to", "nowhere/site.html"), "there is no folder nowhere to write site.html into"),
    ],
)
def test_what_it_refuses(
    arguments: tuple[str, ...],
    sentence: str,
    texts_too: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(capsys, str(texts_too.path), "--to", "site.html", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_map(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, str(database), "--to", str(tmp_path / "site.html"))
    assert "has no map yet: `nearsql project" in line


# Modules as one script --------------------------------------------------------------------------------


def test_a_bundle_keeps_the_order_and_the_names() -> None:
    files = {
        "b.js": 'import { c } from "./c.js";\nexport const b = c + 1;\nexport function f() {}\n',
        "c.js": "export const c = 1;\nexport class K {}\nexport async function g() {}\n",
    }
    entry = 'import {\n  b as d,\n  f,\n} from "./b.js";\nimport { K } from "./c.js";\nd;\n'
    script = bundle("page.js", entry, files.__getitem__)
    assert script.index("modules['c.js']") < script.index("modules['b.js']")
    assert script.count("modules['c.js'] = ") == 1
    assert "return { c, K, g };" in script
    assert re.search(r"const \{\s*b: d,\s*f,\s*\} = modules\['b\.js'\];", script)
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ('import x from "./x.js";', "is no import or export that can be put into one script"),
        ("export default 1;", "is no import or export"),
        ('import "./x.js";', "is no import or export"),
        ('const x = "</script>";', "would end the script element"),
        ('import { x } from "./page.js";', "page.js imports page.js: that is a circle"),
    ],
)
def test_what_cannot_be_bundled(source: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        bundle("page.js", source, {"page.js": source}.__getitem__)
