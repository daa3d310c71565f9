"""Being connected to a Ray cluster: to one that is there, or to one of this process's own.

One of our own lets nobody in who does not have its token, keeps its files in a temporary folder, and sends
no statistics of use.
"""

import importlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nearsql.pipeline.console import UserError

_PREFIX = "nearsql-ray-"
# Ray's sockets lie some 65 characters deeper, and the name of a socket has 107 at most.
_LONGEST_FOLDER = 40
_CONNECT_S = 10.0


def import_ray() -> Any:
    """The library. Raises UserError where it is not installed."""
    # Read when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise UserError(
            "--engine ray needs Ray, which is not installed: pip install 'nearsql[ray]'"
        ) from error
    return ray


@contextmanager
def connected(address: str | None, n_cpus: int) -> Iterator[None]:
    """Connected to the cluster while the block runs; if this process is already, that one stays.

    address: HOST:PORT of a cluster, or auto for the one of this machine; None is that of RAY_ADDRESS or,
    without it, a cluster of our own with so many CPUs, which ends with the block. Raises UserError when
    there is no such cluster.
    """
    if import_ray().is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        with (
            _folder() as folder,
            _private(),
            _initialised(address="local", num_cpus=n_cpus, _temp_dir=str(folder)),
        ):
            yield
    else:
        _refuse_unreachable(address)
        with _initialised(address=address):
            yield


@contextmanager
def _initialised(**options: Any) -> Iterator[None]:
    """Within ray.init, and what it started ended afterwards."""
    ray = import_ray()
    with _silent(ray):
        try:
            _init(ray, **options)
            yield
        finally:
            ray.shutdown()


def _init(ray: Any, *, address: str, **options: Any) -> None:
    """ray.init, without a word. Raises UserError in one of ours."""
    if address == "local":
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=True,
            **options,
        )
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        if address == "local":
            raise UserError(f"no Ray cluster could be started here: {reason}") from error
        raise UserError(f"the Ray cluster {address!r} cannot be used: {reason}") from error


def _refuse_unreachable(address: str) -> None:
    """Ray itself tries for a minute."""
    if address == "auto":
        return
    if "://" in address:
        raise UserError(
            f"--ray-address is auto or HOST:PORT, not {address!r}: run the command on a machine of the"
            " cluster"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray-address is auto or HOST:PORT, not {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"there is no Ray cluster at {address}: {error}") from error


@contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Keeps Ray from printing on standard output, which is for data.

    It would tell there of each process that dies, log_to_driver or not; we tell of it ourselves.
    """
    module = ray._private.worker
    before = module.print_to_stdstream
    module.print_to_stdstream = lambda *_args, **_options: None
    try:
        yield
    finally:
        module.print_to_stdstream = before


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for Ray's sockets and logs, removed afterwards; and those of killed processes with it."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_FOLDER and Path("/tmp").is_dir():
        base = Path("/tmp")
    for left in base.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


# One for all clusters that this process starts: Ray reads it once.
_token = secrets.token_hex(32)


@contextmanager
def _private() -> Iterator[None]:
    """A token for our own clusters, instead of one that Ray would write into the home folder."""
    config = importlib.import_module("ray._raylet").Config
    asked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token}
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    config.initialize("")  # it was read when Ray was imported
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        config.initialize("")
