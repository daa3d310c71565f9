"""CLIP, DINO and timm: vectors as the libraries give them, from weights that nobody vouches for."""

import json
import logging
import os
import pickle
import re
import shutil
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
    TINY_CUSTOM,
    VIT,
    Checkpoints,
    encoded,
    new_network,
    pictures,
)
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

from nearsql.pipeline import replay
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import CannotEncode, clip, timm_models
from nearsql.pipeline.encoders.torch_encoder import TorchEncoder
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.udfs import connection, dbapi

# DINOv2 as it ships takes 518 pixels: the tests take fewer.
SMALL = 98


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photos(db: dbapi.Connection) -> dbapi.Connection:
    """The database with six pictures of all sorts, items 1 to 6."""
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")
    return db


def vectors(db: dbapi.Connection, space: str) -> np.ndarray:
    rows = db.execute(
        "select v.vector from vectors v join spaces s on s.id = v.space_id where s.name = ?"
        " order by v.item_id",
        (space,),
    ).fetchall()
    return np.array([np.frombuffer(vector, "<f4") for (vector,) in rows])


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


def model_row(db: dbapi.Connection, space: str) -> tuple[str, str, str, str | None, dict[str, Any]]:
    row = db.execute(
        "select m.name, m.family, m.checkpoint_sha256, m.licence, m.parameters_json"
        " from spaces s join models m on m.id = s.model_id where s.name = ?",
        (space,),
    ).fetchone()
    return (*row[:4], json.loads(row[4]))


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


