"""Reading one image file, and listing image files below a folder."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError, RejectedImageError
from .naming import natural_key

_SUFFIXES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff ppm pgm pbm pnm avif"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
MAX_FILE_BYTES = 2**28
"""Longest image file that is read (256 MiB); a longer one is no photograph."""

_OF_THE_FILE = frozenset(
    (
        *(errno.EACCES, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ELOOP),
        *(errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.EPERM),
    )
)
"""Errors that the file itself would give at any time; others are those of the machine."""


def read_image_file(path: Path) -> bytes:
    """Return the bytes of a regular file.

    The reason for a rejection is without the path, so that like reasons can be counted.

    Raises:
        RejectedImageError: no such file, not a file, not readable, empty or oversized.
        DataError: the machine cannot read it now, which says nothing of the file.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RejectedImageError("not a regular file")
        if status.st_size == 0:
            raise RejectedImageError("the file is empty (0 bytes)")
        if status.st_size > MAX_FILE_BYTES:
            raise RejectedImageError(
                f"the file has {status.st_size} bytes, the limit is {MAX_FILE_BYTES}"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RejectedImageError("no such file") from error
    except ValueError as error:  # a path with a NUL character
        raise RejectedImageError(f"the file cannot be read: {error}") from error
    except OSError as error:
        if error.errno in _OF_THE_FILE:
            raise RejectedImageError(f"the file cannot be read: {error.strerror}") from error
        raise DataError(
            f"{path} cannot be read now ({error.strerror or error}): mend that, and repeat the "
            "command"
        ) from error


def is_image_name(name: str) -> bool:
    """Return whether a file name ends like an image and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def image_files(folder: Path) -> Iterator[str]:
    """Yield the image files below a folder as relative POSIX paths, in natural order.

    Hidden files and folders are skipped. Links to folders are followed, except back to a folder
    that contains them.
    """
    yield from _walk(folder, "", frozenset())


def _walk(folder: Path, relative: str, ancestors: frozenset[tuple[int, int]]) -> Iterator[str]:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: natural_key(entry.name))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = f"{relative}{entry.name}"
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{path}/", ancestors | {identity})
        elif is_image_name(entry.name):
            yield path


def file_size(path: Path) -> int:
    """Return the size of a file in bytes, -1 where there is none."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1
