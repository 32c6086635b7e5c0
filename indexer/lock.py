"""One writer per database: an advisory lock with the holder's name in it.

`flock` belongs to the process: a killed holder frees it, so a lock never goes stale. The text in
the file only says who holds it.
"""

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .durability import disk_errors
from .errors import LockedError

LOCK_FILE = "writer.lock"

_PAUSE_S = 0.02


@contextmanager
def hold_writer_lock(folder: Path, patience: float = 0) -> Iterator[None]:
    """Hold the writer lock of a database folder for the length of the block.

    Args:
        folder: of the database.
        patience: seconds to wait for a holder to be done.

    Raises:
        LockedError: another process (or another handle of this one) is writing; names it.
        StoreError: the folder cannot be written to.
    """
    with disk_errors(folder):
        descriptor = _open(folder)
    try:
        deadline = time.monotonic() + patience
        with disk_errors(folder):  # some network file systems have no locks
            while not _taken(descriptor):
                if time.monotonic() >= deadline:
                    raise LockedError(_refusal(folder))
                time.sleep(_PAUSE_S)
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(_holder()).encode())
        yield
    finally:
        os.close(descriptor)


def require_writable(folder: Path) -> None:
    """Refuse a database folder that cannot be written to, before work for it is done.

    Raises:
        StoreError: says why not. That another process is writing just now is no reason.
    """
    with disk_errors(folder):
        os.close(_open(folder))


def _open(folder: Path) -> int:
    return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _refusal(folder: Path) -> str:
    try:
        holder = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
        name = "process {pid} on {host} ({command}, since {since})".format(**holder)
    except (ValueError, KeyError):  # caught between taking the lock and signing it
        name = "another process"
    return f"{folder} is being written to by {name}: wait until it is done"
