"""Several ES modules as one classic script: a page opened from a folder may not import files.

Only what our own scripts use is understood: named imports of files beside them, and named exports in
front of classes, functions and constants. Anything else is an error, not a script that half works.
"""

import re
from collections.abc import Callable

_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w.-]+)";?[ \t]*$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export\s+(?=(?:async\s+)?(?:class|function\*?|const|let)\s+([A-Za-z_$][\w$]*))", re.MULTILINE
)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def bundle(entry: str, source: str, read: Callable[[str], str]) -> str:
    """The module `entry`, whose text is `source`, with all that it imports, as one script.

    read: gives the text of a file beside it. Each module is a function of its own, in the order in
    which they need each other. They see `fetch` as the variable of that name outside of all of them.
    Raises ValueError for an import or export of another form, or for a circle of imports.
    """
    parts: list[str] = []
    done: set[str] = set()

    def add(name: str, text: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"{' imports '.join((*above, name))}: that is a circle")
        for match in _IMPORT.finditer(text):
            needed = match[2]
            if needed not in done:
                add(needed, read(needed), (*above, name))
        parts.append(_as_function(name, text))
        done.add(name)

    add(entry, source, ())
    return "".join(("const modules = {};\n", *parts))


def _as_function(name: str, text: str) -> str:
    exported = [match[1] for match in _EXPORT.finditer(text)]
    body = _IMPORT.sub(lambda m: f"const {{{_renamed(m[1])}}} = modules[{m[2]!r}];", text)
    body = _EXPORT.sub("", body)
    if left := _LEFT.search(body):
        raise ValueError(
            f"{name}: {left[0]!r} is no import or export that can be put into one script"
        )
    if "</script" in body.lower():
        raise ValueError(f"{name} would end the script element that it is put into")
    return f"modules[{name!r}] = (() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})();\n"


def _renamed(names: str) -> str:
    return re.sub(r"\s+as\s+", ": ", names)
