"""Every kind of broken input gives the right image or a named reject, and none shifts a row.

Each case stands between two good images, in each form of data set that can hold it.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.classes import match_classes
from indexer.datasets import ImageDataset, open_dataset
from indexer.decode import decode
from indexer.errors import RejectedImageError
from tests.support.pictures import RED, encode, noise, picture, png_header, write_embedded

BEFORE, AFTER = (10, 200, 30), (10, 30, 200)
NAMES = ("cat", "dog")
GRAY16 = Image.fromarray(np.full((6, 8), 257 * 77, np.uint16))
FRAMES = {"save_all": True, "append_images": [picture(BEFORE)]}

RIGHT = {
    "cmyk": (encode(picture(size=(16, 16)).convert("CMYK"), "JPEG", quality=95), RED),
    "palette": (encode(picture().quantize(4)), RED),
    "transparent palette": (encode(picture().quantize(4), transparency=3), RED),
    "one bit": (encode(Image.new("1", (8, 6), 1)), (255, 255, 255)),
    "16 bit gray": (encode(GRAY16), (77, 77, 77)),
    "gray with alpha": (encode(Image.new("LA", (8, 6), (90, 10))), (90, 90, 90)),
    "colour with alpha": (encode(Image.new("RGBA", (8, 6), (*RED, 10))), RED),
    "animation": (encode(picture(), "GIF", **FRAMES), RED),
    "png named jpg": (encode(picture()), RED),
    "a single pixel": (encode(picture(size=(1, 1))), RED),
}
REJECTED = {
    "truncated jpeg": (encode(noise(), "JPEG")[:-1000], "truncated"),
    "truncated png": (encode(noise())[:-3000], "truncated"),
    "zero bytes": (b"", "0 bytes"),
    "text named jpg": (b"this is no picture\n", "not an image"),
    "huge png": (png_header(20_000, 20_000), "too large"),
    "header only": (png_header(8, 8), "damaged"),
    "32 bit float": (encode(Image.fromarray(np.ones((6, 8), np.float32)), "TIFF"), "32-bit"),
    "thin as a thread": (encode(picture(size=(1, 5000))), "too narrow"),
    "html error page": (b"<!DOCTYPE html><title>404</title>", "not an image"),
}


def outcomes(dataset: ImageDataset) -> dict[str, object]:
    """Return colour or reason of every row by id, read in order as indexing does."""
    classes = match_classes(dataset, num_classes=2, model_names=NAMES)
    found: dict[str, object] = {}
    for row in dataset.rows():
        try:
            if row.error:
                raise RejectedImageError(row.error)
            classes.target(row)
            found.setdefault(row.id, decode(dataset.read(row.ref)).getpixel((0, 0)))
        except RejectedImageError as error:
            found[f"{row.id} rejected" if row.id in found else row.id] = str(error)
    return found


def in_folder(root: Path, data: bytes) -> dict[str, object]:
    (root / "cat").mkdir()
    (root / "dog").mkdir()
    picture(BEFORE).save(root / "cat" / "a.png")
    (root / "cat" / "b.jpg").write_bytes(data)
    picture(AFTER).save(root / "dog" / "c.png")
    return outcomes(open_dataset(root))


def in_manifest(root: Path, data: bytes) -> dict[str, object]:
    picture(BEFORE).save(root / "a.png")
    (root / "b.jpg").write_bytes(data)
    picture(AFTER).save(root / "c.png")
    lines = ["path,label,id", "a.png,cat,cat/a.png", "b.jpg,cat,cat/b.jpg", "c.png,dog,dog/c.png"]
    (root / "set.csv").write_text("\n".join(lines))
    return outcomes(open_dataset(root / "set.csv"))


def in_parquet(root: Path, data: bytes) -> dict[str, object]:
    rows = [
        {"bytes": encode(picture(BEFORE)), "path": "cat/a.png", "label": "cat"},
        {"bytes": data, "path": "cat/b.jpg", "label": "cat"},
        {"bytes": encode(picture(AFTER)), "path": "dog/c.png", "label": "dog"},
    ]
    return outcomes(open_dataset(write_embedded(root / "set.parquet", rows)))


FORMS = pytest.mark.parametrize("form", [in_folder, in_manifest, in_parquet])


@FORMS
@pytest.mark.parametrize("case", RIGHT)
def test_unusual_images_are_right(tmp_path, form, case):
    data, color = RIGHT[case]

    found = form(tmp_path, data)

    assert list(found) == ["cat/a.png", "cat/b.jpg", "dog/c.png"]
    assert (found["cat/a.png"], found["dog/c.png"]) == (BEFORE, AFTER)
    assert np.allclose(np.array(found["cat/b.jpg"]), color, atol=6 if case == "cmyk" else 0)


@FORMS
@pytest.mark.parametrize("case", REJECTED)
def test_broken_images_are_named_rejects(tmp_path, form, case):
    data, reason = REJECTED[case]

    found = form(tmp_path, data)

    assert list(found) == ["cat/a.png", "cat/b.jpg", "dog/c.png"]
    assert (found["cat/a.png"], found["dog/c.png"]) == (BEFORE, AFTER)
    assert reason in str(found["cat/b.jpg"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("gone.png,cat,b", "no such file"),
        ("c.png,unicorn,b", "label 'unicorn' is not a class of the model"),
        ("c.png,dgo,b", "did you mean 'dog'?"),
        ("c.png,,b", "no label"),
        (",dog,b", "no path"),
        ("folder.png,dog,b", "not a regular file"),
        ("c.png,dog,a", "duplicate id: an earlier row"),
        ("c.png,dog", "2 values, the header has 3"),
        ("c.png,dog,b,surplus", "4 values, the header has 3"),
        ('"it\'s 日本"".png",dog,b', None),
    ],
)
def test_broken_lines_of_a_manifest_are_named_rejects(tmp_path, line, reason):
    picture(BEFORE).save(tmp_path / "a.png")
    picture(AFTER).save(tmp_path / "c.png")
    picture(RED).save(tmp_path / "it's 日本\".png")
    (tmp_path / "folder.png").mkdir()
    lines = ["path,label,id", "a.png,cat,a", line, "c.png,dog,c", ""]
    (tmp_path / "set.csv").write_text("\n".join(lines), encoding="utf-8")

    found = outcomes(open_dataset(tmp_path / "set.csv"))

    assert (found["a"], found["c"]) == (BEFORE, AFTER)
    (third,) = found.keys() - {"a", "c"}
    assert found[third] == RED if reason is None else reason in str(found[third])


def test_a_label_outside_the_model_is_a_named_reject(tmp_path):
    picture(BEFORE).save(tmp_path / "a.png")
    lines = ["path,label,id", "a.png,0,a", "a.png,2,b", "a.png,-1,c", "a.png,1,d", ""]
    (tmp_path / "set.csv").write_text("\n".join(lines))

    found = outcomes(open_dataset(tmp_path / "set.csv"))

    assert found["a"] == found["d"] == BEFORE
    assert "label 2 is out of range: the model has 2 classes (0 to 1)" in str(found["b"])
    assert "label -1 is out of range" in str(found["c"])
