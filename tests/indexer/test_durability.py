"""Putting a file in place of another, and the lock."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from indexer.durability import disk_errors, replace_file, store_errors
from indexer.errors import StoreError
from indexer.lock import hold_writer_lock


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replace_file(path) as file:
        file.write(b"first")
    with pytest.raises(TypeError), replace_file(path) as file:
        file.writelines([b"second", "no bytes"])
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file")
    with replace_file(link) as file:
        file.write(b"content")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"content"


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with replace_file(pipe) as file:
        file.write(b"content")
    reader.join()
    assert read == [b"content"]
    assert pipe.is_fifo()


def test_a_file_system_without_locks_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="No locks available"), hold_writer_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "that file system is read-only: choose another place"),
        (errno.EACCES, "permission denied: choose another place, or have its permissions changed"),
        (errno.ENOSPC, "the disk is full: make room and repeat the same command"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_what_a_disk_refuses_is_said_in_plain_words(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(StoreError) as raised, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), "a/file")
    assert str(raised.value) == f"cannot write to {tmp_path}: {said}"
    if number != errno.EIO:
        with pytest.raises(StoreError, match=said), store_errors("write samples"):
            raise RuntimeError(
                f"lance error: LanceError(IO): refused (os error {number}), at io.rs"
            )