def test_other_weights_never_share_a_space_or_a_model(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    model = f"timm:{VIT}"
    first, second = (checkpoints.path(VIT, seed) for seed in (0, 1))
    embed(photos, model, checkpoint=first, size=32)
    with pytest.raises(UserError, match=r"made with another checkpoint .*--space"):
        embed(photos, model, checkpoint=second, size=32)
    embed(photos, model, checkpoint=second, size=32, space="second")
    embed(photos, model, checkpoint=second, size=48, space="larger")
    rows = photos.execute("select name, checkpoint_sha256 from models order by id").fetchall()
    assert [name for name, _ in rows] == [
        f"timm:{VIT}",
        f"timm:{VIT}#2",
        f"timm:{VIT}#3",
    ]
    assert len({sha256 for _, sha256 in rows}) == 2
    assert not np.allclose(vectors(photos, model), vectors(photos, "second"))

    # The same weights elsewhere are the same model, and its place is what was said last.
    moved = shutil.copy(first, tmp_path / "moved.pt")
    assert embed(photos, model, checkpoint=moved).run_id is None
    assert model_row(photos, model)[4]["checkpoint"]["path"] == str(moved)
    embed(photos, model, checkpoint=first, size=32, space="third")
    assert photos.execute("select count(*) from models").fetchone() == (3,)
    assert model_row(photos, model)[4]["checkpoint"]["path"] == str(first)


def test_a_checkpoint_that_was_moved_or_changed(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    model = f"timm:{VIT}"
    path = Path(shutil.copy(checkpoints.path(VIT), tmp_path / "weights.pt"))
    made = embed(photos, model, checkpoint=path, size=32)
    photos.execute("delete from vectors where item_id = 1")
    photos.commit()
    path.rename(tmp_path / "new.pt")
    with pytest.raises(UserError, match=r"No such file.*if it was moved.*--checkpoint PATH"):
        embed(photos, model)
    shutil.copy(checkpoints.path(VIT, 1), path)
    with pytest.raises(UserError, match=r"weights.pt has changed: its SHA-256"):
        embed(photos, model)
    assert made.run_id is not None
    with pytest.raises(replay.CannotReplay, match="has changed"):
        replay.replay(photos, made.run_id)
    embed(photos, model, checkpoint=tmp_path / "new.pt")
    assert len(vectors(photos, model)) == 6
    assert (
        replay.replay(photos, made.run_id).is_same is False
    )  # of item 1 it has no vector any more


class Payload:
    """What a hostile checkpoint holds."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return (os.mkdir, (str(self.proof),))


def test_hostile_and_wrong_checkpoints_are_refused(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    state = torch.load(checkpoints.path(VIT), weights_only=True)
    fewer = {name: value for name, value in state.items() if not name.startswith("blocks.0.")}
    hostile = tmp_path / "hostile.pt"
    torch.save({"state_dict": state, "epoch": Payload(proof)}, hostile)
    # It would run, if it were loaded as pickles are.
    pickle.loads(pickle.dumps(Payload(proof)))
    proof.rmdir()
    old = tmp_path / "old.pth"
    old.write_bytes(pickle.dumps(Payload(proof)))
    torch.save(fewer, tmp_path / "fewer.pt")
    torch.save({**state, "extra.weight": torch.ones(1)}, tmp_path / "more.pt")
    torch.save({**state, "cls_token": torch.ones(1, 1, 5)}, tmp_path / "shapes.pt")
    torch.save({**state, "norm.bias": torch.ones(64, device="meta")}, tmp_path / "meta.pt")
    torch.save([1, 2], tmp_path / "list.bin")
    torch.save({}, tmp_path / "empty.pt")
    (tmp_path / "cut.pt").write_bytes(checkpoints.path(VIT).read_bytes()[:100_000])
    (tmp_path / "cut.safetensors").write_bytes(b"\xff\x00\x00\x00\x00\x00\x00\x00{")
    (tmp_path / "zero.pt").write_bytes(b"")
    (tmp_path / "text.txt").write_text("weights")
    (tmp_path / "folder.pt").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    for file, sentence in (
        ("hostile.pt", r"hostile.pt is refused: it holds more than tensors, such as .*mkdir"),
        ("old.pth", "old.pth is refused: it holds more than tensors"),
        (
            "fewer.pt",
            r"no checkpoint of .*: \d+ of \d+ tensors are missing \(blocks.0.norm1.weight",
        ),
        ("more.pt", r"1 of \d+ tensors have no place in it \(extra.weight\)"),
        (
            "shapes.pt",
            r"1 of \d+ .* another shape \(cls_token \(1, 1, 5\) instead of \(1, 1, 64\)",
        ),
        ("meta.pt", "holds no state dict"),
        ("list.bin", "holds no state dict"),
        ("empty.pt", "holds no state dict"),
        ("cut.pt", "cannot be read as weights"),
        ("cut.safetensors", "cannot be read as weights"),
        ("zero.pt", "cannot be read as weights: it is damaged"),
        ("text.txt", r"text.txt is no checkpoint: those are files whose name ends in .safetensors"),
        ("folder.pt", "not a regular file|Is a directory"),
        ("pipe.pt", "not a regular file"),
        ("gone.pt", "No such file"),
        ("pipe.pt\0", "no checkpoint"),
    ):
        with pytest.raises(UserError, match=sentence) as caught:
            embed(photos, f"timm:{VIT}", checkpoint=f"{tmp_path}/{file}", size=32)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not proof.exists()
    assert photos.execute("select count(*) from models").fetchone() == (0,)
    assert photos.execute("select count(*) from runs where kind = 'embed'").fetchone() == (0,)


def test_checkpoints_as_training_scripts_write_them(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    state = torch.load(checkpoints.path(RESNET), weights_only=True)
    other = torch.load(checkpoints.path(RESNET, 1), weights_only=True)
    wrapped = {f"module.{name}": value for name, value in state.items()}
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    half = {name: value.half() for name, value in state.items()}
    embed(photos, f"timm:{RESNET}", checkpoint=checkpoints.path(RESNET), size=64, space="plain")
    for file, content in (
        ("averaged.pt", {"state_dict": other, "state_dict_ema": wrapped, "epoch": 3}),
        ("wrapped.bin", {"model": wrapped}),
        ("compiled.pth", {f"_orig_mod.{name}": value for name, value in headless.items()}),
        ("old.pt", old),
    ):
        torch.save(content, tmp_path / file)
        embed(photos, f"timm:{RESNET}", checkpoint=tmp_path / file, size=64, space=file)
        assert np.array_equal(vectors(photos, file), vectors(photos, "plain"))
    save_file(half, tmp_path / "half.safetensors")
    embed(photos, f"timm:{RESNET}", checkpoint=tmp_path / "half.safetensors", size=64, space="half")
    assert np.allclose(vectors(photos, "half"), vectors(photos, "plain"), atol=0.05)


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


def test_open_clips_older_names_are_converted(
    photos: dbapi.Connection, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    state = load_file(checkpoints.path(TINY_CUSTOM))
    older = {name.removeprefix("text."): value for name, value in state.items()}
    older["logit_scale"] = older["logit_scale"].reshape(1)
    save_file(older, tmp_path / "older.safetensors")
    embed(photos, f"clip:{TINY_CUSTOM}", checkpoint=tmp_path / "older.safetensors", space="older")
    embed(photos, f"clip:{TINY_CUSTOM}", checkpoint=checkpoints.path(TINY_CUSTOM), space="now")
    assert np.array_equal(vectors(photos, "older"), vectors(photos, "now"))


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("clip:ViT-B-32", "clip:ViT-B-32/laion2b_s34b_b79k"),
        ("clip:ViT-B-32/OpenAI", "clip:ViT-B-32/openai"),
        ("clip:ViT-B-32/laion2b-s34b-b79k", "clip:ViT-B-32/laion2b_s34b_b79k"),
        (f"clip:{MOBILE}", f"clip:{MOBILE}/dfndr2b"),
        ("clip:ViT-B-16", "clip:ViT-B-16"),
        (f"clip:{CLIP}", f"clip:{CLIP}"),
        ("dino:vit_small_patch14_dinov2", f"dino:{DINO}"),
        (f"timm:{DINO}", f"dino:{DINO}"),
        ("timm:resnet18", "timm:resnet18.a1_in1k"),
        ("timm:test_vit", "timm:test_vit.r160_in1k"),
    ],
)
def test_full_names(name: str, full: str) -> None:
    module = clip if name.startswith("clip") else timm_models
    assert module.full_name(name) == full
    assert module.full_name(full) == full


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clip:ViT-B-33", "no architecture 'ViT-B-33'"),
        ("clip:vit-b-32", "such as .*ViT-B-32"),
        ("clip:", "no architecture ''"),
        ("clip:hf-hub:org/name", "no architecture 'hf-hub:org'"),
        ("clip:local-dir:/tmp", "no architecture"),
        ("clip:ViT-B-32/nope", "has no tag 'nope': its tags are openai, "),
        (f"clip:{CLIP}/openai", "has no tag 'openai': it has none"),
        ("clip:roberta-ViT-B-32", "text side that open_clip takes from another library"),
        ("dino:resnet18", "resnet18.* is no DINO model: write timm:resnet18"),
        ("dino:dinov9", "timm has no model 'dinov9': give one as dino:NAME"),
        ("timm", "timm has no model ''"),
        ("timm:vit_small_patch14_dinov2.nope", "timm has no .*: there are .*lvd142m"),
        ("timm:hf-hub:org/resnet18", "timm has no model"),
        ("timm:local-dir:/tmp", "timm has no model"),
    ],
)
def test_names_that_do_not_do(photos: dbapi.Connection, name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        embed(photos, name, checkpoint="x.pt")


def test_without_a_checkpoint_the_weights_come_from_the_hub_or_not_at_all(
    photos: dbapi.Connection, checkpoints: Checkpoints, monkeypatch, capsys, caplog
) -> None:
    import huggingface_hub

    asked = []

    def offline(*args, **_):
        asked.append(args)
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 8s [Retry 5/5].")
        raise OSError("We cannot reach the hub.\nMore lines of advice.")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    for name in ("clip", f"clip:{MOBILE}", "dino", "timm:resnet18"):
        with pytest.raises(
            UserError, match=r"could not be fetched: .* --checkpoint \(We cannot reach the hub.\)$"
        ):
            embed(photos, name)
    said = capsys.readouterr().err
    assert said.count("fetching the weights of ") == 4
    assert not caplog.records
    assert "Retrying" not in said
    logging.getLogger("huggingface_hub.utils._http").warning("and afterwards as ever")
    assert [record.getMessage() for record in caplog.records] == ["and afterwards as ever"]
    assert [args[0].get("hf_hub") for args in asked[:2]] == [
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/",
        "timm/MobileCLIP2-S0-OpenCLIP/",
    ]
    assert asked[2:] == [
        (f"timm/{DINO}", "model.safetensors"),
        ("timm/resnet18.a1_in1k", "model.safetensors"),
    ]
    for name, sentence in (
        (f"clip:{CLIP}", "give a file with --checkpoint"),
        (
            "clip:convnext_base_w",
            r"clip:convnext_base_w/TAG \(laion2b_s13b_b82k, .*\), or a file with --checkpoint",
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            embed(photos, name)

    # What came is a local file like any other.
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *_, **__: str(checkpoints.path(RESNET))
    )
    embed(photos, f"timm:{RESNET}")
    path = model_row(photos, f"timm:{RESNET}")[4]["checkpoint"]["path"]
    assert path == str(checkpoints.path(RESNET))


def test_offline_the_hub_itself_says_no(
    photos: dbapi.Connection, tmp_path: Path, monkeypatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("clip", "dino"):
        with pytest.raises(
            UserError, match=r"could not be fetched: give .* --checkpoint"
        ) as caught:
            embed(photos, name)
        assert "\n" not in str(caught.value)


def test_weights_of_one_architecture_that_are_not_used_alike(
    photos: dbapi.Connection, checkpoints: Checkpoints
) -> None:
    with pytest.raises(
        UserError, match="are not all used alike: name the tag, as in clip:ViT-B-16/"
    ):
        embed(photos, "clip:ViT-B-16", checkpoint=checkpoints.path(TINY))


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


def test_a_hostile_model_row(photos: dbapi.Connection, checkpoints: Checkpoints) -> None:
    """Whoever wrote the file chose every value in it."""
    embed(photos, f"clip:{TINY}", checkpoint=checkpoints.path(TINY))
    embed(photos, f"timm:{RESNET}", checkpoint=checkpoints.path(RESNET), size=32)
    photos.execute("delete from vectors where item_id = 1")
    photos.commit()
    for space, path, value, sentence in (
        (f"clip:{TINY}", "$.architecture", "hf-hub:org/name", "no architecture 'hf-hub:org/name'"),
        (f"clip:{TINY}", "$.architecture", None, "does not say of which architecture"),
        (f"clip:{TINY}", "$.preprocessing.size", 10**6, "input size is 1000000"),
        (f"clip:{TINY}", "$.preprocessing.mean", "x", "mean is 'x', not three numbers"),
        (f"clip:{TINY}", "$.preprocessing.resize_mode", "x", "resize_mode is 'x'"),
        (f"clip:{TINY}", "$.preprocessing", "x", "cannot be loaded"),
        (f"clip:{TINY}", "$.checkpoint.path", "/dev/zero", "is no checkpoint"),
        (f"clip:{TINY}", "$.checkpoint", None, "does not say which checkpoint"),
        (f"timm:{RESNET}", "$.architecture", "local-dir:/tmp", "timm has no model"),
        (f"timm:{RESNET}", "$.preprocessing.interpolation", "x", "interpolation is 'x'"),
        (f"timm:{RESNET}", "$.preprocessing.crop_pct", 1e-9, "crop_pct is 1e-09"),
        (f"timm:{RESNET}", "$.preprocessing.std", [1, 2], "std is .*, not three numbers"),
    ):
        (before,) = photos.execute(
            "select parameters_json from models where id ="
            " (select model_id from spaces where name = ?)",
            (space,),
        ).fetchone()
        change = (
            "update models set parameters_json = json_set(?, ?, json(?))"
            " where id = (select model_id from spaces where name = ?)"
        )
        photos.execute(change, (before, path, json.dumps(value), space))
        photos.commit()
        with pytest.raises(UserError, match=sentence):
            embed(photos, space)
        photos.execute("update models set parameters_json = ? where name = ?", (before, space))
        photos.commit()
    assert embed(photos, f"clip:{TINY}").counts["vectors"] == 1


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
