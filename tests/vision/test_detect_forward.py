"""One forward pass gives everything, and leaves the network as it was."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectors import FAMILIES, random_image, saved_detector

from nearsql.pipeline import devices
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.forward import Outputs, find_layers, forward
from nearsql.pipeline.detect.letterbox import letterbox
from nearsql.pipeline.detect.weights import Detector, load_detector, state_sha256

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.nn.tasks import DetectionModel

SIZE = 160
# Two networks that differ in everything a forward pass gives.
BOTH = pytest.mark.parametrize("family", ["yolov8n-seg", "yolo26n-seg"])

Square = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def loaded() -> dict[str, Detector]:
    return {family: load_detector(saved_detector(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def squares() -> list[Square]:
    return [letterbox(random_image(seed), SIZE)[0] for seed in range(3)]


def own_forward(path: Path, squares: list[Square]) -> Any:
    """The slow, obvious twin: ultralytics' own model in evaluation mode."""
    model = torch.load(path, weights_only=False)["model"].float().eval()
    if hasattr(model.model[-1], "one2one_cv2"):
        model.end2end = True
    images = torch.stack([torch.tensor(square).permute(2, 0, 1) for square in squares])
    with torch.no_grad():
        return model(images / 255)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_outputs_are_the_networks_own(
    family: str, loaded: dict[str, Detector], squares: list[Square]
) -> None:
    detector = loaded[family]
    found = forward(detector, squares)
    decoded, raw = own_forward(saved_detector(family), squares)
    if detector.task == "segment":
        decoded, prototypes = decoded
        assert found.prototypes is not None
        torch.testing.assert_close(found.prototypes, prototypes)
    else:
        assert found.prototypes is None
    raw = raw["one2one"] if detector.is_end_to_end else raw
    torch.testing.assert_close(found.decoded, decoded)
    torch.testing.assert_close(found.raw["scores"], raw["scores"])
    torch.testing.assert_close(found.raw["boxes"], raw["boxes"])
    assert list(found.features) == ["p3", "p4", "p5"]
    for side, map_, expected in zip(
        (20, 10, 5), found.features.values(), raw["feats"], strict=True
    ):
        assert map_.shape[2:] == (side, side)
        torch.testing.assert_close(map_, expected)
    assert ("sem" in detector.components) == isinstance(found.raw.get("proto"), tuple)


@BOTH
def test_an_image_gives_the_same_alone_and_among_others(
    family: str, loaded: dict[str, Detector], squares: list[Square]
) -> None:
    together = forward(loaded[family], squares, layers=["9"])
    for i, square in enumerate(squares):
        alone = forward(loaded[family], [square], layers=["9"])
        assert_close(together.item(i), alone)


def assert_close(found: Outputs, expected: Outputs) -> None:
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(found.raw["boxes"], expected.raw["boxes"], **close)
    torch.testing.assert_close(found.raw["scores"], expected.raw["scores"], **close)
    torch.testing.assert_close(found.raw["proto"], expected.raw["proto"], **close)
    torch.testing.assert_close(found.raw["feats"], expected.raw["feats"], **close)
    assert found.features.keys() == expected.features.keys()
    for name in found.features:
        torch.testing.assert_close(found.features[name], expected.features[name], **close)


@BOTH
def test_an_item_is_a_view(family: str, loaded: dict[str, Detector], squares: list[Square]) -> None:
    outputs = forward(loaded[family], squares)
    item = outputs.item(2)
    for whole, part in [
        (outputs.decoded, item.decoded),
        (outputs.raw["scores"], item.raw["scores"]),
        (outputs.raw["feats"][1], item.raw["feats"][1]),
        (outputs.features["p5"], item.features["p5"]),
        (outputs.prototypes, item.prototypes),
    ]:
        assert whole is not None
        assert part is not None
        assert part.shape == (1, *whole.shape[1:])
        assert part.data_ptr() == whole[2].data_ptr()


@BOTH
def test_one_pass_for_all_and_none_of_it_stays(
    family: str, loaded: dict[str, Detector], squares: list[Square]
) -> None:
    detector = loaded[family]
    before, counted = state_sha256(detector), detector.n_forwards
    calls: list[int] = []
    handle = detector.network.register_forward_pre_hook(
        lambda module, args: calls.append(len(args[0]))
    )
    hooks = count_hooks(detector)
    forward(detector, squares, layers=["9", "4:C2f" if family == "yolov8n-seg" else "4:C3k2"])
    forward(detector, squares[:1])
    assert count_hooks(detector) == hooks
    handle.remove()
    assert calls == [3, 1]
    assert detector.n_forwards - counted == 4
    assert state_sha256(detector) == before


def count_hooks(detector: Detector) -> int:
    return sum(len(module._forward_hooks) for module in detector.network.modules())


