"""What a model computes on: picked, told in words for `runs.device`, and how exactly it computes.

On the CPU everything is float32. On a GPU a forward may run under `autocast`; what must be exact
(losses) is computed outside it. No setting of the process is changed here: what a result may depend
on is recorded as it is found.
"""

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from nearsql.pipeline.console import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def share_cores() -> None:
    """Lets threads that wait for each other soon sleep; before torch or faiss is imported.

    A network of many small layers has its threads wait at each. By default they spin for milliseconds:
    with another program on one of two cores, a forward pass of yolov8n-seg took 1.4 to 3.9 s, and takes
    0.3 to 0.4 s with this. On an idle machine it makes no difference that can be told from noise (150 to
    170 ms). Whoever sets either variable is obeyed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def pick(device: str) -> str:
    """The device to compute on: `auto` is cuda where there is one, else mps, else cpu.

    device: one of DEVICES, or one GPU of several as `cuda:1`. Raises UserError for one that is not here.
    """
    import torch

    kind, _, number = device.partition(":")
    if kind not in DEVICES or (number and (kind != "cuda" or not number.isdigit())):
        raise UserError(f"there is no device {device!r}: it is auto, cpu, cuda, cuda:1 or mps")
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if kind == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if kind == "cuda" and not has_cuda:
        why = "sees no GPU" if torch.version.cuda or torch.version.hip else "is built without CUDA"
        raise UserError(
            f"there is no cuda here: PyTorch {torch.__version__} {why}; use --device cpu"
        )
    if number and int(number) >= torch.cuda.device_count():
        raise UserError(f"there is no {device}: the GPUs are 0 to {torch.cuda.device_count() - 1}")
    if kind == "mps" and not has_mps:
        raise UserError("there is no mps here, which is Apple's GPU: use --device cpu")
    return device


def describe(device: str) -> str:
    """The device in words: `cuda: NVIDIA H100`, or `cpu: AMD EPYC 7B13, 8 threads`."""
    import torch

    if device.startswith("cuda"):
        return f"{device}: {torch.cuda.get_device_name(device)}"
    if device == "mps":
        return f"mps: {_processor()}"
    return f"cpu: {_processor()}, {torch.get_num_threads()} threads"


def autocast(device: str) -> AbstractContextManager[Any]:
    """The context of a forward: half precision where that is exact enough and quicker, on a GPU only."""
    import torch

    dtype = _autocast_dtype(device)
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, dtype))


def computation(device: str, *, uses_autocast: bool = True) -> dict[str, Any]:
    """What the result of a forward may depend on besides the model, as JSON values for a run."""
    import torch

    return {
        "device": device,
        "dtype": "float32",
        "autocast": _autocast_dtype(device) if uses_autocast else None,
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def _autocast_dtype(device: str) -> str | None:
    # float16 keeps three more bits than bfloat16, and what encoders compute stays in its range.
    return None if device == "cpu" else "float16"


def _processor() -> str:
    """The name of the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
