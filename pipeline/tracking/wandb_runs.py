"""Runs as Weights & Biases keeps them: on its server, or in a folder with WANDB_MODE=offline."""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nearsql.pipeline.console import UserError, command_line
from nearsql.pipeline.plots.look import plain
from nearsql.pipeline.tracking.report import RunReport

# What the metrics with a curve are drawn over.
_STEP = "k"


class Wandb:
    """In the project that WANDB_PROJECT says, or of the file's name."""

    def refuse_unready(self) -> None:
        """Raises UserError when wandb is not installed, switched off, or online and not logged in."""
        try:
            import wandb
        except ImportError:
            raise UserError(
                "tracking by wandb needs Weights & Biases, which is not installed: pip install wandb"
            ) from None
        mode = wandb.setup().settings.mode
        if mode == "disabled":
            raise UserError(
                "wandb is switched off (WANDB_MODE is disabled), and would record nothing"
            )
        if mode in ("offline", "dryrun"):
            return
        try:
            is_logged_in = wandb.login()
        except Exception as error:  # noqa: BLE001 - no key, a wrong one, no network
            raise UserError(
                f"wandb cannot be used, so nothing was begun: {plain(error, 300)}"
            ) from None
        if not is_logged_in:
            raise UserError(
                "nobody is logged in to wandb: `wandb login` asks for a key, and WANDB_MODE=offline needs none"
            )

    def log(self, report: RunReport, figures: Sequence[Path]) -> str:
        """See Tracker. The parameters, tags and all of the record are the run's config."""
        import wandb

        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or report.project,
            name=report.title,
            job_type=report.kind,
            config={
                **report.parameters,
                "nearsql": {**report.record, "tags": dict(report.tags)},
            },
            # What is told is what stands here: neither the code, nor the machine, nor what is printed.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        try:
            _log_metrics(run, report)
            if figures:
                run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
        except BaseException:
            with suppress(Exception):
                run.finish(exit_code=1)
            raise
        run.finish(exit_code=0)
        if run.offline:
            folder = Path(run.dir).parent
            return f"{folder}; `{command_line('wandb', 'sync', folder)}` sends it"
        return f"{run.url}"


def _log_metrics(run: Any, report: RunReport) -> None:
    """Metrics without a step are the run's summary; those with one are curves over it."""
    curves: dict[int, dict[str, float]] = defaultdict(dict)
    for metric in report.metrics:
        if metric.step is None:
            run.summary[metric.name] = metric.value
        else:
            curves[metric.step][metric.name] = metric.value
    if curves:
        run.define_metric(_STEP, hidden=True)
        for group in sorted({name.partition("/")[0] for own in curves.values() for name in own}):
            run.define_metric(f"{group}/*", step_metric=_STEP)
    for step in sorted(curves):
        run.log({_STEP: step, **curves[step]})
