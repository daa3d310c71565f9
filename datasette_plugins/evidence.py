"""What a finding rests on, in words: read from evidence_json as the commands write it.

A file may hold any JSON there. What is missing, or is not of the kind it should be, is not said.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# No evidence names more of anything than this on a page.
MOST = 100
LONGEST = 200

TITLES = {
    "duplicate": "Duplicates",
    "outlier": "Outliers",
    "label_error": "Label errors",
    "leak": "Leaks",
    "cluster_outlier": "Cluster outliers",
    "miss": "Missed objects",
    "false_alarm": "False alarms",
    "lonely_failure": "Failing alone",
    "failure_cluster": "Failing alike",
}


def kind_title(kind: str) -> str:
    """How people call a kind of findings."""
    if kind.startswith("worst_loss:"):
        return f"Largest {kind.partition(':')[2]} loss"
    return TITLES.get(kind, kind)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item that the evidence names, and what it says of it. agrees: None where that is no question."""

    item: int
    note: str
    agrees: bool | None = None


@dataclass(slots=True)
class Evidence:
    """claim: the finding in a sentence; why: what it rests on, a sentence each.

    neighbours_are: what the neighbours are. annotations, predictions: the ids of boxes that it is about.
    detector: the run that saw them. cluster: (run, level, label) of a cluster that it is about.
    """

    claim: str = ""
    why: list[str] = field(default_factory=list)
    neighbours_are: str = ""
    neighbours: list[Neighbour] = field(default_factory=list)
    annotations: list[int] = field(default_factory=list)
    predictions: list[int] = field(default_factory=list)
    detector: int | None = None
    cluster: tuple[int, int, int] | None = None


class _Told:
    """A JSON object, asked for one thing at a time: it, or None."""

    def __init__(self, fields: Any) -> None:
        self._fields = fields if isinstance(fields, dict) else {}

    def number(self, name: str) -> float | None:
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if -1e300 < value < 1e300 else None

    def whole(self, name: str) -> int | None:
        value = self._fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if -(2**63) <= value < 2**63 else None

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is None or isinstance(value, bool | dict | list):
            return None
        return str(value)[:LONGEST] if isinstance(value, str) else number(self.number(name))

    def is_true(self, name: str) -> bool:
        return self._fields.get(name) is True

    def each(self, name: str) -> list["_Told"]:
        value = self._fields.get(name)
        return [_Told(each) for each in value[:MOST]] if isinstance(value, list) else []

    def wholes(self, name: str) -> list[int]:
        value = self._fields.get(name)
        numbers = (
            [_Told({"n": each}).whole("n") for each in value] if isinstance(value, list) else []
        )
        return [each for each in numbers if each is not None][:MOST]

    def inside(self, name: str) -> "_Told":
        return _Told(self._fields.get(name))

    def names(self) -> list[str]:
        return [str(name)[:LONGEST] for name in self._fields][:MOST]


def number(value: float | None) -> str | None:
    """A number as people read it: four digits that count."""
    if value is None:
        return None
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def evidence_of(kind: str, evidence_json: str) -> Evidence:
    """The evidence of a finding, in words."""
    try:
        fields = json.loads(evidence_json)
    except (ValueError, RecursionError):
        fields = None
    told, found = _Told(fields), Evidence()
    found.detector = told.whole("detector_run")
    _SAY.get(kind.partition(":")[0], _anything)(told, found)
    return found


def _say(found: Evidence, sentence: str, *values: Any) -> None:
    """Adds a sentence, unless one of the values that it is made of is not there."""
    if all(value is not None for value in values):
        found.why.append(sentence.format(*values))


def _duplicate(told: _Told, found: Evidence) -> None:
    _closeness(told, found)
    size = told.whole("group_size")
    if size is not None and size > 2:
        found.why.append(f"One of a group of {size:,} that are alike.")


