"""CLIP, DINO and timm: vectors as the libraries give them, and runs that make them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from checkpoints import (
    CLIP,
    DINO,
    DINO_1,
    MOBILE,
    RESNET,
    TINY,
    VIT,
    Checkpoints,
    encoded,
    new_network,
    pictures,
)
from embedded import model_row, vectors
from PIL import Image
from torchvision import transforms

from nearsql.pipeline import replay
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import CannotEncode, clip, timm_models
from nearsql.pipeline.encoders.torch_encoder import TorchEncoder
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.usefixtures("one_thread")

# DINOv2 as it ships takes 518 pixels: the tests take fewer.
SMALL = 98


def directly(features: Any, transform: Any) -> np.ndarray:
    """What a library gives when it is called by hand, on all images at once."""
    inputs = torch.stack([transform(image) for _, image in pictures()])
    with torch.inference_mode():
        return features(inputs).numpy()


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Within 1e-5 of the vectors' length, and no two images alike."""
    assert found.shape == expected.shape
    assert len(np.unique(found, axis=0)) == len(found)
    scale = np.linalg.norm(expected, axis=1, keepdims=True)
    return bool((np.abs(found - expected) <= 1e-5 * scale).all())


def test_clip_without_a_tag_is_open_clips_own(
    photos: dbapi.Connection, checkpoints: Checkpoints, caplog
) -> None:
    path = checkpoints.path(CLIP)
    model = f"clip:{CLIP}"
    caplog.clear()
    result = embed(photos, model, checkpoint=path)
    assert "No pretrained weights loaded" not in caplog.text  # as open_clip would have it
    assert (result.space, result.dimensions) == (model, 256)
    network, _, transform = open_clip.create_model_and_transforms(CLIP, pretrained=str(path))
    assert close(vectors(photos, model), directly(network.eval().encode_image, transform))
    name, family, sha256, licence, parameters = model_row(photos, model)
    assert (name, family, licence) == (model, "clip", None)
    assert parameters["checkpoint"] == {
        "path": str(path),
        "sha256": sha256,
        "bytes": path.stat().st_size,
    }
    assert parameters["preprocessing"]["mean"] == list(open_clip.OPENAI_DATASET_MEAN)
    # The field's cosine space of raw features: not of length 1.
    assert photos.execute("select metric from spaces").fetchone() == ("cosine",)
    assert not np.allclose(np.linalg.norm(vectors(photos, model), axis=1), 1)

    device, text = photos.execute(
        "select device, parameters_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert device.startswith("cpu: ")
    assert device.endswith(", 1 threads")
    assert json.loads(text)["computation"] == {
        "device": "cpu",
        "dtype": "float32",
        "autocast": None,
        "threads": 1,
        "deterministic_algorithms": False,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_benchmark": False,
    }
    assert {"wait", "model", "write"} <= result.timings.keys()

    # Again: no work; in other batches: the same to the bit; by a replay: too.
    assert embed(photos, model).run_id is None
    assert embed(photos, f"clip:{CLIP}", checkpoint=path).run_id is None
    embed(photos, model, checkpoint=path, space="in fours", batch_size=4)
    assert np.array_equal(vectors(photos, "in fours"), vectors(photos, model))
    assert photos.execute("select count(*) from models").fetchone() == (1,)
    assert result.run_id is not None
    assert replay.replay(photos, result.run_id).is_same


def test_a_tag_counts_also_when_the_weights_are_a_file(
    photos: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    path = checkpoints.path(MOBILE)
    embed(photos, f"clip:{MOBILE}", checkpoint=path, collection="photos")
    found = vectors(photos, f"photos/clip:{MOBILE}")
    network, _, forgetful = open_clip.create_model_and_transforms(MOBILE, pretrained=str(path))
    as_the_tag_says = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(256),
            transforms.ToTensor(),
        ]
    )
    network.eval()
    assert close(found, directly(network.encode_image, as_the_tag_says))
    # What open_clip makes of the same file: another mean, another interpolation, other vectors.
    assert not close(found, directly(network.encode_image, forgetful))
    name, _, _, _, parameters = model_row(photos, f"photos/clip:{MOBILE}")
    assert name == f"clip:{MOBILE}/dfndr2b"
    assert parameters["preprocessing"] == {
        "size": 256,
        "mode": "RGB",
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "interpolation": "bilinear",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    # With the tag written out it is the same model.
    again = embed(photos, f"clip:{MOBILE}/DFNDR2B", space=f"photos/clip:{MOBILE}")
    assert again.run_id is None


def test_quick_gelu_is_the_tags(checkpoints: Checkpoints, monkeypatch) -> None:
    # As open_clip's own entries of OpenAI's weights say it, on a smaller network.
    entry = {**open_clip.get_pretrained_cfg("RN50", "openai"), "url": "", "hf_hub": ""}
    assert entry["quick_gelu"]
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, {"openai": entry})
    options = {"checkpoint": str(checkpoints.path(TINY))}
    model = clip.fit(clip.full_name(f"clip:{TINY}"), "s", options, None)  # type: ignore[arg-type]
    assert model.name == f"clip:{TINY}/openai"
    assert model.parameters["quick_gelu"] is True
    network = clip._network(model)
    kinds = {type(module).__name__ for module in network.modules()}
    assert "QuickGELU" in kinds
    assert "GELU" not in kinds


