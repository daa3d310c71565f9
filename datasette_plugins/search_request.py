"""What a visitor searches for, as the address of the page says it.

q: words. space: where to search, empty for full text. image: the vector of an image, in hexadecimal.
like, unlike: item ids with commas between. selection, label (`name=value`): only among these. k: how many.
The buttons of the page add to it: plus, minus, drop, more.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from nearsql.datasette_plugins.pages import Problem

K_SHOWN = 60
K_CHOICES = (12, 24, 60, 120, 240)
# A page of more pictures is no longer looked at; the SQL behind it has no such end.
K_MOST = 1920
EXAMPLES_MOST = 100
# In a query's address, 8 letters for each number: longer ones are cut off by servers.
DIMENSIONS_MOST = 4096
TEXT_MOST = 4000


@dataclass(frozen=True, slots=True)
class Asked:
    """One search. space: None where the address does not say, "" for full text."""

    text: str = ""
    space: str | None = None
    image: str = ""
    like: tuple[int, ...] = ()
    unlike: tuple[int, ...] = ()
    selection: str = ""
    label: str = ""
    k: int = K_SHOWN

    @property
    def is_empty(self) -> bool:
        """Whether nothing is searched for yet."""
        return not (self.text or self.image or self.like or self.unlike)

    @property
    def has_examples(self) -> bool:
        """Whether it asks for more than words."""
        return bool(self.image or self.like or self.unlike)

    @property
    def is_filtered(self) -> bool:
        """Whether it is limited to some items."""
        return bool(self.selection or self.label)

    def address(self) -> str:
        """The part of an address after its `?`, without what is empty."""
        fields: dict[str, Any] = {
            "q": self.text,
            "space": self.space,
            "image": self.image,
            "like": ",".join(map(str, self.like)),
            "unlike": ",".join(map(str, self.unlike)),
            "selection": self.selection,
            "label": self.label,
            "k": self.k if self.k != K_SHOWN else "",
        }
        return urlencode({k: v for k, v in fields.items() if v or (k == "space" and v == "")})


def read_request(args: Any) -> Asked:
    """What the arguments of the address ask for. Raises Problem for what makes no sense."""
    text = (args.get("q") or "").strip()
    if len(text) > TEXT_MOST:
        raise Problem(f"A search has at most {TEXT_MOST:,} characters, and this has {len(text):,}.")
    image = args.get("image") or ""
    _check_image(image)
    like = _items("like", args.get("like"), args.get("plus"))
    unlike = _items("unlike", args.get("unlike"), args.get("minus"))
    # What was clicked last counts, and a click on a chip takes its item away.
    if args.get("plus"):
        unlike = [item for item in unlike if item != like[-1]]
    elif args.get("minus"):
        like = [item for item in like if item != unlike[-1]]
    dropped = args.get("drop") or ""
    if dropped == "text":
        text = ""
    elif dropped == "image":
        image = ""
    elif dropped:
        (item,) = _items("drop", dropped, None) or [0]
        like, unlike = ([i for i in items if i != item] for items in (like, unlike))
    return Asked(
        text=text,
        space=args.get("space"),
        image=image,
        like=tuple(like),
        unlike=tuple(unlike),
        selection=args.get("selection") or "",
        label=(args.get("label") or "").strip(),
        k=_k(args.get("more") or args.get("k") or str(K_SHOWN)),
    )


def _k(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= K_MOST:
        raise Problem(
            f"k must be a whole number from 1 to {K_MOST:,}, not {text!r}: the SQL behind a search has"
            " no such end."
        )
    return int(text)


def _items(name: str, listed: str | None, one_more: str | None) -> list[int]:
    """Item ids, each once, in their order."""
    found: dict[int, None] = {}
    for part in f"{listed or ''},{one_more or ''}".replace(" ", ",").split(","):
        if not part:
            continue
        digits = part.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
            raise Problem(
                f"{name} must be item ids with commas between, such as 3,17, not {part!r}."
            )
        found.pop(int(part), None)
        found[int(part)] = None
    if len(found) > EXAMPLES_MOST:
        raise Problem(f"A search starts from at most {EXAMPLES_MOST} items, not {len(found)}.")
    return list(found)


def _check_image(image: str) -> None:
    if not image:
        return
    try:
        size = len(bytes.fromhex(image)) if image.isalnum() else 0
    except ValueError:
        size = 0
    if not size or size % 4 or size > 4 * DIMENSIONS_MOST:
        raise Problem(
            "image must be a vector in hexadecimal, 8 letters for each number, as an uploaded image"
            " gives it."
        )
