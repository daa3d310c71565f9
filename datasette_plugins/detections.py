"""What detectors say of an item: the boxes to draw on its image, beside those that are really there."""

from typing import Any

from nearsql.datasette_plugins.pages import Page, Problem, Row

# About how large the image is shown, in CSS pixels, and the letters on it.
_SHOWN_WIDTH = 640
_SHOWN_HEIGHT = 480
_LETTERS = 11


async def detections(current: Page, item: Row) -> Row | None:
    """The item's objects, and the losses, metrics and predictions of one run; None without either.

    The run is the newest that has seen the item, or that of the address: `?detector=RUN`.
    """
    if item["kind"] != "image":
        return None
    runs = await current.rows("item_detectors", item=item["id"])
    chosen = _chosen(current, runs, item)
    names = {"item": item["id"], "run": chosen["run_id"] if chosen else None}
    objects = await current.rows("item_objects", **names)
    if chosen is None and not objects:
        return None
    predictions = await current.rows("item_predictions", **names) if chosen else []
    least = chosen["metrics_conf"] or 0.0 if chosen else 0.0
    for each in objects:
        each["state"] = _state_of_object(each, chosen)
    for each in predictions:
        each["state"] = _state_of_prediction(each, chosen, least)
    scale = max(item["width"] / _SHOWN_WIDTH, item["height"] / _SHOWN_HEIGHT)
    return {
        "run": chosen,
        "runs": runs,
        "objects": objects,
        "predictions": predictions,
        "losses": await current.rows("item_losses", **names) if chosen else [],
        "least": least,
        "letters": _LETTERS * scale,
        "names": names,
    }


def _chosen(current: Page, runs: list[Row], item: Row) -> Row | None:
    wanted = current.request.args.get("detector")
    if not wanted:
        return runs[0] if runs else None
    for run in runs:
        if str(run["run_id"]) == wanted:
            return run
    there = ", ".join(str(run["run_id"]) for run in runs) or "none"
    raise Problem(
        f"No run {wanted} of a detector has seen item {item['id']}: those are {there}.", 404
    )


def _state_of_object(each: Row, run: Row | None) -> str:
    """crowd, found, missed; or only annotated, where nobody looked for it."""
    if each["is_crowd"]:
        return "crowd"
    if each["prediction_id"] is not None:
        return "found"
    return "annotated" if run is None or run["n_gt"] is None else "missed"


def _state_of_prediction(each: Row, run: Any, least: float) -> str:
    """right, wrong, unsure (too unsure to count); or only predicted, where nobody knows the truth."""
    if each["iou"] is not None:
        return "right"
    if each["confidence"] < least:
        return "unsure"
    return "predicted" if run["n_gt"] is None else "wrong"
