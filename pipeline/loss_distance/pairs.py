"""Which targets each image is held against: all, a shortlist of its neighbours, or a few landmarks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.console import UserError
from nearsql.pipeline.row_hash import RowHash
from nearsql.udfs import dbapi

Kind = Literal["all", "candidates", "landmarks"]
KINDS: tuple[Kind, ...] = ("all", "candidates", "landmarks")

DEFAULT_K = 32

_GRAPH = "select id, neighbor_id from knn_graph(?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Choice:
    """How pairs are chosen. space, k: of candidates. landmarks, seed: how many are drawn, and how."""

    kind: Kind = "all"
    space: str | None = None
    k: int | None = None
    landmarks: int | None = None
    seed: int | None = None

    def as_json(self) -> dict[str, str | int]:
        """What a run records: the options that the kind has."""
        values = {
            "pairs": self.kind,
            "space": self.space,
            "k": self.k,
            "landmarks": self.landmarks,
        }
        return {name: value for name, value in values.items() if value is not None}


def checked_choice(
    kind: str,
    *,
    space: str | None = None,
    k: int | None = None,
    landmarks: int | None = None,
    seed: int | None = None,
) -> Choice:
    """The choice with its defaults. Raises UserError for an option that the kind lacks or does not have."""
    given = {"--space": space, "-k": k, "--landmarks": landmarks, "--seed": seed}
    of_kind = {
        "all": (),
        "candidates": ("--space", "-k"),
        "landmarks": ("--landmarks", "--seed"),
    }
    if kind not in of_kind:
        raise UserError(f"--pairs must be one of {', '.join(KINDS)}, not {kind!r}")
    for option, value in given.items():
        if value is not None and option not in of_kind[kind]:
            owner = next(name for name, options in of_kind.items() if option in options)
            raise UserError(f"{option} belongs to --pairs {owner}, not to --pairs {kind}")
    if kind == "candidates":
        if space is None:
            raise UserError("--pairs candidates needs --space, in which the candidates are near")
        if k is not None and k < 1:
            raise UserError(f"-k must be at least 1, not {k}")
        return Choice("candidates", space=space, k=k or DEFAULT_K)
    if kind == "landmarks":
        if landmarks is None:
            raise UserError("--pairs landmarks needs --landmarks, the number of targets to draw")
        if landmarks < 1:
            raise UserError(f"--landmarks must be at least 1, not {landmarks}")
        return Choice("landmarks", landmarks=landmarks, seed=seed or 0)
    return Choice()


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a run. Items are numbered in the order of the detect run's item ids.

    of_image: image -> its targets, ascending; one array for all images where all have the same.
    """

    n_items: int
    of_image: Sequence[npt.NDArray[np.int64]]

    @property
    def n_pairs(self) -> int:
        return sum(map(len, self.of_image))

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The targets of any image, ascending."""
        return np.unique(np.concatenate(self.of_image))

    def sha256(self) -> str:
        """Of which image is held against which target."""
        digest = RowHash()
        digest.add((self.n_items,))
        before = None
        for targets in self.of_image:
            if targets is not before:  # where all images have the same, once is enough
                digest.add((targets.astype("<i8").tobytes(),))
            before = targets
        return digest.hexdigest()


def choose_pairs(db: dbapi.Connection, choice: Choice, item_ids: Sequence[int]) -> Pairs:
    """The pairs among the items. Raises UserError when there are none."""
    n = len(item_ids)
    if choice.kind == "all":
        return Pairs(n, [np.arange(n)] * n)
    if choice.kind == "landmarks":
        assert choice.landmarks is not None
        if choice.landmarks > n:
            raise UserError(
                f"--landmarks {choice.landmarks} asks for more targets than the {n} images there are"
            )
        drawn = np.random.default_rng(choice.seed).choice(n, choice.landmarks, replace=False)
        return Pairs(n, [np.sort(drawn)] * n)
    return _candidates(db, choice, item_ids)


def _candidates(db: dbapi.Connection, choice: Choice, item_ids: Sequence[int]) -> Pairs:
    """Pairs of neighbours, both ways, so that each has both its distances: j is among i's k nearest
    other items, or i among j's."""
    number = {item_id: place for place, item_id in enumerate(item_ids)}
    found: list[set[int]] = [set() for _ in item_ids]
    for item_id, neighbor_id in db.execute(
        _GRAPH, (choice.space, choice.k, json.dumps(_in_space(db, choice.space, item_ids)))
    ):
        image, target = number[item_id], number[neighbor_id]
        found[image].add(target)
        found[target].add(image)
    pairs = Pairs(len(item_ids), [np.array(sorted(targets), np.int64) for targets in found])
    if not pairs.n_pairs:
        raise UserError(
            f"the space {choice.space!r} has vectors of fewer than 2 of the {len(item_ids)} images"
        )
    return pairs


def _in_space(db: dbapi.Connection, space: str | None, item_ids: Sequence[int]) -> list[int]:
    """Those of the items that have a vector in the space."""
    there = db.execute(
        "select v.item_id from vectors v join spaces s on s.id = v.space_id where s.name = ?",
        (space,),
    )
    have = {item_id for (item_id,) in there}
    return [item_id for item_id in item_ids if item_id in have]
