"""Devices: what is picked, and what is said when it is not there."""

import pytest
import torch

from nearsql.pipeline import devices
from nearsql.pipeline.console import UserError


@pytest.fixture
def with_gpus(monkeypatch):
    def set_up(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return set_up


def test_auto_takes_the_best_there_is(with_gpus) -> None:
    with_gpus(cuda=1, mps=True)
    assert devices.pick("auto") == "cuda"
    with_gpus(mps=True)
    assert devices.pick("auto") == "mps"
    with_gpus()
    assert devices.pick("auto") == "cpu"


def test_what_is_asked_for_is_taken_or_refused(with_gpus) -> None:
    with_gpus(cuda=2, mps=True)
    for device in ("cpu", "cuda", "cuda:1", "mps"):
        assert devices.pick(device) == device
    with pytest.raises(UserError, match="no cuda:2: the GPUs are 0 to 1"):
        devices.pick("cuda:2")
    with_gpus()
    for device, sentence in (
        ("cuda", "no cuda here: PyTorch .* use --device cpu"),
        ("cuda:0", "no cuda here"),
        ("mps", "no mps here"),
        ("tpu", "no device 'tpu': it is auto, cpu"),
        ("cpu:1", "no device"),
        ("cuda:x", "no device"),
        ("", "no device"),
    ):
        with pytest.raises(UserError, match=sentence):
            devices.pick(device)


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_the_cpu_computes_in_float32_and_a_gpu_under_autocast() -> None:
    with devices.autocast("cpu"):
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    context = devices.autocast("cuda:0")
    assert isinstance(context, torch.autocast)
    assert (context.device, context.fast_dtype) == ("cuda", torch.float16)


def test_what_is_recorded_is_what_is_set() -> None:
    assert devices.describe("cpu").startswith("cpu: ")
    assert devices.describe("cpu").endswith(f", {torch.get_num_threads()} threads")
    recorded = devices.computation("cpu")
    assert (recorded["device"], recorded["dtype"], recorded["autocast"]) == ("cpu", "float32", None)
    assert recorded["threads"] == torch.get_num_threads()
    assert recorded["deterministic_algorithms"] is False
    assert devices.computation("cuda")["autocast"] == "float16"
    assert devices.computation("cuda", uses_autocast=False)["autocast"] is None
