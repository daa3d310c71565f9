"""The picture of where the items of each cluster went: those of one run on the left, of another on the right."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nearsql.datasette_plugins.pages import Row

# In the units of the SVG. The bars stand between the names of both sides.
WIDTH, BAR, NAMES = 1000, 14, 210
SCALE = 380  # of all items, without the gaps
GAP = 6
LEAST = 1.5  # height of the smallest bar and ribbon

SHOWN = 24  # clusters of either side; what is left is one bar of others
COLOURS = 20
RIBBONS = 150  # the largest are drawn; what is left could not be seen

NOISE, OTHERS = -1, -2
Side = dict[int, str]


@dataclass(frozen=True, slots=True)
class Bar:
    """A cluster, the noise or the other clusters of one side; colour None is grey."""

    label: int
    name: str
    n: int
    x: float
    y: float
    height: float
    colour: int | None


@dataclass(frozen=True, slots=True)
class Ribbon:
    """The items that are in one bar and in the other. from_label and to_label are those of the bars.

    Its colour is that of the cluster that they come from; what went to the noise is grey.
    """

    from_label: int
    to_label: int
    n: int
    path: str
    colour: int | None
    words: str

    @property
    def is_pair(self) -> bool:
        """Whether it is of two clusters, or of noise, and not of several others together."""
        return OTHERS not in (self.from_label, self.to_label)


@dataclass(frozen=True, slots=True)
class Flows:
    """The whole picture; WIDTH wide."""

    left: Sequence[Bar]
    right: Sequence[Bar]
    ribbons: Sequence[Ribbon]
    height: float
    width: int = WIDTH
    bar: int = BAR


def flows(rows: Sequence[Row], names_a: Side, names_b: Side) -> Flows | None:
    """Lays out the rows of `diff_clusters_flows.sql`; None where there is no item.

    names: of the clusters that have one, by label. On the left the largest cluster is on top; on the
    right each stands near where its items come from.
    """
    pairs: Counter[tuple[int, int]] = Counter()
    of_a, of_b = _kept(rows, "cluster_a"), _kept(rows, "cluster_b")
    for row in rows:
        pairs[_label(row["cluster_a"], of_a), _label(row["cluster_b"], of_b)] += row["items"]
    total = pairs.total()
    if not total:
        return None
    sizes_a, sizes_b = _sizes(pairs, 0), _sizes(pairs, 1)
    order_a = sorted(sizes_a, key=lambda label: (*_last(label), -sizes_a[label], label))
    places = {label: place for place, label in enumerate(order_a)}
    order_b = sorted(
        sizes_b, key=lambda label: (*_last(label), _origin(pairs, places, label), label)
    )
    scale = SCALE / total
    of_a_colour = {label: label % COLOURS for label in order_a if label >= 0}
    of_b_colour = {
        label: _inherited(pairs, sizes_b[label], label) for label in order_b if label >= 0
    }
    left = _bars(order_a, sizes_a, names_a, of_a_colour, NAMES, scale)
    right = _bars(order_b, sizes_b, names_b, of_b_colour, WIDTH - NAMES - BAR, scale)
    height = max(side[-1].y + side[-1].height for side in (left, right)) + 2
    return Flows(left, right, _ribbons(pairs, left, right), height)


def _kept(rows: Iterable[Row], column: str) -> set[int]:
    """The labels of the largest clusters of a side."""
    sizes: Counter[int] = Counter()
    for row in rows:
        if row[column] is not None:
            sizes[row[column]] += row["items"]
    some = sizes.most_common(SHOWN if len(sizes) <= SHOWN else SHOWN - 1)
    return {label for label, _ in some}


def _label(label: int | None, kept: set[int]) -> int:
    return NOISE if label is None else label if label in kept else OTHERS


def _last(label: int) -> tuple[bool, bool]:
    """Sorts the others behind the clusters, and the noise behind these."""
    return label == NOISE, label == OTHERS


def _sizes(pairs: Mapping[tuple[int, int], int], side: int) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for pair, n in pairs.items():
        sizes[pair[side]] += n
    return sizes


def _origin(pairs: Mapping[tuple[int, int], int], places: Mapping[int, int], label: int) -> float:
    """The mean place of the items of a cluster on the left; its noise draws no cluster down."""
    found = [(places[a], n) for (a, b), n in pairs.items() if b == label and a != NOISE]
    return sum(place * n for place, n in found) / sum(n for _, n in found) if found else len(places)


def _inherited(pairs: Mapping[tuple[int, int], int], size: int, label: int) -> int | None:
    """The colour of the cluster that at least half of the items come from; None where there is none."""
    for (a, b), n in pairs.items():
        if b == label and a >= 0 and 2 * n >= size:
            return a % COLOURS
    return None


def _bars(
    order: Iterable[int],
    sizes: Mapping[int, int],
    names: Side,
    colours: Mapping[int, int | None],
    x: float,
    scale: float,
) -> list[Bar]:
    bars, y = [], 1.0
    for label in order:
        height = max(LEAST, sizes[label] * scale)
        words = {NOISE: "noise", OTHERS: "other clusters"}
        name = words.get(label) or names.get(label) or f"cluster {label}"
        bars.append(Bar(label, name, sizes[label], x, y, height, colours.get(label)))
        # Names of small bars need their line.
        y += max(height + GAP, 17)
    return bars


def _ribbons(
    pairs: Mapping[tuple[int, int], int], left: Sequence[Bar], right: Sequence[Bar]
) -> list[Ribbon]:
    """One for each pair, from bar to bar, in the order of the bars, so that few cross."""
    of_a, of_b = {bar.label: bar for bar in left}, {bar.label: bar for bar in right}
    rank = {bar.label: place for place, bar in enumerate(right)}
    top_a, top_b = dict.fromkeys(of_a, 0.0), dict.fromkeys(of_b, 0.0)
    first = {bar.label: place for place, bar in enumerate(left)}
    drawn = {pair for pair, _ in Counter(pairs).most_common(RIBBONS)}
    ribbons = []
    for a, b in sorted(pairs, key=lambda pair: (first[pair[0]], rank[pair[1]])):
        n, one, other = pairs[a, b], of_a[a], of_b[b]
        high_a, high_b = one.height * n / one.n, other.height * n / other.n
        y, to_y = one.y + top_a[a], other.y + top_b[b]
        top_a[a] += high_a
        top_b[b] += high_b
        if (a, b) not in drawn:
            continue
        words = f"{one.name} → {other.name}: {n:,} item{'' if n == 1 else 's'}"
        colour = None if b == NOISE else one.colour
        path = _ribbon(one.x + BAR, y, high_a, other.x, to_y, high_b)
        ribbons.append(Ribbon(a, b, n, path, colour, words))
    return ribbons


def _ribbon(x: float, y: float, high: float, to_x: float, to_y: float, to_high: float) -> str:
    middle = (x + to_x) / 2
    return (
        f"M{x:g} {y:.2f}C{middle:g} {y:.2f} {middle:g} {to_y:.2f} {to_x:g} {to_y:.2f}"
        f"V{to_y + to_high:.2f}C{middle:g} {to_y + to_high:.2f} {middle:g} {y + high:.2f}"
        f" {x:g} {y + high:.2f}Z"
    )
