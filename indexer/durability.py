"""What survives a power cut: files and folders are synced before a commit is acknowledged.

LanceDB never calls fsync on a local disk, and neither does `open().write()`. A rename is atomic,
but it is only lasting once the file's content *and* the folder that names it were synced, in
that order. Everything the product writes goes through these few functions.
"""

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import DiskFullError, StoreError

TEMPORARY = ".partial"
"""Suffix of files and folders that are still being written; a killed writer leaves them."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How lance's messages end that began as an error of the operating system."""
_FULL = "the disk is full: make room and repeat the same command"
_A_FILE = "a file has the name of a folder there: choose another place"
_FORBIDDEN = "permission denied: choose another place, or have its permissions changed"
_PLAIN = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EEXIST: _A_FILE,
    errno.ENOTDIR: _A_FILE,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "that file system is read-only: choose another place",
}


@dataclass
class SyncCost:
    """Running account of what syncing cost.

    Attributes:
        calls: number of fsync calls.
        seconds: wall time spent in them.
    """

    calls: int = 0
    seconds: float = 0.0


COST = SyncCost()
"""The account of this process. A report takes the difference over its own run."""


def sync_path(path: Path) -> None:
    """Make a file's content, or a folder's list of names, lasting."""
    started = time.perf_counter()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    COST.calls += 1
    COST.seconds += time.perf_counter() - started


def sync_files(paths: Iterable[Path], root: Path) -> None:
    """Sync files first, then every folder between them and `root`, deepest first."""
    files = list(paths)
    for path in files:
        sync_path(path)
    folders = {folder for path in files for folder in path.parents if folder.is_relative_to(root)}
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        sync_path(folder)


def sync_tree(folder: Path) -> None:
    """Sync every file and folder below `folder`, the folder itself and the name it goes by."""
    for current, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_path(Path(current, name))
        sync_path(Path(current))
    sync_path(folder.parent)


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be put in place of `path`, whole or not at all, and synced.

    Readers see the old content until the block ends, and the new one ever after. Where the block
    raises, nothing changes. A link stays and its target changes; a device or pipe is written to.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open("wb") as file:
            yield file
        return
    with replace_path(path) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def replace_path(path: Path) -> Iterator[Path]:
    """Like `replace_file`, for writers that open the file themselves: yields where to write."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    partial = path.with_name(path.name + TEMPORARY)
    try:
        yield partial
        sync_path(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def write_derived(path: Path, fill: Callable[[BinaryIO], object]) -> bool:
    """Write a file that can be made again, whole or not at all, synced.

    Several processes and threads may write the same file at once; the last one's stays.

    Returns:
        Whether the file is there now; on a read-only or full disk it is not.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                fill(file)
            sync_path(partial)
            os.replace(partial, path)
            sync_path(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError:
        return False
    return True


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an operating system error inside the block into a StoreError of one line."""
    try:
        yield
    except OSError as error:
        raise _store_error(f"cannot write to {folder}", error) from error


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Turn what lancedb raises into a StoreError of one line; it has no exceptions of its own."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise _store_error(f"cannot {action}", error) from error


def _store_error(what: str, error: Exception) -> StoreError:
    why = explain(error)
    return (DiskFullError if why == _FULL else StoreError)(f"{what}: {why}")


def explain(error: Exception) -> str:
    """Return what went wrong with a disk, and the way out, on one short line."""
    text = str(error)
    number = getattr(error, "errno", None)
    if number is None and (told := _OS_ERROR.search(text)):
        number = int(told[1])
    if number in _PLAIN:
        return _PLAIN[number]
    text = getattr(error, "strerror", None) or text
    return text if len(text) <= 300 else f"{text[:297]}..."
