"""Commands and SQL that people are told to paste."""

import shlex
import sqlite3
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.console import command_line, sentence, sql_text


@given(st.lists(st.text(st.characters(exclude_characters="\0"))))
def test_a_command_line_is_read_as_the_words_it_was_made_of(words: list[str]) -> None:
    assert shlex.split(command_line(*words)) == words


@pytest.mark.parametrize(
    "word", ["my photos.db", "bob's.db", 'say "a"', "$HOME", "`id`", "back\\slash", "a'b\"c", ""]
)
def test_a_shell_reads_it_so_too(word: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", command_line("printf", "%s", word)], capture_output=True, text=True
    )
    assert done.stdout == word


def test_sql_keeps_its_own_quotes_readable() -> None:
    sql = f"select * from knn({sql_text('clip:ViT-B-32')}, 1, 10)"
    assert command_line("nearsql", "sql", "my photos.db", sql) == (
        """nearsql sql "my photos.db" "select * from knn('clip:ViT-B-32', 1, 10)\""""
    )


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_text_is_itself_in_sql(text: str) -> None:
    assert sqlite3.connect(":memory:").execute(f"select {sql_text(text)}").fetchone() == (text,)


def test_sqlites_few_words_become_a_sentence() -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(":memory:").execute("select json_extract('{', '$')").fetchone()
    assert sentence(caught.value).startswith("malformed JSON: a text that was read as JSON is none")
