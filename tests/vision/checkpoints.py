"""Checkpoints of open_clip's and timm's networks for tests: randomly initialised, seeded; and pictures."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

# The smallest of open_clip's that has no tag, and one whose tag prepares images in its own way.
CLIP = "ViT-S-32-alt"
MOBILE = "MobileCLIP2-S0"
DINO = "vit_small_patch14_dinov2.lvd142m"
DINO_1 = "vit_small_patch16_224.dino"

# Networks as small as can be, where nothing hangs on which it is: timm has some for its own tests.
VIT = "test_vit.r160_in1k"
RESNET = "test_resnet.r160_in1k"
TINY, TINY_CUSTOM = "tiny", "tiny-custom-text"

_OF_OPEN_CLIP = (CLIP, MOBILE, TINY, TINY_CUSTOM)

_TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def add_tiny_architectures(folder: Path) -> None:
    """Makes TINY and TINY_CUSTOM known to open_clip in this process."""
    import open_clip

    for name, custom in ((TINY, False), (TINY_CUSTOM, True)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps({**_TINY, "custom_text": custom}))
        open_clip.add_model_config(path)


def new_network(name: str, seed: int = 0) -> Any:
    """A network with random weights, those of a classifier included, as in the files that people have."""
    torch.manual_seed(seed)
    if name in _OF_OPEN_CLIP:
        import open_clip

        return open_clip.create_model(name).eval()
    import timm

    return timm.create_model(name, pretrained=False).eval()


class Checkpoints:
    """Files of weights by network, written when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        add_tiny_architectures(folder)

    def path(self, name: str, seed: int = 0) -> Path:
        """A .safetensors file for CLIP, a .pt for the others."""
        suffix = "safetensors" if name in _OF_OPEN_CLIP else "pt"
        path = self.folder / f"{name}-{seed}.{suffix}"
        if not path.exists():
            state = new_network(name, seed).state_dict()
            save = save_file if suffix == "safetensors" else torch.save
            save({key: value.contiguous() for key, value in state.items()}, path)
        return path


def _noise(seed: int, height: int, width: int) -> np.ndarray:
    """Large patches of colour with some noise on them."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + draw.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def pictures() -> list[tuple[bytes, Image.Image]]:
    """Image files of all sorts, each with the RGB image that a person sees in it."""
    plain = [Image.fromarray(_noise(seed, 90 + 40 * seed, 210 - 30 * seed)) for seed in range(5)]
    png = partial(encoded, format_="PNG")
    sideways = Image.Exif()
    sideways[0x0112] = 6  # shown turned by a quarter, clockwise
    as_jpeg = encoded(plain[1], "JPEG", quality=95, exif=sideways)
    turned = Image.open(io.BytesIO(as_jpeg)).transpose(Image.Transpose.ROTATE_270).convert("RGB")
    grey = plain[2].convert("L")
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    half = np.dstack([np.asarray(plain[3]), np.full(plain[3].size[::-1], 0, np.uint8)])
    half[: half.shape[0] // 2, :, 3] = 255
    seen = np.asarray(plain[3]).copy()
    seen[half.shape[0] // 2 :] = 255
    palette = plain[4].quantize(32)
    return [
        (png(plain[0]), plain[0]),
        (as_jpeg, turned),
        (png(deep), grey.convert("RGB")),
        (png(Image.fromarray(half)), Image.fromarray(seen)),
        (png(palette), palette.convert("RGB")),
        (png(Image.new("1", (3, 2))), Image.new("RGB", (3, 2))),
    ]