@pytest.mark.parametrize(
    ("model", "size", "licence"),
    [(f"dino:{DINO}", SMALL, "apache-2.0"), (f"dino:{DINO_1}", 64, "apache-2.0")],
)
def test_dino_is_timms_own(
    photos: dbapi.Connection, checkpoints: Checkpoints, model: str, size: int, licence: str
) -> None:
    name = model.partition(":")[2]
    path = checkpoints.path(name)
    result = embed(photos, model, checkpoint=path, size=size)
    assert (result.space, result.dimensions) == (model, 384)
    network = timm.create_model(
        name, num_classes=0, dynamic_img_size=True, checkpoint_path=str(path)
    ).eval()
    config = timm.data.resolve_data_config({"input_size": (3, size, size)}, model=network)
    transform = timm.data.create_transform(**config)
    assert close(vectors(photos, model), directly(network, transform))
    row = model_row(photos, model)
    assert row[:2] == (model, "dino")
    assert row[3] == licence
    assert row[4]["options"] == {"size": size}
    assert row[4]["preprocessing"]["crop_pct"] == config["crop_pct"]
    assert result.run_id is not None
    assert replay.replay(photos, result.run_id).is_same
    with pytest.raises(UserError, match=f"was made with --size {size}, not 224"):
        embed(photos, model, size=224)
    assert embed(photos, f"timm:{name}", space=model).run_id is None


