"""Pictures that are written to files."""

from pathlib import Path

import pytest
from PIL import Image

from failsearch.pictures import save_picture
from indexer.errors import SettingError


@pytest.mark.parametrize("name", ["a.png", "a.JPG"])
def test_pictures_come_in_the_format_of_the_suffix(tmp_path: Path, name: str) -> None:
    save_picture(Image.new("RGB", (4, 3), "red"), tmp_path / name)
    with Image.open(tmp_path / name) as found:
        assert found.format == ("PNG" if name == "a.png" else "JPEG")
        assert found.size == (4, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.txt"])
def test_a_picture_that_cannot_be_written_leaves_the_file_before_it(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"before")
    with pytest.raises(SettingError, match=r"name a \.png"):
        save_picture(Image.new("RGBA", (4, 3)), file)
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_folders_are_not_made(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="No such file"):
        save_picture(Image.new("RGB", (4, 3)), tmp_path / "missing" / "a.png")
    assert not list(tmp_path.iterdir())
