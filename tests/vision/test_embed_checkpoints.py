"""Weights for CLIP, DINO and timm: found by name or file, told apart, and vouched for by nobody."""

import json
import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from checkpoints import (
    CLIP,
    DINO,
    MOBILE,
    RESNET,
    TINY,
    TINY_CUSTOM,
    VIT,
    Checkpoints,
)
from embedded import model_row, vectors
from safetensors.torch import save_file

from nearsql.pipeline import replay
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import embed
from nearsql.pipeline.encoders import clip, timm_models
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("one_thread")


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
