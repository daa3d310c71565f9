"""Small pictures of images: upright, on white, no larger than asked, and never of what is not to be decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from nearsql.datasette_plugins import pixels
from nearsql.datasette_plugins.images import image_type
from nearsql.pipeline import images


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def four_corners(width: int, height: int) -> Image.Image:
    """Red, green, blue and yellow quarters, so that every turn looks different."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2] = (255, 0, 0)
    array[: height // 2, width // 2 :] = (0, 255, 0)
    array[height // 2 :, : width // 2] = (0, 0, 255)
    array[height // 2 :, width // 2 :] = (255, 255, 0)
    return Image.fromarray(array)


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture))


def test_it_reads_what_ingest_reads() -> None:
    assert pixels.FORMATS == images.FORMATS
    assert pixels.MAX_PIXELS == images.MAX_PIXELS


@pytest.mark.parametrize("size", [96, 192, 768])
def test_the_longer_side_is_as_asked_and_nothing_is_enlarged(size: int) -> None:
    data = encoded(four_corners(640, 320), "JPEG")
    small = opened(pixels.small_picture(data, size))
    assert small.size == ((size, size // 2) if size < 640 else (640, 320))
    assert small.format == "JPEG"


def test_of_tiny_images_each_pixel_keeps_its_colour() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    picture = pixels.small_picture(encoded(Image.fromarray(noise)), 192)
    assert image_type(picture) == "image/png"
    assert np.array_equal(np.asarray(opened(picture)), noise)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_it_is_turned_as_ingest_turns_it(orientation: int, format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(four_corners(400, 200), format_, exif=exif)
    small = opened(pixels.small_picture(data, 192)).convert("RGB")
    upright = images.upright(data).convert("RGB").resize(small.size)
    assert small.size == ((96, 192) if orientation > 4 else (192, 96))
    difference = np.asarray(small).astype(int) - np.asarray(upright)
    assert np.abs(difference).mean() < 8


def test_an_exif_block_that_is_broken_turns_nothing() -> None:
    data = encoded(four_corners(400, 200), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert opened(pixels.small_picture(data, 96)).size == (96, 48)


def test_what_the_camera_wrote_down_is_left_out() -> None:
    exif = Image.Exif()
    exif[0x010E] = "my home address"
    data = encoded(four_corners(400, 200), "JPEG", exif=exif)
    assert b"my home address" in data
    assert b"my home address" not in pixels.small_picture(data, 192)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (300, 300), (200, 0, 0, 0))
    clear.paste((0, 0, 200, 255), (0, 0, 150, 300))
    if mode == "P":
        image = clear.convert("RGB").quantize(4)
        image.info["transparency"] = image.getpixel((299, 0))
        data = encoded(image, transparency=image.info["transparency"])
    elif mode == "PA":
        data = encoded(clear, "GIF")
    else:
        data = encoded(clear.convert(mode))
    small = opened(pixels.small_picture(data, 96)).convert("RGB")
    assert min(small.getpixel((90, 50))) > 245
    assert max(small.getpixel((5, 50))) < 245


@pytest.mark.parametrize(
    ("mode", "value", "shown"),
    [("L", 200, 200), ("I;16", 32896, 128), ("1", 1, 255), ("CMYK", (0, 0, 0, 255), 0)],
)
def test_other_depths_become_eight_bits(mode: str, value: object, shown: int) -> None:
    image = Image.new(mode, (200, 200), value)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    small = opened(pixels.small_picture(data, 96)).convert("RGB")
    assert all(abs(channel - shown) <= 2 for channel in small.getpixel((48, 48)))


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (200, 200), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert opened(pixels.small_picture(data, 96)).convert("RGB").getpixel((5, 5))[0] > 200


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds a few compressed bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(bytes(2**16))),
            chunk(b"IEND", b""),
        )
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (png_header(100_000, 100_000), "it has more than 178,956,970 pixels"),
        (png_header(400, 400), "it cannot be decoded: "),
        (encoded(four_corners(300, 300), "JPEG")[:400], "it cannot be decoded: "),
        (encoded(Image.new("F", (200, 200), 0.5), "TIFF"), "floating-point"),
        (encoded(Image.new("I", (200, 200), 70_000), "TIFF"), "outside 0 to 65535"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is none of JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of JPEG"),
        (b"", "it is none of JPEG"),
    ],
)
def test_what_cannot_be_shown_is_said(data: bytes, sentence: str) -> None:
    with pytest.raises(pixels.Unreadable, match=sentence):
        pixels.small_picture(data, 192)


@pytest.mark.parametrize(
    "format_", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"]
)
def test_every_format_becomes_one_that_browsers_draw(format_: str) -> None:
    picture = pixels.small_picture(encoded(four_corners(300, 300), format_), 96)
    assert image_type(picture) == "image/jpeg"
    red, green, blue = opened(picture).getpixel((10, 10))
    assert red > 200
    assert max(green, blue) < 60
