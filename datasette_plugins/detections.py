"""What detectors say of an item: the boxes to draw on its image, beside those that are really there."""

import asyncio
from typing import Any

from nearsql.datasette_plugins.outlines import MOST_STEPS, outline, polygons_path
from nearsql.datasette_plugins.pages import Page, Problem, Row
from nearsql.udfs import rle
from nearsql.udfs.errors import SqlFunctionError

# About how large the image is shown, in CSS pixels, and the letters on it.
_SHOWN_WIDTH = 640
_SHOWN_HEIGHT = 480
_LETTERS = 11

# So many objects and so many predictions are drawn and listed.
BOXES_SHOWN = 500

# The more masks, the coarser their outlines, so that a page stays quick: of up to so many, all steps.
_MASKS_IN_FULL = 60


async def detections(current: Page, item: Row) -> Row | None:
    """The item's objects, and the losses, metrics and predictions of one run; None without either.

    The run is the newest that has seen the item, or that of the address: `?detector=RUN`.
    """
    if item["kind"] != "image":
        return None
    runs = await current.rows("item_detectors", item=item["id"])
    chosen = _chosen(current, runs, item)
    names = {"item": item["id"], "run": chosen["run_id"] if chosen else None}
    objects = await current.rows("item_objects", **names, limit=BOXES_SHOWN)
    if chosen is None and not objects:
        return None
    predictions = (
        await current.rows("item_predictions", **names, limit=BOXES_SHOWN) if chosen else []
    )
    least = chosen["metrics_conf"] or 0.0 if chosen else 0.0
    for each in objects:
        each["state"] = _state_of_object(each, chosen)
    for each in predictions:
        each["state"] = _state_of_prediction(each, chosen, least)
    await asyncio.to_thread(_add_outlines, [*objects, *predictions], item)
    scale = max(item["width"] / _SHOWN_WIDTH, item["height"] / _SHOWN_HEIGHT)
    return {
        "run": chosen,
        "runs": runs,
        "objects": objects,
        "predictions": predictions,
        "losses": await current.rows("item_losses", **names) if chosen else [],
        "metrics": await current.rows("item_metrics", **names) if chosen else [],
        "masks": sum(1 for each in (*objects, *predictions) if each["outline"]),
        "undrawn": next((each["why"] for each in (*objects, *predictions) if each["why"]), None),
        "least": least,
        "letters": _LETTERS * scale,
        "names": names,
        "shown": BOXES_SHOWN,
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


def _add_outlines(found: list[Row], item: Row) -> None:
    """Gives each its `outline`, an SVG path, `step`, the length of its unit, and `why` it has none."""
    masks = sum(each["mask_json"] is not None for each in found)
    # Half the steps are a quarter of the work.
    halvings = 0
    while masks > _MASKS_IN_FULL * 4**halvings:
        halvings += 1
    for each in found:
        each["outline"], each["step"], each["why"] = None, 1, None
        if each["is_mask_too_long"]:
            each["why"] = "one has more than 200,000 characters"
        elif each["mask_json"] is not None:
            try:
                mask = rle.read_json("its mask", each["mask_json"])
            except SqlFunctionError as error:
                each["why"] = str(error)
                continue
            if (mask.height, mask.width) != (item["height"], item["width"]):
                each["why"] = (
                    f"its mask is of {mask.width} x {mask.height} pixels, and the image of"
                    f" {item['width']} x {item['height']}"
                )
                continue
            each["outline"], each["step"] = outline(mask, MOST_STEPS >> halvings)
        elif each.get("polygons_json") is not None:
            each["outline"] = polygons_path(each["polygons_json"])
