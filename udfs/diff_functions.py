"""What changed, in SQL: between two clusterings (cluster_diff, cluster_moves, cluster_agreement), two
evaluations (evaluation_diff, evaluation_agreement), two detector runs (detector_diff,
detector_agreement) and two spaces (space_overlap)."""

from collections.abc import Iterator
from dataclasses import astuple, fields
from typing import Any

import apsw

from nearsql.udfs.arguments import number, optional_whole_number, text, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.cluster_diff import ClusterChange, Comparison, Move, compare
from nearsql.udfs.detector_diff import (
    TOLERANCE,
    MetricAgreement,
    check_metric,
    check_runs,
    image_changes,
    metric_agreement,
    metrics_of,
)
from nearsql.udfs.evaluation_diff import Agreement, agreement, differing_items
from nearsql.udfs.evaluation_settings import (
    Evaluation,
    Setting,
    Wanted,
    compared_settings,
    only_one,
    read_evaluation,
)
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.space_overlap import compared_items, jaccard, shared_neighbors
from nearsql.udfs.spaces import find_space

_EXAMPLE_RUNS = "3, 5"
_EXAMPLE_DETECTORS = "11, 12"
_EXAMPLE_EVALUATION = "9, 9"


@sql_function(
    columns=tuple(field.name for field in fields(ClusterChange)),
    example=f"select change, cluster_a, cluster_b, overlap, round(jaccard, 2) as jaccard\n"
    f"from cluster_diff({_EXAMPLE_RUNS})",
    estimated_rows=100,
)
def cluster_diff(
    db: apsw.Connection, run_a: int, run_b: int, level: int = 1, level_b: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """What became of the clusters of run_a in run_b: a row a pair of counterparts, or a cluster without.

    Two clusters are counterparts when one holds more than half of the other's items. change:

    - 'same': each is the other's only counterpart. jaccard (overlap / items in either) says how much
      so: 1 is item by item, little is a cluster that grew or shrank.
    - 'split': cluster_a has several counterparts, a row each, and each of them has only it.
    - 'merged': cluster_b has several, and each of them has only it.
    - 'mixed': both have several, so that a part of one cluster joined another.
    - 'gone': cluster_a has none (cluster_b is NULL); 'new': cluster_b has none (cluster_a is NULL).
    - NULL: no item of this cluster is in the other run, so that nothing is known.

    Compared are the items that both runs hold, as members or noise, whatever spaces they clustered;
    compared_a and compared_b say how many of the size_a and size_b items of each cluster those are.
    level is the level of both runs, or of run_a where level_b is given, too: then two levels of one
    run can be compared.
    """
    for change in _compared(db, run_a, run_b, level, level_b).changes():
        yield astuple(change)


@sql_function(
    columns=("id", "move", "cluster_a", "cluster_b"),
    example="select move, cluster_a, cluster_b, count(*) as items\n"
    f"from cluster_moves({_EXAMPLE_RUNS}) group by 1, 2, 3 order by items desc limit 5",
)
def cluster_moves(
    db: apsw.Connection, run_a: int, run_b: int, level: int = 1, level_b: int | None = None
) -> Iterator[tuple[int, Move, int | None, int | None]]:
    """The items that left their cluster between two runs, with the labels that they had and have.

    move: 'moved' to a cluster that is no counterpart (see `cluster_diff`) of the one it was in; 'to noise';
    'from noise'. An item stays in a cluster that split or merged if it went where the cluster went. Only
    items that both runs hold; the arguments are those of `cluster_diff`.
    """
    yield from _compared(db, run_a, run_b, level, level_b).moves()


@sql_function(
    columns=(
        *("items", "only_a", "only_b", "clusters_a", "clusters_b", "noise_a", "noise_b"),
        *("moved", "to_noise", "from_noise"),
        *("ari", "ami", "in_clusters", "ari_in_clusters", "ami_in_clusters"),
    ),
    example="select items, round(ari, 3) as ari, round(ami, 3) as ami, in_clusters,\n"
    "       round(ari_in_clusters, 3) as ari_in_clusters\n"
    f"from cluster_agreement({_EXAMPLE_RUNS})",
    estimated_rows=1,
)
def cluster_agreement(
    db: apsw.Connection, run_a: int, run_b: int, level: int = 1, level_b: int | None = None
) -> Iterator[tuple[int | float | None, ...]]:
    """How much two clusterings agree, in one row, over the `items` that both runs hold.

    ari is the adjusted Rand index, ami the adjusted mutual information (as in scikit-learn), with noise as
    one more cluster: 1 for the same partition, 0 what chance gives. ari_in_clusters and ami_in_clusters:
    over the `in_clusters` items that are in a cluster in both runs; NULL if those are fewer than 2.

    only_a and only_b count the items of one run only; clusters_a, clusters_b, noise_a and noise_b those
    of the compared items; moved, to_noise and from_noise the rows of `cluster_moves`. The arguments are
    those of `cluster_diff`.
    """
    found = _compared(db, run_a, run_b, level, level_b)
    items, moves = len(found.items), found.count_moves()
    in_a, in_b = found.labels_a >= 0, found.labels_b >= 0
    ari, ami, ari_in_clusters, ami_in_clusters = found.agreement(Poll(db))
    yield (
        items,
        len(found.a.items) - items,
        len(found.b.items) - items,
        int((found.table.labels_a >= 0).sum()),
        int((found.table.labels_b >= 0).sum()),
        items - int(in_a.sum()),
        items - int(in_b.sum()),
        moves["moved"],
        moves["to noise"],
        moves["from noise"],
        ari,
        ami,
        int((in_a & in_b).sum()),
        ari_in_clusters,
        ami_in_clusters,
    )


def _compared(db: apsw.Connection, run_a: Any, run_b: Any, level: Any, level_b: Any) -> Comparison:
    level_a = whole_number("level", level, at_least=1)
    return compare(
        db,
        whole_number("run_a", run_a, at_least=1),
        whole_number("run_b", run_b, at_least=1),
        level_a,
        optional_whole_number("level_b", level_b, at_least=1) or level_a,
    )


@sql_function(
    columns=("id", "change", "y_true", "y_pred_a", "y_pred_b", "score_a", "score_b"),
    example=f"""
        select change, count(*) as items from evaluation_diff({_EXAMPLE_EVALUATION})
        where k = 1 and weighting = 'uniform' and other_k = 5 group by change
        """,
)
def evaluation_diff(
    db: apsw.Connection,
    run_a: int,
    run_b: int,
    k: int | None = None,
    weighting: str | None = None,
    space: str | None = None,
    other_k: int | None = None,
    other_weighting: str | None = None,
    other_space: str | None = None,
) -> Iterator[tuple[Any, ...]]:
    """The items of which two evaluations (`nearsql evaluate`) predict different things.

    change, of labels:

    - 'gained': run_b is right, and run_a was not; 'lost': the other way round.
    - 'still wrong': neither is right.

    Of numbers: 'closer' or 'farther' from the true one in run_b, or 'as far'; NULL when one of the runs
    predicts nothing. score is as in cv_predictions.

    k, weighting and space name the predictions of both runs, or of run_a where other_k, other_weighting or
    other_space say which of run_b; what a run has only one of need not be named. So one run is compared with
    another, or two ks, weightings or spaces of one run. Compared are the items that both runs predicted,
    from the same true value.
    """
    wanted = Wanted.checked(k, weighting, space, other_k, other_weighting, other_space)
    a, b, pairs = _evaluations(db, run_a, run_b, wanted)
    yield from differing_items(db, a, b, only_one(a, b, pairs))


@sql_function(
    columns=tuple(field.name for field in fields(Agreement)),
    example=f"""
        select k_a as k, items, round(value_a, 4) as uniform, round(value_b, 4) as distance, gained, lost,
               round(p_value, 3) as p
        from evaluation_agreement({_EXAMPLE_EVALUATION})
        where weighting = 'uniform' and other_weighting = 'distance'
        """,
    estimated_rows=20,
)
def evaluation_agreement(
    db: apsw.Connection,
    run_a: int,
    run_b: int,
    k: int | None = None,
    weighting: str | None = None,
    space: str | None = None,
    other_k: int | None = None,
    other_weighting: str | None = None,
    other_space: str | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Which of two evaluations is better: a row for each space, k and weighting that both have.

    value_a and value_b are the metric, 'accuracy' or 'mae' (mean absolute error), over the `items` that
    both predicted from the same true value. gained, lost and other count the rows of `evaluation_diff`:
    better, worse, and neither.

    p_value is the chance of so uneven differences if neither were better. Of labels by McNemar's test,
    exact; of numbers by Wilcoxon's signed-rank test of the absolute errors. Each is that of one
    comparison: look at many, and some are small by chance.

    The arguments are those of `evaluation_diff`. Where no space is named and the runs have none in common,
    or it is one run with several, each space is compared with each other one.
    """
    wanted = Wanted.checked(k, weighting, space, other_k, other_weighting, other_space)
    a, b, pairs = _evaluations(db, run_a, run_b, wanted)
    for pair in pairs:
        yield astuple(agreement(db, a, b, pair))


@sql_function(
    columns=("id", "change", "value_a", "value_b", "difference", "reason"),
    example=f"""
        select change, count(*) as images, round(avg(difference), 3) as difference
        from detector_diff({_EXAMPLE_DETECTORS}, 'mean_iou_gt') group by change
        """,
)
def detector_diff(
    db: apsw.Connection,
    run_a: int,
    run_b: int,
    metric: str = "mean_iou_gt",
    tolerance: float = TOLERANCE,
) -> Iterator[tuple[Any, ...]]:
    """How each image that two detector runs judged (`nearsql detect`) changed, by a metric or loss.

    metric: mean_iou_gt, mean_iou, hit_freq, dice_score or tp, of which more is better; fp, fn, flag_cat,
    flag_supercat or `loss:` and a component (loss:box), of which less is; mean_conf or n_pred, of which
    neither is. change: 'improved', 'regressed', or 'same' up to the tolerance; for the last two metrics
    'higher' and 'lower' instead. difference is value_b - value_a.

    change is NULL, with a reason, where one of the runs has no value (mean_iou has none without a match:
    mean_iou_gt counts what is missed as 0), or the ground truth changed between the runs.
    """
    runs = _detector_runs(db, run_a, run_b)
    yield from image_changes(
        db,
        *runs,
        check_metric(db, *runs, metric),
        number("tolerance", tolerance, at_least=0),
    )


@sql_function(
    columns=tuple(field.name for field in fields(MetricAgreement)),
    example=f"""
        select metric, images, improved, regressed, round(mean_a, 3) as mean_a,
               round(mean_b, 3) as mean_b, round(p_value, 3) as p
        from detector_agreement({_EXAMPLE_DETECTORS})
        """,
    estimated_rows=15,
)
def detector_agreement(
    db: apsw.Connection, run_a: int, run_b: int, tolerance: float = TOLERANCE
) -> Iterator[tuple[Any, ...]]:
    """Which of two detector runs is better: a row for each metric and component of the loss.

    images: those that both judged, and that can be compared; left_out: the others (see `detector_diff`).
    improved, regressed and same count images; better says which values are, and where it is NULL nothing
    improves. mean_a, mean_b and median_difference are over the compared images.

    p_value is that of Wilcoxon's signed-rank test of the differences: the chance of such ones if neither
    run were better. Each is that of one metric, and a dozen are looked at. Losses of models that compute
    them differently are not on one scale.
    """
    runs = _detector_runs(db, run_a, run_b)
    tolerance = number("tolerance", tolerance, at_least=0)
    for metric in metrics_of(db, *runs):
        found = metric_agreement(db, *runs, metric, tolerance)
        if found is not None:
            yield astuple(found)


@sql_function(
    columns=("id", "shared", "overlap", "jaccard"),
    example="""
        select round(avg(overlap), 3) as overlap, round(avg(jaccard), 3) as jaccard,
               sum(shared = 0) as nothing_shared
        from space_overlap('digits/pixels', 'digits/pixels/pca-8d', 10)
        """,
)
def space_overlap(
    db: apsw.Connection, space_a: str, space_b: str, k: int = 10, within: str | None = None
) -> Iterator[tuple[int, int, float, float]]:
    """How far two spaces agree on each item's neighbours.

    shared: how many of its k nearest others it has in both; overlap = shared / k; jaccard = shared /
    neighbours in either. The mean overlap is the mutual k-nearest-neighbour alignment of Huh et al. (ICML
    2024); k / (items - 1) is what chance gives.

    The items are those that both spaces hold, and their neighbours are looked for among these, exactly,
    so that spaces of different items can be compared; equal distances come in the order of ids. `within`
    limits them further, as in `knn`. k is at most the number of other items.
    """
    count = whole_number("k", k, at_least=1)
    a, b = (
        find_space(db, text(name, space))
        for name, space in (("space_a", space_a), ("space_b", space_b))
    )
    compared = compared_items(db, a, b, count, within)
    for items, shared in shared_neighbors(db, compared, Poll(db)):
        yield from zip(
            items.tolist(),
            shared.tolist(),
            (shared / compared.k).tolist(),
            jaccard(shared, compared.k).tolist(),
            strict=True,
        )


def _evaluations(
    db: apsw.Connection, run_a: Any, run_b: Any, wanted: Wanted
) -> tuple[Evaluation, Evaluation, list[tuple[Setting, Setting]]]:
    """Both evaluations, and the pairs of their settings that are compared."""
    a, b = (
        read_evaluation(db, whole_number(name, run, at_least=1))
        for name, run in (("run_a", run_a), ("run_b", run_b))
    )
    return a, b, compared_settings(a, b, wanted)


def _detector_runs(db: apsw.Connection, run_a: Any, run_b: Any) -> tuple[int, int]:
    runs = whole_number("run_a", run_a, at_least=1), whole_number("run_b", run_b, at_least=1)
    check_runs(db, *runs)
    return runs
