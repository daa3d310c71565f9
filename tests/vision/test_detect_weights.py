"""Loading a detector: what is accepted, what is refused, and that nothing in a file is ever run."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from detectors import CLASSES, FAMILIES, assets, random_image, save_detector, saved_detector

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.forward import forward
from nearsql.pipeline.detect.letterbox import letterbox
from nearsql.pipeline.detect.weights import Detector, load_detector, state_sha256

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.nn import tasks
from ultralytics.nn.modules import block

COMPONENTS = {
    "yolov8n": ("box", "cls", "dfl"),
    "yolov8n-seg": ("box", "seg", "cls", "dfl"),
    "yolov10n": ("box", "cls", "dfl"),
    "yolo11n": ("box", "cls", "dfl"),
    "yolo11n-seg": ("box", "seg", "cls", "dfl"),
    "yolo26n": ("box", "cls", "l1"),
    "yolo26n-seg": ("box", "seg", "cls", "l1", "sem"),
}


class Payload:
    """Calls something when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.fixture
def small() -> Path:
    """A checkpoint to be taken apart. Nobody writes to it."""
    return saved_detector("yolov8n")


def read(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=False)
    return checkpoint


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_detector_says_of_itself(family: str, tmp_path: Path) -> None:
    path = tmp_path / f"my-{family}.pt"
    path.write_bytes(saved_detector(family).read_bytes())
    detector = load_detector(path)
    assert (detector.name, detector.path) == (f"my-{family}", path)
    assert detector.architecture == family
    assert detector.task == ("segment" if family.endswith("-seg") else "detect")
    assert detector.classes == tuple(f"class {index}" for index in range(CLASSES))
    assert detector.components == COMPONENTS[family]
    assert detector.is_end_to_end == family.startswith(("yolov10", "yolo26"))
    assert detector.assigns_by_masks == (family == "yolo26n-seg")
    assert detector.strides == (8, 16, 32)
    assert detector.licence == "AGPL-3.0"
    assert detector.loss_settings == {"box": 7.5, "cls": 0.5, "dfl": 1.5, "mask_ratio": 4}
    assert detector.n_forwards == 0
    # The flag of the prototypes' own module is what makes them give the semantic map.
    training = [
        name
        for name, module in detector.network.named_modules()
        if module.training and not name.endswith(".proto")
    ]
    assert training == []
    for parameter in detector.network.parameters():
        assert (parameter.dtype, parameter.requires_grad) == (torch.float32, False)


def test_the_hash_is_that_of_the_file(small: Path) -> None:
    expected = subprocess.run(["sha256sum", small], capture_output=True, text=True, check=True)
    assert load_detector(small).sha256 == expected.stdout.split()[0]


def test_the_hash_of_the_state_sees_every_weight_and_every_running_statistic(small: Path) -> None:
    detector = load_detector(small)
    before = state_sha256(detector)
    assert state_sha256(load_detector(small)) == before
    state = detector.network.state_dict()
    for name in ("model.0.conv.weight", "model.0.bn.running_var", "model.0.bn.num_batches_tracked"):
        kept = state[name].clone()
        state[name].view(-1)[0] += 1
        assert state_sha256(detector) != before
        state[name].copy_(kept)
    assert state_sha256(detector) == before


def test_the_averaged_weights_are_preferred(small: Path, tmp_path: Path) -> None:
    checkpoint = read(small)
    averaged = read(save_detector(tmp_path / "other.pt", "yolov8n", seed=7))["model"]
    torch.save({**checkpoint, "ema": averaged}, tmp_path / "both.pt")
    torch.save({**checkpoint, "model": None, "ema": averaged}, tmp_path / "one.pt")
    expected = state_sha256(load_detector(tmp_path / "other.pt"))
    assert state_sha256(load_detector(tmp_path / "both.pt")) == expected
    assert state_sha256(load_detector(tmp_path / "one.pt")) == expected