@BOTH
def test_any_layer_by_its_number(
    family: str, loaded: dict[str, Detector], squares: list[Square]
) -> None:
    detector = loaded[family]
    outputs = forward(detector, squares, layers=["9:SPPF", "9", "0", "p4", "2"])
    assert list(outputs.features) == ["p3", "p4", "p5", "9:SPPF", "9", "0", "2"]
    images = torch.tensor(np.stack(squares)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        first = detector.network.model[0](images)
        averages = torch.stack(detector.network.predict(images, embed=[9]))
    torch.testing.assert_close(outputs.features["0"], first)
    torch.testing.assert_close(outputs.features["9"].mean((2, 3)), averages)
    assert torch.equal(outputs.features["9"], outputs.features["9:SPPF"])


@pytest.mark.parametrize(
    "layer", ["22", "99", "-1", "9:Conv", "SPPF", "", "9:", " 9", "٩", "p6", "99999999999"]
)
def test_a_layer_that_is_not_there(layer: str, loaded: dict[str, Detector]) -> None:
    with pytest.raises(UserError) as error:
        find_layers(loaded["yolov8n"], ["p3", layer])
    assert f"yolov8n has no layer {layer!r}; it has p3, p4, p5, 0:Conv, 1:Conv" in str(error.value)
    assert str(error.value).endswith("21:C2f")


def save(path: Path, model: Any) -> Path:
    torch.save({"model": model}, path)
    return path


def test_a_layer_that_gives_no_map(tmp_path: Path) -> None:
    layers: list[list[Any]] = [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "CBLinear", [[8, 16]]],  # gives several maps at once
        [1, 1, "Conv", [8, 3, 2]],
    ]
    architecture = {"nc": 2, "backbone": layers, "head": [[[1, 3], 1, "Detect", ["nc"]]]}
    path = save(tmp_path / "own.pt", DetectionModel(architecture, verbose=False))
    detector = load_detector(path)
    assert (detector.architecture, detector.strides) == ("DetectionModel", (4, 8))
    square, _ = letterbox(random_image(1), 32)
    assert list(forward(detector, [square], layers=["3"]).features) == ["p2", "p3", "3"]
    with pytest.raises(UserError, match=r"'2' gives no map of features; it has p2, p3, 0:Conv"):
        forward(detector, [square], layers=["2"])
    assert count_hooks(detector) == 0


def test_the_head_inputs_of_a_larger_pyramid(tmp_path: Path) -> None:
    model = DetectionModel("yolov8n-p6.yaml", nc=2, verbose=False)
    detector = load_detector(save(tmp_path / "p6.pt", model))
    assert detector.strides == (8, 16, 32, 64)
    square, _ = letterbox(random_image(1), 64)
    assert list(forward(detector, [square]).features) == ["p3", "p4", "p5", "p6"]
    square, _ = letterbox(random_image(1), 96)
    with pytest.raises(UserError, match="a multiple of 64 pixels, not 96 x 96 x 3"):
        forward(detector, [square])


@pytest.mark.parametrize("shape", [(100, 100, 3), (64, 32, 3), (64, 64, 1), (64, 64), (0, 0, 3)])
def test_shapes_that_the_network_cannot_take(
    shape: tuple[int, ...], loaded: dict[str, Detector]
) -> None:
    with pytest.raises(UserError, match="square RGB images whose side is a multiple of 32"):
        forward(loaded["yolov8n"], [np.zeros(shape, np.uint8)])


def test_squares_of_one_size_are_taken_together(loaded: dict[str, Detector]) -> None:
    small, large = np.zeros((32, 32, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="squares of one size"):
        forward(loaded["yolov8n"], [small, large])
    with pytest.raises(ValueError, match="squares of one size"):
        forward(loaded["yolov8n"], [])


@pytest.mark.parametrize("family", ["yolov8n-seg", "yolo26n-seg"])
def test_half_precision_ends_before_the_boxes(
    family: str,
    loaded: dict[str, Detector],
    squares: list[Square],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bfloat16(device: str) -> AbstractContextManager[Any]:
        assert device == "cpu"
        return torch.autocast(device, dtype=torch.bfloat16)

    detector = loaded[family]
    exact = forward(detector, squares)
    monkeypatch.setattr(devices, "autocast", bfloat16)
    detector.network.model[-1].shape = None  # so that it makes its anchors in half precision
    half = forward(detector, squares, layers=["9"], autocast=True)
    tensors = [half.decoded, *half.features.values(), half.raw["boxes"], *half.raw["feats"]]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert half.prototypes is not None
    assert half.prototypes.dtype == torch.float32
    # It was half precision indeed, ...
    assert not torch.equal(half.raw["boxes"], exact.raw["boxes"])
    assert torch.equal(half.features["9"], half.features["9"].bfloat16().float())
    # ... but the boxes are exactly those that float32 makes of what came out.
    head = load_detector(detector.path).network.model[-1]
    with torch.inference_mode():
        decoded = head._inference(half.raw)
        if detector.is_end_to_end:
            decoded = head.postprocess(decoded.permute(0, 2, 1))
    assert torch.equal(half.decoded, decoded)
    torch.testing.assert_close(forward(detector, squares).decoded, exact.decoded)


def test_autocast_means_nothing_on_a_cpu(
    loaded: dict[str, Detector], squares: list[Square]
) -> None:
    detector = loaded["yolov8n"]
    found = forward(detector, squares, autocast=True)
    assert torch.equal(found.decoded, forward(detector, squares).decoded)


def test_out_of_memory_is_handed_on(
    loaded: dict[str, Detector], squares: list[Square], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    detector = loaded["yolov8n"]
    counted = detector.n_forwards
    monkeypatch.setattr(detector.network.model[12], "forward", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        forward(detector, squares, layers=["9"])
    assert (detector.n_forwards, count_hooks(detector)) == (counted, 0)
