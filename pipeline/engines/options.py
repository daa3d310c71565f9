"""The options of commands whose work can be done by a Ray cluster."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from nearsql.pipeline.console import UserError
from nearsql.pipeline.engines import Engine
from nearsql.pipeline.engines.local import LocalEngine

Command = TypeVar("Command", bound=Callable[..., Any])

_OF_RAY = ("ray_address", "workers", "worker_cpus", "worker_gpus")


def add_engine(*, gpus: bool = True) -> Callable[[Command], Command]:
    """Decorates a command with --engine and what belongs to it; its function gets `engine`, an Engine.

    gpus: whether the work may use them.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_engine(*args: Any, engine: str, **options: Any) -> Any:
            asked = {name: options.pop(name) for name in _OF_RAY if name in options}
            return command(*args, engine=chosen_engine(engine, **asked), **options)

        decorated: Any = with_engine
        for option in reversed(_options(gpus)):
            decorated = option(decorated)
        return decorated

    return decorate


def chosen_engine(
    name: str,
    *,
    ray_address: str | None = None,
    workers: int | None = None,
    worker_cpus: int | None = None,
    worker_gpus: float | None = None,
) -> Engine:
    """The engine of that name, which tells what it does. Raises UserError for options that it has not."""
    if name == "local":
        given = {
            "--ray-address": ray_address,
            "--workers": workers,
            "--worker-cpus": worker_cpus,
            "--worker-gpus": worker_gpus,
        }
        for option, value in given.items():
            if value is not None:
                raise UserError(f"{option} is for --engine ray")
        return LocalEngine()
    from nearsql.pipeline.engines.ray_engine import RayEngine

    return RayEngine(
        ray_address, workers=workers, cpus=worker_cpus or 1, gpus=worker_gpus, quiet=False
    )


def _options(gpus: bool) -> list[Callable[[Any], Any]]:
    found = [
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="ray: by the workers of a Ray cluster, with the same rows; see docs/scale.md.",
        ),
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="ray: auto, or HOST:PORT of a cluster. Default: that of RAY_ADDRESS; without it, a"
            " cluster is started here, for this command only.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="ray: how many; default: as many as there is room for.",
        ),
        click.option(
            "--worker-cpus", type=click.IntRange(min=1), help="ray: CPUs and threads of each; 1."
        ),
    ]
    if gpus:
        found.append(
            click.option(
                "--worker-gpus",
                type=click.FloatRange(min=0),
                help="ray: GPUs of each, 0.5 for half of one; 1 where the cluster has any.",
            )
        )
    return found
