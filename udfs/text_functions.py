"""SQL functions that give a text its place in a space.

The models that can do so are no part of this room: whoever has some offers them under the entry point
group `nearsql.text_encoders`, and they are imported when the first text is embedded.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

import apsw

from nearsql.udfs.arguments import shown
from nearsql.udfs.arguments import text as checked_text
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.spaces import find_space

GROUP = "nearsql.text_encoders"

# An entry point: (connection, space's name, text) -> the vector as float32 bytes, or None when the
# space's model is none of its own. Raises SqlFunctionError.
TextEncoder = Callable[[apsw.Connection, str, str], bytes | None]


@sql_function(
    example=(
        "select i.content, round(n.distance, 3) as distance\n"
        "from knn('proverbs/tfidf', embed_text('proverbs/tfidf', 'the early worm'), 3) n\n"
        "join items i on i.id = n.id\norder by n.rank"
    )
)
def embed_text(db: apsw.Connection, space: str, text: str | None) -> bytes | None:
    """The vector of a text in a space, by the space's own model: what `knn` can then search near.

    For spaces of CLIP (`clip:...`), where a text finds images, of tf-idf, and of text models (`text:...`,
    `llm:...`), which take it as a query where they tell queries from texts. The model is loaded once a
    process, from the checkpoint that the space was made with: nothing is ever fetched. CLIP needs
    `pip install 'nearsql[vision]'`, and reads the first 77 tokens of a text, most words being one; `text:`
    needs `nearsql[text]`. A model of `llm:` is asked only where the environment says so, by
    NEARSQL_LLM_IN_SQL=1: the text is sent to whoever runs it.

    NULL gives NULL. Refuses a space whose model has no place for texts, and a text without any word.
    """
    found = find_space(db, space)
    if text is None:
        return None
    if not checked_text("text", text).strip():
        raise SqlFunctionError("text must have a word in it, and is all spaces")
    for encoder in _text_encoders():
        vector = encoder(db, found.name, text)
        if vector is None:
            continue
        if len(vector) != 4 * found.dimensions:
            raise SqlFunctionError(
                f"the model of the space {shown(space)} gives a text {len(vector) // 4} dimensions, and"
                f" the space has {found.dimensions}"
            )
        return vector
    raise SqlFunctionError(
        f"the model of the space {shown(space)} has no place for texts: embed_text is for spaces of"
        " clip, tfidf, text and llm"
    )


@cache
def _text_encoders() -> tuple[TextEncoder, ...]:
    """What the installed distributions offer, by name. Raises SqlFunctionError when none does."""
    offered = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not offered:
        raise SqlFunctionError(
            f"no text encoder is installed (entry point group {GROUP}): pip install nearsql"
        )
    return tuple(entry.load() for entry in offered)