def _leak(told: _Told, found: Evidence) -> None:
    _closeness(told, found)
    what = told.text("label") or "collection"
    values = told.text("value"), told.text("other_value")
    if None not in values:
        found.why.append(f"Across {what}: one is in {values[0]}, the other in {values[1]}.")


def _closeness(told: _Told, found: Evidence) -> None:
    distance = number(told.number("distance"))
    if told.is_true("is_exact"):
        found.claim = "The same bytes twice"
    elif distance is not None:
        found.claim = f"{distance} apart"
        limit, space = number(told.number("threshold")), told.text("space")
        _say(found, "Up to {} counts as a near-duplicate in {}.", limit, space)


def _outlier(told: _Told, found: Evidence) -> None:
    k, distance = told.whole("k"), number(told.number("distance"))
    if k is not None and distance is not None:
        found.claim = f"Neighbour {k:,} is {distance} away"
    _say(
        found,
        "Up to {} is usual in {}; z-score {}.",
        number(told.number("threshold")),
        told.text("space"),
        number(told.number("z_score")),
    )
    found.neighbours_are = "The nearest to it"
    found.neighbours = _neighbours(told, None)


def _label_error(told: _Told, found: Evidence) -> None:
    label, given, suggested = (told.text(name) for name in ("label", "given", "suggested"))
    if given is not None and suggested is not None:
        found.claim = f"{label or 'label'} is {given}, neighbours say {suggested}"
    confidence, k = told.number("confidence"), told.whole("k")
    if confidence is not None and k is not None:
        found.why.append(f"{confidence:.0%} of the votes of its {k:,} nearest are against {given}.")
    usual = told.number("usual_share_of_given")
    if usual is not None:
        found.why.append(f"Of items that are {given}, usually {usual:.0%} of the votes agree.")
    found.neighbours_are = "Who voted"
    found.neighbours = _neighbours(told, given)


def _cluster_outlier(told: _Told, found: Evidence) -> None:
    score, limit = number(told.number("outlier_score")), number(told.number("threshold"))
    run, cluster = told.whole("run"), told.whole("cluster")
    where = "Noise" if cluster is None else f"In cluster {cluster:,}"
    if run is not None:
        found.claim = f"{where} of run {run:,}"
        if cluster is not None and run > 0 and cluster >= 0:
            found.cluster = (run, 1, cluster)
    _say(found, "Its outlier score is {}; up to {} is usual.", score, limit)
    _say(found, "z-score {}.", number(told.number("z_score")))


def _neighbours(told: _Told, given: str | None) -> list[Neighbour]:
    """The neighbours of the evidence, with what they are called or how far they are."""
    found = []
    for each in told.each("neighbors"):
        item, distance, label = each.whole("id"), each.number("distance"), each.text("label")
        if item is not None:
            far = "" if distance is None else f"{distance:.3g}"
            agrees = None if given is None or label is None else label == given
            found.append(Neighbour(item, far if label is None else label, agrees))
    return found


def _worst_loss(told: _Told, found: Evidence) -> None:
    loss, component = number(told.number("loss")), told.text("component")
    if loss is not None and component is not None:
        found.claim = f"{component} loss {loss}"
    _say(
        found,
        "Number {} of {} images; half are below {}.",
        told.text("rank"),
        told.text("of_images"),
        number(told.number("median")),
    )
    _how_many(told, found)


def _how_many(told: _Told, found: Evidence) -> None:
    """How the detector did on the image."""
    objects, alarms = told.whole("objects"), told.whole("false_alarms")
    if objects is not None:
        hits, missed = told.text("found"), told.text("missed")
        _say(found, "{} of {} objects found, {} missed.", hits, f"{objects:,}", missed)
    if alarms is not None:
        found.why.append(f"{alarms:,} false alarm{'' if alarms == 1 else 's'}.")


