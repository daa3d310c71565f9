"""Which anchors of one image are given to which objects of many targets, and with what target score.

The criterion's own assigner (task-aligned assignment, Feng et al. 2021, arXiv:2108.07755, as
ultralytics has it) looks at each object by itself, except where an anchor is wanted by several objects
of one target. So the objects of many targets are given to it as if they were one image's, which needs
no padding, and only such conflicts are settled here, target by target.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Foreground:
    """One entry for each anchor of the image that a target's objects are given, ordered by target.

    owner: the target. row: the object. anchor: the anchor. score: the target score of the object's
    class there. Each of shape (F).
    """

    owner: Tensor
    row: Tensor
    anchor: Tensor
    score: Tensor


def assign(
    assigner: Any,
    *,
    scores: Tensor,
    boxes: Tensor,
    anchors: Tensor,
    labels: Tensor,
    object_boxes: Tensor,
    owner: Tensor,
    extra: dict[str, Tensor],
) -> Foreground:
    """Assigns one image's anchors to the objects of some targets.

    scores: (A, classes), the image's, after the sigmoid. boxes: (A, 4) and anchors: (A, 2), in pixels.
    labels: (T, 1), object_boxes: (T, 4) in pixels, owner: (T) ascending, the target of each object.
    extra: what the assigner of segmentation looks at besides, with a first dimension of 1.
    """
    assigner = copy(assigner)  # it keeps the shape of what it is at
    is_box = object_boxes.sum(1, keepdim=True).gt(0).float()
    assigner.bs, assigner.n_max_boxes = 1, len(object_boxes)
    positive, metric, overlaps = (
        found[0]
        for found in assigner.get_pos_mask(
            scores[None],
            boxes[None],
            labels[None],
            object_boxes[None],
            anchors,
            is_box[None],
            **extra,
        )
    )
    row, anchor = _one_object_an_anchor(positive, overlaps, owner)
    if assigner.topk2 != assigner.topk:
        # One-to-one heads: of an object's anchors, only the best are kept.
        of_positives = torch.zeros_like(metric)
        of_positives[row, anchor] = metric[row, anchor]
        best = of_positives.topk(assigner.topk2, dim=1).indices
        is_kept = (best[row] == anchor[:, None]).any(1)
        row, anchor = row[is_kept], anchor[is_kept]
    # The metric of an object's anchors, scaled so that the best gets the object's best overlap.
    metric, overlaps = metric[row, anchor], overlaps[row, anchor]
    n = len(object_boxes)
    best_metric = metric.new_zeros(n).scatter_reduce_(0, row, metric, "amax")
    best_overlap = overlaps.new_zeros(n).scatter_reduce_(0, row, overlaps, "amax")
    score = metric * best_overlap[row] / (best_metric[row] + assigner.eps)
    return Foreground(owner[row], row, anchor, score)


def _one_object_an_anchor(
    positive: Tensor, overlaps: Tensor, owner: Tensor
) -> tuple[Tensor, Tensor]:
    """(object, anchor) of each anchor of each target, ordered by target and anchor.

    An anchor that several objects of one target want goes to the object of that target that it
    overlaps most, of equal ones the first; also when that one did not want it.
    """
    n_anchors = positive.shape[1]
    row, anchor = positive.nonzero(as_tuple=True)
    place, of_place, n_wanting = (owner[row] * n_anchors + anchor).unique(
        return_inverse=True, return_counts=True
    )
    chosen = torch.empty_like(place)
    chosen[of_place] = row
    (shared,) = (n_wanting > 1).nonzero(as_tuple=True)
    if len(shared):
        wanted = place[shared]
        # Every object of the target, for each shared anchor.
        first = torch.searchsorted(owner, wanted // n_anchors)
        n_objects = torch.searchsorted(owner, wanted // n_anchors, right=True) - first
        which = torch.repeat_interleave(torch.arange(len(wanted), device=wanted.device), n_objects)
        nth = (
            torch.arange(len(which), device=wanted.device)
            - (n_objects.cumsum(0) - n_objects)[which]
        )
        rows = first[which] + nth
        overlap = overlaps[rows, (wanted % n_anchors)[which]]
        most = overlap.new_full((len(wanted),), -1.0).scatter_reduce_(0, which, overlap, "amax")
        rows = torch.where(overlap == most[which], rows, len(owner))
        chosen[shared] = rows.new_full((len(wanted),), len(owner)).scatter_reduce_(
            0, which, rows, "amin"
        )
    return chosen, place % n_anchors
