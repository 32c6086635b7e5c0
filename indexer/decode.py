"""From encoded bytes to an RGB image, or a named rejection.

The pixels are those that timm's evaluation would see: alpha is dropped, not composited, and the
EXIF orientation is left alone, since timm applies neither and a model's failures must be studied
on the images it was evaluated on. The one exception is 16-bit gray, which Pillow's own
conversion clips to white; here it is scaled.
"""

import io
import threading

import numpy as np
from PIL import Image

from .errors import RejectedImageError

MAX_PIXELS = 64_000_000
MAX_ASPECT = 200
"""Longest side over shortest: resizing the short side of a thinner image would fill the memory."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF")
THUMBNAIL_QUALITY = 85
LARGEST_THUMBNAIL = 16 * 1024
"""Bytes of a JPEG beyond which it is encoded again, as a thumbnail."""

SAME = 2.0
"""Mean difference of two thumbnails, in levels of 0 to 255, up to which they show one image: more
than versions of Pillow differ by, less than two pictures do."""

_raising = threading.Lock()


def decode(data: bytes | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the first frame as an RGB image.

    Args:
        data: an encoded image, or one that is already decoded.
        max_pixels: width × height above which an image is rejected before its pixels are read.

    Raises:
        RejectedImageError: with the reason.
        MemoryError: there is too little, which is no fault of the image; nothing else escapes.
    """
    if isinstance(data, bytes) and not data:
        raise RejectedImageError("the image is empty (0 bytes)")
    # Pillow's parsers raise whatever their arithmetic runs into on hostile bytes (struct.error,
    # IndexError, SyntaxError, ZeroDivisionError, …): here each of them means a damaged image.
    _raise_pillows_limit(max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS) if isinstance(data, bytes) else data
        _check_size(image, max_pixels)
        return _to_rgb(image)
    except (RejectedImageError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise RejectedImageError("not an image in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RejectedImageError(f"too large: the limit is {max_pixels} pixels") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise RejectedImageError(f"the image is damaged: {reason}") from error


def thumbnail(image: Image.Image, encoded: bytes | None = None, size: int = 96) -> bytes:
    """Return a JPEG of at most size × size pixels; a smaller image keeps its size.

    Args:
        image: from `decode`.
        encoded: the file that it comes from, if at hand: a small enough JPEG is taken as it is.
        size: longest side in pixels.
    """
    fits = max(image.size) <= size
    if fits and encoded is not None and _is_bare_jpeg(image, encoded):
        return encoded
    buffer = io.BytesIO()
    _shrunk(image, size).save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def shows(image: Image.Image, small: bytes) -> bool:
    """Return whether a thumbnail is one of this image, whichever version of Pillow made it.

    Args:
        image: from `decode`.
        small: from `thumbnail`, of the same or of another image.
    """
    known = Image.open(io.BytesIO(small)).convert("RGB")
    size = max(known.size)
    shrunk = _shrunk(image, size)
    if known.size != shrunk.size:
        return False
    # The stored one may be the file itself; else it lost what encoding it again loses, too.
    return _are_alike(known, shrunk) or _are_alike(
        known, Image.open(io.BytesIO(thumbnail(image, size=size)))
    )


def _are_alike(first: Image.Image, second: Image.Image) -> bool:
    difference = np.asarray(first, np.float32) - np.asarray(second, np.float32)
    return float(np.abs(difference).mean()) <= SAME


def _shrunk(image: Image.Image, size: int) -> Image.Image:
    if max(image.size) <= size:
        return image
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return small


def _is_bare_jpeg(image: Image.Image, encoded: bytes) -> bool:
    """Whether a file is a JPEG of RGB pixels without metadata that a viewer would act on.

    Viewers turn images by EXIF and recolor them by ICC profiles, which the model's input does not.
    An image that `decode` had to convert no longer knows its format.
    """
    bare = image.format == "JPEG" and not {"exif", "icc_profile", "adobe"} & image.info.keys()
    return bare and len(encoded) <= LARGEST_THUMBNAIL


def _raise_pillows_limit(max_pixels: int) -> None:
    """Keep Pillow's own limit, which is one for the whole process, from overruling a higher one.

    It stays, since Pillow asks it before `_check_size` can be: where the file of a WebP or GIF
    image is opened, memory for the whole canvas is taken. It is never lowered, so that threads
    with different limits do not disturb each other.
    """
    with _raising:
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RejectedImageError(f"too large: {width} × {height} pixels, the limit is {max_pixels}")
    if max(width, height) > MAX_ASPECT * max(min(width, height), 1):
        raise RejectedImageError(
            f"too narrow: {width} × {height} pixels, the limit is 1 to {MAX_ASPECT}"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _scale_16_bit(image)
    if image.mode in ("I", "F"):
        raise RejectedImageError(
            "32-bit pixels have no defined scale to 8 bits: save it with 8 or 16 bits per channel"
        )
    if image.mode == "P":
        # Through RGBA, because Pillow warns about the direct way where a palette has alpha.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Return gray of 0…65535 as RGB of 0…255, rounded: 257 = 65535 / 255."""
    gray = np.asarray(image).astype(np.uint32)
    scaled = ((gray + 128) // 257).clip(0, 255).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")