def _miss(told: _Told, found: Evidence) -> None:
    missed, objects = told.text("missed"), told.text("objects")
    if missed is not None and objects is not None:
        found.claim = f"{missed} of {objects} objects missed"
    kinds: Counter[str] = Counter()
    for each in told.each("misses"):
        name, size, why = (each.text(field) for field in ("class", "size", "why"))
        if name is not None:
            kinds[f"{name}, {size or 'of no size'}: {why or 'nobody knows why'}"] += 1
        if (annotation := each.whole("annotation_id")) is not None:
            found.annotations.append(annotation)
    found.why.extend(_counted(kinds))


def _false_alarm(told: _Told, found: Evidence) -> None:
    alarms = told.whole("false_alarms")
    if alarms is not None:
        found.claim = f"{alarms:,} false alarm{'' if alarms == 1 else 's'}"
    for each in told.each("alarms"):
        name, sure, why = each.text("class"), each.number("confidence"), each.text("why")
        if name is not None and sure is not None:
            annotated = each.text("annotated")
            beside = f" (annotated: {annotated})" if annotated is not None else ""
            found.why.append(f"{name} {sure:.2f}: {why or 'wrong'}{beside}")
        if (prediction := each.whole("prediction_id")) is not None:
            found.predictions.append(prediction)
    if len(found.why) > _LINES:
        left_out = len(found.why) - _LINES
        found.why[_LINES:] = [f"and {left_out} more"]


def _lonely_failure(told: _Told, found: Evidence) -> None:
    metric, value = told.text("metric"), number(told.number("value"))
    expected = number(told.number("expected"))
    if None not in (metric, value, expected):
        found.claim = f"{metric} {value}, where {expected} is expected"
    _say(
        found,
        "Expected is the mean of its {} nearest in {}.",
        told.text("k"),
        told.text("space"),
    )
    _how_many(told, found)
    found.neighbours_are = "Images like it, and how the detector does on them"
    for each in told.each("neighbors"):
        item = each.whole("item_id")
        if item is not None:
            its_own = each.number("value")
            found.neighbours.append(Neighbour(item, "" if its_own is None else f"{its_own:.2f}"))


def _failure_cluster(told: _Told, found: Evidence) -> None:
    images, name = told.text("images"), told.text("name")
    if images is not None:
        found.claim = f"{images} images that fail alike" + (f": {name}" if name else "")
    _say(found, "Predicted there: {}.", told.text("predicted"))
    means, of_all = told.inside("means"), told.inside("means_of_all")
    compared = [
        f"{each} {here} ({everywhere})"
        for each in means.names()
        if (here := number(means.number(each))) is not None
        and (everywhere := number(of_all.number(each))) is not None
    ]
    if compared:
        found.why.append(f"{', '.join(compared)}; in brackets, of all images.")
    run, cluster = told.whole("cluster_run"), told.whole("cluster")
    if run is not None and cluster is not None and run > 0 and cluster >= 0:
        found.cluster = (run, 1, cluster)
    found.neighbours_are = "The images"
    found.neighbours = [Neighbour(item, "") for item in told.wholes("items")]


_LINES = 8


def _counted(kinds: Counter[str]) -> list[str]:
    lines = [f"{n} \N{MULTIPLICATION SIGN} {kind}" for kind, n in kinds.most_common(_LINES)]
    left_out = sum(kinds.values()) - sum(n for _, n in kinds.most_common(_LINES))
    return [*lines, f"and {left_out} more"] if left_out else lines


def _anything(told: _Told, found: Evidence) -> None:
    """A kind that somebody else has written: its plain fields, as they are called."""
    for name in told.names():
        if (value := told.text(name)) is not None:
            found.why.append(f"{name}: {value}")
    del found.why[12:]


_SAY: dict[str, Callable[[_Told, Evidence], None]] = {
    "duplicate": _duplicate,
    "leak": _leak,
    "outlier": _outlier,
    "label_error": _label_error,
    "cluster_outlier": _cluster_outlier,
    "worst_loss": _worst_loss,
    "miss": _miss,
    "false_alarm": _false_alarm,
    "lonely_failure": _lonely_failure,
    "failure_cluster": _failure_cluster,
}