def test_another_network_of_timm_without_its_classifier(
    photos: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    path = checkpoints.path(RESNET)
    embed(photos, f"timm:{RESNET}", checkpoint=path)
    network = new_network(RESNET)
    network.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    assert close(vectors(photos, f"timm:{RESNET}"), directly(network, transform))
    name, family, _, licence, parameters = model_row(photos, f"timm:{RESNET}")
    assert (name, family, licence) == (f"timm:{RESNET}", "other", "apache-2.0")
    assert parameters["preprocessing"]["crop_pct"] == 0.95


def test_what_cannot_be_an_image_is_told_and_the_rest_goes_on(
    photos: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    photos.execute("update item_images set data = x'00' where item_id = 2")
    photos.execute(
        "update items set sha256 = '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'"
        " where id = 2"
    )
    photos.commit()
    model = f"clip:{TINY}"
    result = embed(photos, model, checkpoint=checkpoints.path(TINY), batch_size=2)
    assert (result.counts["vectors"], result.counts["errors"]) == (5, 1)
    errors = photos.execute("select item_id, stage, message from item_errors").fetchall()
    assert [(item, stage) for item, stage, _ in errors] == [(2, "embed")]
    assert "none of JPEG" in errors[0][2]
    assert result.run_id is not None
    assert replay.replay(photos, result.run_id).is_same
    assert embed(photos, model).run_id is None


def test_interrupted_and_run_again(
    photos: dbapi.Connection, checkpoints: Checkpoints, monkeypatch
) -> None:
    model = f"clip:{TINY}"
    embed(photos, model, checkpoint=checkpoints.path(TINY), space="whole")
    encode = TorchEncoder.__call__
    calls = []

    def interrupted(self, batch):
        calls.append(len(batch["prepared"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, batch)

    monkeypatch.setattr(TorchEncoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(photos, model, checkpoint=checkpoints.path(TINY), space="part", batch_size=2)
    assert len(vectors(photos, "part")) == 4
    monkeypatch.undo()
    result = embed(photos, model, space="part", batch_size=5)
    assert (result.counts["already"], result.counts["vectors"]) == (4, 2)
    assert np.array_equal(vectors(photos, "part"), vectors(photos, "whole"))


def test_out_of_memory_on_a_gpu_halves_the_batch(
    photos: dbapi.Connection, checkpoints: Checkpoints, monkeypatch
) -> None:
    model = f"clip:{TINY}"
    embed(photos, model, checkpoint=checkpoints.path(TINY), space="whole")
    encode = TorchEncoder.__call__
    sizes = []

    def small_memory(self, batch):
        sizes.append(len(batch["prepared"]))
        if len(batch["prepared"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return encode(self, batch)

    monkeypatch.setattr(TorchEncoder, "__call__", small_memory)
    embed(photos, model, checkpoint=checkpoints.path(TINY), space="halved")
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    assert np.array_equal(vectors(photos, "halved"), vectors(photos, "whole"))


def test_an_embedding_run_writes_nothing_that_a_detector_writes(
    photos: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    photos.execute("pragma foreign_keys = on")
    runs = [
        embed(photos, f"clip:{CLIP}", checkpoint=checkpoints.path(CLIP)).run_id,
        embed(photos, f"dino:{DINO_1}", checkpoint=checkpoints.path(DINO_1), size=32).run_id,
    ]
    families = photos.execute(
        "select m.family from runs r join models m on m.id = r.model_id where r.kind = 'embed'"
        " order by r.id"
    ).fetchall()
    assert families == [("clip",), ("dino",)]
    rows = {
        "predictions": "(run_id, item_id, class_id, confidence, x_min, y_min, x_max, y_max)"
        " values (?, 1, 0, 0.5, 0, 0, 1, 1)",
        "losses": "(run_id, item_id, component, value) values (?, 1, 'box', 1)",
        "image_metrics": "(run_id, item_id, n_pred) values (?, 1, 0)",
        "feature_maps": "(run_id, item_id, layer, shape_json, dtype, data)"
        " values (?, 1, 'p3', '[1]', 'float32', x'00000000')",
        "loss_distances": "(run_id, target_item_id, image_item_id, component, distance)"
        " values (?, 1, 2, 'cls', 1)",
    }
    (detector,) = photos.execute(
        "insert into models (name, family) values ('a detector', 'yolo') returning id"
    ).fetchone()
    (detected,) = photos.execute(
        "insert into runs (kind, model_id) values ('detect', ?) returning id", (detector,)
    ).fetchone()
    for table, row in rows.items():
        for run_id in runs:
            with pytest.raises(dbapi.IntegrityError, match=f"{table} come only from .* yolo"):
                photos.execute(f"insert into {table} {row}", (run_id,))
        photos.execute(f"insert into {table} {row}", (detected,))  # the row itself is right
        for run_id in runs:
            with pytest.raises(dbapi.IntegrityError, match=f"{table} come only from .* yolo"):
                photos.execute(f"update {table} set run_id = ?", (run_id,))
    with pytest.raises(dbapi.IntegrityError, match="never changes"):
        photos.execute("update models set family = 'yolo' where family in ('clip', 'dino')")
    with pytest.raises(dbapi.IntegrityError, match="never changes"):
        photos.execute("update runs set model_id = ? where id = ?", (detector, runs[0]))


@pytest.mark.parametrize("name", ["levit_128s", "convnext_atto", "test_maxvit", "test_nfnet"])
def test_classifiers_of_all_sorts_are_left_out(checkpoints: Checkpoints, name: str) -> None:
    options = {"checkpoint": str(checkpoints.path(name)), "size": None}
    full_name = timm_models.full_name(f"timm:{name}")
    model = timm_models.fit(full_name, "s", options, None)  # type: ignore[arg-type]
    encoder = timm_models.load(model, "cpu")
    network = new_network(name)
    network.reset_classifier(0)
    prepared = encoder.prepare(pictures()[0][0])
    with torch.inference_mode():
        expected = network(prepared[None]).numpy()
    found = encoder({"item_id": [1], "prepared": [prepared]})["vector"]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_options_and_devices_that_do_not_do(
    photos: dbapi.Connection, checkpoints: Checkpoints, monkeypatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = checkpoints.path(VIT)
    for name, options, sentence in (
        (f"timm:{VIT}", {"device": "cuda"}, "there is no cuda here"),
        (f"timm:{VIT}", {"device": "tpu"}, "--device is auto, cpu, cuda, mps"),
        (f"timm:{VIT}", {"size": 5000}, "--size must be from 1 to 4096"),
        (f"timm:{VIT}", {"size": 31}, "takes no images of 31 x 31: .*divisible"),
        (f"timm:{VIT}", {"seed": 1}, "no --seed: it has --checkpoint, --size"),
        (f"clip:{TINY}", {"size": 64}, "no --size: it has --checkpoint"),
    ):
        with pytest.raises(UserError, match=sentence):
            embed(photos, name, checkpoint=path, **options)


def test_an_image_too_long_to_be_scaled(checkpoints: Checkpoints) -> None:
    options = {"checkpoint": str(checkpoints.path(RESNET)), "size": 224}
    model = timm_models.fit(f"timm:{RESNET}", "s", options, None)  # type: ignore[arg-type]
    encoder = timm_models.load(model, "cpu")
    with pytest.raises(CannotEncode, match="it has 5000 x 1 pixels, too long"):
        encoder.prepare(encoded(Image.new("RGB", (5000, 1)), "PNG"))
    assert encoder.prepare(encoded(Image.new("RGB", (500, 1)), "PNG")).shape == (3, 224, 224)


def test_the_command(tmp_path: Path, checkpoints: Checkpoints) -> None:
    file = tmp_path / "t.db"
    db = connection.create(file)
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")

    code = "from nearsql.pipeline.cli import main; main()"
    options = ["--model", f"timm:{VIT}", "--device", "cpu", "--collection", "photos"]
    command = [sys.executable, "-c", code, "embed", str(file), *options, "--checkpoint"]
    made = subprocess.run([*command, str(checkpoints.path(VIT))], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout == ""
    assert re.search(r"of vectors, 1.5 MB of weights on cpu: .* threads\n", made.stderr)
    assert f"the space 'photos/timm:{VIT}' has 64 dimensions" in made.stderr
    assert re.search(r"besides the model +\d+% of [\d.]+ s", made.stderr)
    db.close()
