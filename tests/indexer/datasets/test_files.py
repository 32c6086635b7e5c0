"""What is a fault of an image file, and what one of the machine."""

import errno
import os
from pathlib import Path

import pytest

from indexer.datasets.files import read_image_file
from indexer.errors import DataError, RejectedImageError


def failing(number: int):
    def read(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    return read


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"bytes")
    return path


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR"])
def test_what_the_file_itself_gives_at_any_time_rejects_it(image, monkeypatch, name):
    monkeypatch.setattr(Path, "read_bytes", failing(getattr(errno, name)))
    with pytest.raises(RejectedImageError, match="the file cannot be read"):
        read_image_file(image)


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "EIO", "ESTALE", "ENOMEM", "ETIMEDOUT"])
def test_what_the_machine_cannot_do_now_rejects_nothing(image, monkeypatch, name):
    monkeypatch.setattr(Path, "read_bytes", failing(getattr(errno, name)))
    with pytest.raises(DataError, match=r"image\.png cannot be read now \(.*\): mend that"):
        read_image_file(image)


@pytest.mark.parametrize("name", ["nul\0", "x" * 300, "image.png/below"])
def test_a_name_that_no_file_can_have_is_the_rows_own(image, name):
    with pytest.raises(RejectedImageError, match=r"no such file|cannot be read"):
        read_image_file(image.parent / name)


@pytest.mark.parametrize("broken", ["gone", "loop", "folder", "empty"])
def test_files_that_are_broken_alike_have_one_reason(tmp_path, broken):
    def reason(name):
        path = tmp_path / name
        if broken == "loop":
            path.symlink_to(path)
        elif broken == "folder":
            path.mkdir()
        elif broken == "empty":
            path.touch()
        with pytest.raises(RejectedImageError) as caught:
            read_image_file(path)
        return str(caught.value)

    assert reason("a.png") == reason("b.png")
