"""Runs as MLflow keeps them: on a server, or in a store of files."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.look import plain
from nearsql.pipeline.tracking.report import RunReport

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow takes in one request, and at most.
_METRICS, _PARAMETERS = 1000, 100
_LONGEST_NAME, _LONGEST_PARAMETER, _LONGEST_TAG = 250, 500, 5000


class Mlflow:
    """Where MLFLOW_TRACKING_URI says, under MLFLOW_EXPERIMENT_NAME or the name of the file."""

    def refuse_unready(self) -> None:
        """Raises UserError when MLflow is not installed, or its store or server gives no answer."""
        # It counts who uses what, on a server of its own, unless it is told not to.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A server that is not there is known after seconds, and not after some minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise UserError(
                "tracking by mlflow needs MLflow, which is not installed: pip install mlflow-skinny, or"
                " mlflow for a store in a database"
            ) from None
        try:
            MlflowClient().search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001 - of many kinds, by the store
            raise UserError(
                "mlflow cannot be used, so nothing was begun (MLFLOW_TRACKING_URI says where it keeps"
                f" runs): {plain(error, 300)}"
            ) from None

    def log(self, report: RunReport, figures: Sequence[Path]) -> str:
        """See Tracker. Parameters, tags, metrics, the plots, and `run.json`: the whole record of the run."""
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or report.project
        run_id = client.create_run(
            _experiment(client, name),
            start_time=report.started_ms,
            tags={n: plain(v, _LONGEST_TAG) for n, v in _named(report.tags).items()},
            run_name=report.title,
        ).info.run_id
        try:
            parameters = [Param(n, _text(v)) for n, v in _named(report.parameters).items()]
            for some in _batches(parameters, _PARAMETERS):
                client.log_batch(run_id, params=some)
            names = {
                given: n for n, given in _named({m.name: m.name for m in report.metrics}).items()
            }
            metrics = [
                Metric(names[m.name], m.value, report.finished_ms, m.step or 0)
                for m in report.metrics
            ]
            for some in _batches(metrics, _METRICS):
                client.log_batch(run_id, metrics=some)
            client.log_dict(run_id, dict(report.record), "run.json")
            for figure in figures:
                client.log_artifact(run_id, str(figure), "figures")
            client.set_terminated(run_id, "FINISHED", report.finished_ms)
        except BaseException:
            with suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        return f"run {run_id} of experiment {name!r} in {_without_password(client.tracking_uri)}"


def _experiment(client: "MlflowClient", name: str) -> str:
    """The id of the experiment of this name, which is made where there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name))


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by names that MLflow takes: no others than letters, digits and _ - . / and spaces.

    Names that come out the same are told apart by a number.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        parts = re.sub(r"[^\w\-./ :]" if os.name != "nt" else r"[^\w\-./ ]", "_", name).split("/")
        short = "/".join("_" if part in ("", ".", "..") else part for part in parts)
        short = short[: _LONGEST_NAME - 5].rstrip("/") or "_"
        unique, number = short, 1
        while unique in found:
            number += 1
            unique = f"{short}_{number}"
        found[unique] = value
    return found


def _text(value: Any) -> str:
    """A parameter as MLflow's table shows it. A long one is cut, and says so; run.json has all of it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= _LONGEST_PARAMETER:
        return text
    return f"{text[: _LONGEST_PARAMETER - 60]}… ({len(text):,} letters: see run.json)"


def _batches(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
