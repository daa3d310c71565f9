"""Reading untrusted images: what is accepted, what is refused, and how it is said."""

import hashlib
import io
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearsql.pipeline import images


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def with_orientation(value: int, format: str = "JPEG") -> bytes:
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))  # the left half
    exif = image.getexif()
    exif[0x0112] = value
    return encoded(image, format, exif=exif)


@pytest.mark.parametrize(
    ("format", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("PPM", "image/x-portable-anymap"),
    ],
)
def test_the_formats(format: str, media_type: str) -> None:
    facts = images.examine(encoded(noise(), format))
    assert (facts.width, facts.height, facts.media_type) == (40, 30, media_type)
    assert facts.metadata["format"] == format


def test_decoders_print_nothing_of_their_own(tmp_path: Path) -> None:
    """Where nobody has set logging up, Python prints what is logged as an error."""
    data = bytearray(encoded(noise(), "TIFF"))
    samples = data.index(struct.pack("<HHI", 277, 3, 1)) + 8  # its entry SamplesPerPixel
    data[samples : samples + 2] = struct.pack("<H", 57_283)
    (tmp_path / "odd.tif").write_bytes(data)
    code = (
        "import pathlib, sys; from nearsql.pipeline import images\n"
        "try: images.examine(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "except images.NotAnImage as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "odd.tif")], capture_output=True, text=True
    )
    assert (done.stdout.startswith("it is none of"), done.stderr) == (True, "")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_are_those_that_a_person_sees(format: str, orientation: int) -> None:
    data = with_orientation(orientation, format)
    facts = images.examine(data)
    shown = images.upright(data)
    assert (facts.width, facts.height) == shown.size
    assert shown.size == ((20, 10) if orientation < 5 else (10, 20))
    # Where the white half, stored on the left, is to be seen; from the EXIF specification.
    side = {
        1: "left",
        2: "right",
        3: "right",
        4: "left",
        5: "top",
        6: "top",
        7: "bottom",
        8: "bottom",
    }
    corner = {"left": (1, 5), "right": (18, 5), "top": (5, 1), "bottom": (5, 18)}
    assert shown.convert("L").getpixel(corner[side[orientation]]) > 200


def test_an_orientation_that_means_nothing_is_ignored() -> None:
    facts = images.examine(with_orientation(77))
    assert (facts.width, facts.height) == (20, 10)
    assert "exif_orientation" not in facts.metadata


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_image_is_refused_though_its_header_is_fine(format: str) -> None:
    data = encoded(noise(200, 200), format)
    with pytest.raises(images.UnreadableImage) as caught:
        images.examine(data[: len(data) // 2])
    assert caught.value.stage == "decode"


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\0" * 1000, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(images.NotAnImage), images.quiet_decoders():
        images.examine(data)


def test_pixels_are_counted_before_they_are_decoded(monkeypatch) -> None:
    data = encoded(noise(40, 30))
    assert images.examine(data, max_pixels=1200).width == 40

    def load(self) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load, raising=False)
    with pytest.raises(images.UnreadableImage, match="40 x 30 pixels, more than 1,199"):
        images.examine(data, max_pixels=1199)


def test_a_decompression_bomb_is_refused_even_when_pillows_limit_was_lifted(monkeypatch) -> None:
    bomb = encoded(Image.new("1", (20_000, 10_000)))
    assert len(bomb) < 50_000
    for limit in (Image.MAX_IMAGE_PIXELS, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(images.UnreadableImage, match="more than 178,956,970"):
            images.examine(bomb)


def test_a_large_image_below_the_limit_is_read_without_a_warning(recwarn) -> None:
    with images.quiet_decoders():
        facts = images.examine(encoded(Image.new("1", (10_000, 9_000))))
    assert facts.width == 10_000
    assert not recwarn.list


def test_whatever_a_decoder_raises_is_a_sentence(monkeypatch) -> None:
    def load(self) -> None:
        raise ZeroDivisionError("surprise")

    data = encoded(noise())
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load, raising=False)
    with pytest.raises(images.UnreadableImage, match="it cannot be decoded: surprise"):
        images.examine(data)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_images_are_read_or_refused_but_never_crash(seed: int) -> None:
    random = np.random.default_rng(seed)
    format = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"][seed % 6]
    data = bytearray(encoded(noise(), format))
    for position in random.integers(0, len(data), 12):
        data[position] = random.integers(0, 256)
    with images.quiet_decoders(), suppress(images.NotAnImage, images.UnreadableImage):
        assert images.examine(bytes(data)).width > 0
        images.upright(bytes(data))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opening it in the plain way would wait for a writer
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path, tmp_path / "gone.png"):
        with pytest.raises(images.UnreadableImage) as caught:
            images.read_image_file(path)
        assert caught.value.stage == "read"
    with pytest.raises(images.UnreadableImage):
        images.read_image_file("nul\0byte")


def test_hash_and_bytes_of_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    path = tmp_path / "file"
    path.write_bytes(data)
    assert images.read_image_file(path) == data
    with images.open_regular_file(path) as file:
        assert images.sha256_of_file(file) == hashlib.sha256(data).hexdigest()
        assert file.tell() == 0