def test_the_loss_settings_are_those_the_model_was_trained_with(
    small: Path, tmp_path: Path
) -> None:
    checkpoint = read(small)
    checkpoint["model"].args = {"box": 1.0}  # what a checkpoint's model carries does not count
    checkpoint["train_args"] = {"box": 2.5, "mask_ratio": 2, "epochs": 3, "overlap_mask": False}
    torch.save(checkpoint, tmp_path / "a.pt")
    detector = load_detector(tmp_path / "a.pt")
    assert detector.loss_settings == {"box": 2.5, "cls": 0.5, "dfl": 1.5, "mask_ratio": 2}
    assert detector.criterion.hyp.box == 2.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("mask_ratio", 0), ("mask_ratio", 2.5), ("box", "large"), ("cls", float("nan")), ("dfl", -1)],
)
def test_senseless_loss_settings_are_refused(
    name: str, value: Any, small: Path, tmp_path: Path
) -> None:
    torch.save({**read(small), "train_args": {name: value}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=f"trained with {name} = "):
        load_detector(tmp_path / "a.pt")


def test_a_fused_checkpoint_gives_the_same_predictions(tmp_path: Path) -> None:
    path = saved_detector("yolo26n-seg")
    checkpoint = read(path)
    model = checkpoint["model"].float()
    model.end2end = True
    model.fuse(verbose=False)
    torch.save({**checkpoint, "model": model}, tmp_path / "fused.pt")
    fused, whole = load_detector(tmp_path / "fused.pt"), load_detector(path)
    assert fused.is_end_to_end
    assert fused.components == ("box", "seg", "cls", "l1")  # fusing drops the semantic map
    square, _ = letterbox(random_image(3), 160)
    expected, found = (forward(detector, [square]).raw for detector in (whole, fused))
    for name in ("boxes", "scores", "mask_coefficient"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["yolov5n.pt", "yolov8n-seg.pt", "it's mine.pt", " spaced .pt"])
def test_a_file_is_read_whatever_it_is_called(
    name: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(small.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert load_detector(name).name == name.removesuffix(".pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


# What must not be run


def payloads(folder: Path) -> list[Payload]:
    mark = folder / "was-run"
    return [
        Payload(os.system, f"touch '{mark}'"),
        Payload(exec, f"open({str(mark)!r}, 'w').close()"),
        Payload(eval, f"__import__('pathlib').Path({str(mark)!r}).touch()"),
    ]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "way", ["alone", "model", "beside the model", "old format", "plain pickle"]
)
def test_a_hostile_file_is_refused_and_not_run(
    number: int, way: str, small: Path, tmp_path: Path
) -> None:
    payload, path = payloads(tmp_path)[number], tmp_path / "hostile.pt"
    if way == "alone":
        torch.save(payload, path)
    elif way == "model":
        torch.save({"model": payload}, path)
    elif way == "beside the model":
        torch.save({**read(small), "train_args": {"box": payload}}, path)
    elif way == "old format":
        torch.save({"model": payload}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({"model": payload}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_detector(path)
    assert not (tmp_path / "was-run").exists()
    # The file would do it: this is what the refusal is worth.
    pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "was-run").exists()


def test_the_refusal_names_what_the_file_asks_for(tmp_path: Path) -> None:
    torch.save({"model": payloads(tmp_path)[0]}, tmp_path / "hostile.pt")
    with pytest.raises(UserError, match=r"it asks for (posix|nt)\.system, .* and was not run"):
        load_detector(tmp_path / "hostile.pt")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (block.TorchVision, ("resnet18", "DEFAULT")),  # would download weights
        (tasks.DetectionModel, ("https://example.org/model.yaml",)),
        (tasks.ClassificationModel, ("yolov8n-cls.yaml",)),
        (torch.nn.Linear, (2, 2)),
    ],
)
def test_nothing_is_constructed(kind: type, arguments: tuple[Any, ...], tmp_path: Path) -> None:
    """Known classes are restored, never called: their constructors do more than they seem to."""
    torch.save({"model": Payload(kind, *arguments)}, tmp_path / "hostile.pt")
    with pytest.raises(UserError, match=f"asks for a {kind.__name__} to be constructed"):
        load_detector(tmp_path / "hostile.pt")
    assert torch.nn.Linear(2, 2).in_features == 2  # elsewhere nothing has changed


def test_without_a_safe_loader_nothing_is_loaded(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    with pytest.raises(UserError, match=r"torch 2\.6 or newer"):
        load_detector(small)


# What is no detector


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    for name, reason in [("none.pt", "no such file"), ("folder.pt", "is not a file")]:
        with pytest.raises(UserError, match=f"{name}.*{reason}.*local .pt file"):
            load_detector(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        load_detector("https://example.org/yolov8n.pt")


@pytest.mark.parametrize("name", ["model.onnx", "model.torchscript", "model.engine", "model"])
def test_exported_models_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0")
    with pytest.raises(UserError, match=r"is not a \.pt file"):
        load_detector(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not a model\n", b"PK\x03\x04", b"\x80\x04."])
def test_what_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"a.pt cannot be loaded: it is no PyTorch checkpoint, or"):
        load_detector(tmp_path / "a.pt")


def test_a_truncated_checkpoint(small: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(small.read_bytes()[:-1000])
    with pytest.raises(UserError, match="or it is damaged"):
        load_detector(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"model": None},
        {"something": 1},
        {"model": {"weight": torch.zeros(3)}},
        {"model": OrderedDict(weight=torch.zeros(3))},
        {},
    ],
)
def test_a_checkpoint_without_a_model(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no YOLO model; detect and segment models"):
        load_detector(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], "text"])
def test_a_checkpoint_of_something_else(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_detector(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(UserError, match="it is a TorchScript archive"):
        load_detector(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        (tasks.ClassificationModel, "yolov8n-cls"),
        (tasks.PoseModel, "yolov8n-pose"),
        (tasks.OBBModel, "yolov8n-obb"),
        (tasks.WorldModel, "yolov8s-worldv2"),
    ],
)
def test_models_of_other_tasks(kind: Any, architecture: str, tmp_path: Path) -> None:
    model = kind(f"{architecture}.yaml", verbose=False).half()
    torch.save({"model": model}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="detect and segment models are supported"):
        load_detector(tmp_path / "a.pt")


def test_a_plain_module(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Sequential(torch.nn.ReLU())}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"holds a Sequential .* detect and segment models"):
        load_detector(tmp_path / "a.pt")


def test_images_have_three_channels(tmp_path: Path) -> None:
    model = tasks.DetectionModel("yolov8n.yaml", ch=4, nc=2, verbose=False)
    torch.save({"model": model}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="takes images of 4 channels"):
        load_detector(tmp_path / "a.pt")


def test_every_class_has_a_name(small: Path, tmp_path: Path) -> None:
    checkpoint = read(small)
    checkpoint["model"].names = [f"class {index}" for index in range(CLASSES)]
    torch.save(checkpoint, tmp_path / "list.pt")
    assert load_detector(tmp_path / "list.pt").classes[-1] == f"class {CLASSES - 1}"
    checkpoint["model"].names = {0: "one of five"}
    torch.save(checkpoint, tmp_path / "dict.pt")
    with pytest.raises(UserError, match="does not name each of its 5 classes"):
        load_detector(tmp_path / "dict.pt")


@pytest.mark.parametrize("device", ["warp", "cuda:99", "cpu and more"])
def test_a_device_that_is_not_there(device: str, small: Path) -> None:
    with pytest.raises(UserError, match=f"the device '{device}' cannot be used: "):
        load_detector(small, device=device)


# What importing ultralytics must not do

_IMPORTS = """
import importlib, os, pkgutil, sys
import PIL.Image
before = PIL.Image.open, PIL.Image.MAX_IMAGE_PIXELS, dict(os.environ)
for package in ("nearsql.pipeline.detect", "nearsql.pipeline.loss_distance"):
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
from nearsql.pipeline.detect.weights import load_detector
load_detector(sys.argv[1])
assert "ultralytics" in sys.modules
assert (PIL.Image.open, PIL.Image.MAX_IMAGE_PIXELS) == before[:2], "PIL"
changed = {n for n in before[2].keys() | os.environ.keys() if before[2].get(n) != os.environ.get(n)}
assert not {name for name in changed if name.startswith(("YOLO", "ULTRA", "OMP"))}, changed
"""


def test_importing_ultralytics_changes_nothing_else(small: Path, tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("YOLO", "XDG"))
    }
    home = tmp_path / "home"
    home.mkdir()
    (home / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, small],
        env={**environment, "HOME": str(home), "TMPDIR": str(home / "tmp")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path for path in home.rglob("*") if path.is_file()] == []
    left = [path.name for path in (home / "tmp").iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []


@pytest.mark.assets
def test_real_weights() -> None:
    detector: Detector = load_detector(assets() / "weights" / "yolov8n-seg.pt")
    assert (detector.architecture, detector.task) == ("yolov8n-seg", "segment")
    assert detector.components == COMPONENTS["yolov8n-seg"]
    assert (len(detector.classes), detector.classes[5]) == (80, "bus")
    assert detector.licence
    assert detector.licence.startswith("AGPL-3.0")
