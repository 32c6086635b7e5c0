import contextlib
import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from indexer.decode import MAX_ASPECT, decode, shows, thumbnail
from indexer.errors import RejectedImageError
from tests.support.pictures import RED, encode, noise, picture, png_header


def pixel(image, at=(0, 0)):
    assert image.mode == "RGB"
    return image.getpixel(at)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF"])
def test_formats_without_loss_give_the_same_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}

    image = decode(encode(picture(), kind, **options))

    assert image.size == (8, 6)
    assert pixel(image) == RED


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "MPO"])
def test_formats_with_loss_give_nearly_the_same_pixels(kind):
    image = decode(encode(picture(size=(32, 32)), kind, quality=95))

    assert np.allclose(np.asarray(image)[0, 0], RED, atol=6)


def test_cmyk_becomes_rgb():
    image = decode(encode(picture(size=(16, 16)).convert("CMYK"), "JPEG", quality=95))

    assert np.allclose(np.asarray(image)[0, 0], RED, atol=6)


def test_a_palette_is_looked_up():
    source = picture().quantize(4)

    assert source.mode == "P"
    assert pixel(decode(encode(source))) == RED


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_gives_its_colour_without_a_warning(kind):
    source = picture().quantize(4)
    source.putpixel((3, 3), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode(encode(source, kind, transparency=1))

    assert pixel(image) == RED


def test_one_bit_is_black_and_white():
    source = Image.new("1", (4, 4), 0)
    source.putpixel((1, 0), 1)

    image = decode(encode(source))

    assert pixel(image) == (0, 0, 0)
    assert pixel(image, (1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_and_not_clipped(kind):
    values = np.array([[0, 128, 257, 257 * 100, 257 * 100 + 129, 65535]], np.uint16)

    image = decode(encode(Image.fromarray(values), kind))

    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 100, 101, 255]
    assert (np.asarray(image) == np.asarray(image)[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_rejected(dtype):
    data = encode(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")

    with pytest.raises(RejectedImageError, match="32-bit pixels have no defined scale"):
        decode(data)


@pytest.mark.parametrize(("mode", "color"), [("LA", (90, 10)), ("RGBA", (*RED, 10))])
def test_alpha_is_dropped_as_in_the_evaluation_of_timm(mode, color):
    image = decode(encode(Image.new(mode, (4, 4), color)))

    assert pixel(image) == (RED if mode == "RGBA" else (90, 90, 90))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_stands_for_an_animation(kind):
    frames = [picture((0, 0, 200)), picture((0, 200, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}

    data = encode(picture(), kind, save_all=True, append_images=frames, **options)

    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert pixel(decode(data)) == RED


def test_the_orientation_of_the_camera_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees

    assert decode(encode(picture(size=(40, 20)), "JPEG", exif=exif)).size == (40, 20)


def test_a_decoded_image_passes():
    assert pixel(decode(picture())) == RED
    assert decode(Image.new("L", (4, 4), 9)).mode == "RGB"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"just some text", "not an image in a known format"),
        (b"%PDF-1.4 not a picture", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "not an image|damaged"),
        (encode(noise(), "JPEG")[:-1000], "damaged: .*truncated"),
        (encode(noise(), "PNG")[:-3000], "damaged: .*truncated"),
        (encode(noise(), "GIF")[:-2000], "damaged: .*truncated"),
        (encode(noise(), "WEBP")[:200], "not an image|damaged"),
        (png_header(8, 8), "damaged"),
        (encode(picture(size=(1, 10 * MAX_ASPECT))), "too narrow: 1 × 2000"),
    ],
)
def test_what_is_no_whole_image_is_rejected(data, reason):
    with pytest.raises(RejectedImageError, match=reason):
        decode(data)


def test_too_little_memory_is_no_fault_of_the_image(monkeypatch):
    def full(image):
        raise MemoryError

    data = encode(picture())
    monkeypatch.setattr("indexer.decode._to_rgb", full)
    with pytest.raises(MemoryError):
        decode(data)


@pytest.mark.parametrize("side", [9_000, 20_000, 2_000_000_000])
def test_a_huge_image_is_rejected_without_allocating(side):
    with pytest.raises(RejectedImageError, match="too large"):
        decode(png_header(side, side))


def test_the_pixel_limit_can_be_chosen():
    data = encode(picture(size=(20, 20)))

    assert decode(data, max_pixels=400).size == (20, 20)
    with pytest.raises(RejectedImageError, match="too large: 20 × 20 pixels, the limit is 399"):
        decode(data, max_pixels=399)


@pytest.mark.parametrize("pixels", [90_000_000, 400_000_000])
def test_a_limit_above_pillows_own_is_the_one_that_counts(monkeypatch, pixels):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    data = png_header(10_000, pixels // 10_000)  # without pixels

    with pytest.raises(RejectedImageError, match=r"damaged: .*truncated"):
        decode(data, max_pixels=pixels)
    with pytest.raises(RejectedImageError, match=f"too large: .* the limit is {pixels - 1}$"):
        decode(data, max_pixels=pixels - 1)
    with pytest.raises(RejectedImageError, match="the limit is 64000000"):
        decode(data)


def test_a_canvas_that_pillow_takes_on_opening_is_within_the_limit():
    data = bytearray(encode(picture(), "GIF"))
    frame = data.index(b",", 13)
    data[frame + 5 : frame + 9] = b"\xff" * 4  # 65,535 × 65,535 pixels
    with pytest.raises(RejectedImageError, match="too large: the limit is 1000 pixels"):
        decode(bytes(data), max_pixels=1000)


WHOLE = {kind: encode(noise((24, 24)), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP")}


@given(kind=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_damage_anywhere_gives_an_image_or_a_reason(kind, data):
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    stop = data.draw(st.integers(1, len(content)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        with contextlib.suppress(RejectedImageError):
            assert decode(bytes(content[:stop]), max_pixels=10_000).mode == "RGB"


def test_a_thumbnail_fits_and_keeps_the_shape():
    small = Image.open(io.BytesIO(thumbnail(noise((400, 100)))))

    assert small.format == "JPEG"
    assert small.size == (96, 24)


def test_a_small_jpeg_is_its_own_thumbnail():
    for options, taken in [({}, True), ({"exif": b"Exif\0\0II*\0"}, False),
                           ({"icc_profile": b"profile"}, False)]:  # fmt: skip
        data = encode(noise((40, 30)), "JPEG", quality=95, **options)
        assert (thumbnail(decode(data), data) == data) is taken
    large, png = encode(noise((97, 30)), "JPEG"), encode(noise((40, 30)), "PNG")
    gray = encode(noise((40, 30)).convert("L"), "JPEG")
    for data in (large, png, gray):
        again = Image.open(io.BytesIO(thumbnail(decode(data), data)))
        assert (again.format, again.mode) == ("JPEG", "RGB")
        assert max(again.size) <= 96


def test_a_small_image_is_not_enlarged():
    source = picture(size=(32, 20))

    assert Image.open(io.BytesIO(thumbnail(source))).size == (32, 20)
    assert source.size == (32, 20)


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("size", [(40, 32), (97, 20), (640, 480)])
def test_a_thumbnail_is_known_again_and_no_other(size, quality):
    data = encode(noise(size), "JPEG", quality=quality)
    image = decode(data)

    for small in (thumbnail(image), thumbnail(image, data)):
        assert shows(image, small)
        assert shows(image, encode(Image.open(io.BytesIO(small)), "PNG"))  # other losses
        assert not shows(image.rotate(180), small)
        assert not shows(image.resize((size[0], size[1] + 9)), small)
