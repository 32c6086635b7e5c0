from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from PIL import ImageOps

from indexer.datasets import open_dataset
from indexer.decode import MAX_PIXELS, thumbnail
from indexer.errors import DataError
from indexer.filters import FilterLayout
from indexer.images import KEPT_IMAGES, IndexedImages, open_picture, pixel_limit
from indexer.manifest import Manifest
from indexer.transforms import build_transform
from tests.support.pictures import encode, noise, picture, write_class_folders, write_embedded

CONFIG = {
    "input_size": [3, 6, 8],
    "mean": [0.0] * 3,
    "std": [1.0] * 3,
    "interpolation": "nearest",
    "crop_pct": 1.0,
    "crop_mode": "squash",
}


def manifest(*datasets):
    return Manifest(
        model={},
        transform=CONFIG,
        classes=("cat", "dog"),
        units="conv",
        aggregation="filter",
        signed=False,
        precision="fp32",
        profile_dtype="float32",
        layout=FilterLayout(()),
        sources=tuple(dataset.to_source() for dataset in datasets),
        batch_size=1,
        embedding=None,
    )


@pytest.fixture
def both(tmp_path):
    """A folder with two images and a parquet file with three, as two sources of one index."""
    folder = open_dataset(write_class_folders(tmp_path / "set", ("cat", "dog"), images=1))
    rows = [{"bytes": encode(picture((i, 0, 0))), "label": i % 2} for i in range(3)]
    embedded = open_dataset(write_embedded(tmp_path / "set.parquet", rows))
    return IndexedImages(manifest(folder, embedded), build_transform(CONFIG))


def test_an_image_is_found_by_source_and_reference(both):
    assert both.pil(0, "dog/0.png").getpixel((0, 0)) == (20, 0, 100)
    assert both.pil(1, "2").getpixel((0, 0)) == (2, 0, 0)


def test_a_batch_is_in_the_order_of_the_table(both):
    table = pa.table({"source": [1, 0, 1], "ref": ["2", "cat/0.png", "0"]})

    batch = both.tensor(table)

    assert batch.shape == (3, 3, 6, 8)
    assert batch.dtype == torch.float32
    reds, blues = (batch[:, c, 0, 0] * 255 for c in (0, 2))
    assert reds.round().tolist() == [2, 0, 0]
    assert blues.round().tolist() == [0, 100, 0]


def test_many_threads_share_the_images(both):
    refs = [(1, str(i % 3)) for i in range(3 * KEPT_IMAGES)]

    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda key: both.pil(*key), refs))

    assert [image.getpixel((0, 0))[0] for image in images] == [i % 3 for i in range(len(images))]


def test_a_missing_image_is_named(tmp_path, both):
    (tmp_path / "set" / "cat" / "0.png").unlink()

    with pytest.raises(DataError, match=r"image 'cat/0\.png' of .* can no longer be read"):
        both.pil(0, "cat/0.png")


def test_a_changed_or_missing_source_is_named(tmp_path, both):
    (tmp_path / "set.parquet").unlink()
    with pytest.raises(DataError, match="is gone: put it back there, or say where it is now"):
        both.pil(1, "0")
    write_embedded(tmp_path / "set.parquet", [{"bytes": encode(picture()), "label": 0}])
    with pytest.raises(DataError, match="has changed since it was indexed"):
        both.pil(1, "0")
    with pytest.raises(DataError, match="no data set number 2"):
        both.pil(2, "0")


def test_images_without_a_transform_give_no_tensors(tmp_path):
    folder = open_dataset(write_class_folders(tmp_path / "set", ("cat", "dog"), images=1))
    images = IndexedImages(manifest(folder))

    with pytest.raises(ValueError, match="without a transform"):
        images.tensor(pa.table({"source": [0], "ref": ["cat/0.png"]}))


def test_an_image_of_ones_own_is_opened_from_a_file_or_as_it_is(tmp_path):
    path = tmp_path / "own.png"
    path.write_bytes(encode(picture().convert("L"), "PNG"))

    found, name = open_picture(path)

    assert (found.mode, name) == ("RGB", "own.png")
    assert open_picture(str(path))[0].tobytes() == found.tobytes()
    assert open_picture(picture().convert("L"))[1] == "image"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", r"cannot use /.*/gone\.png: no such file$"),
        (".", "cannot use .*: not a regular file"),
        ("text.png", r"cannot use /.*/text\.png: "),
    ],
)
def test_what_is_no_image_is_named(tmp_path, name, message):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=message):
        open_picture(tmp_path / name)


def test_an_image_that_was_let_in_is_read_again_whatever_its_size(tmp_path):
    dataset = open_dataset(write_class_folders(tmp_path / "set", ("cat", "dog"), images=1))
    source = {**dataset.to_source(), "max_pixels": 10}
    small = IndexedImages(replace(manifest(dataset), sources=(source,)))

    with pytest.raises(DataError, match="the limit is 10"):
        small.pil(0, "cat/0.png")


def test_too_little_memory_is_one_line(both, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("indexer.images.decode", full)
    with pytest.raises(DataError, match=r"memory does not suffice to read image 'cat/0\.png'"):
        both.pil(0, "cat/0.png")
    with pytest.raises(DataError, match="memory does not suffice to read image: "):
        open_picture(picture())


def test_a_picture_of_ones_own_may_be_as_large_as_those_of_the_index(tmp_path):
    dataset = open_dataset(write_class_folders(tmp_path / "set", ("cat", "dog"), images=1))
    sources = tuple({**dataset.to_source(), "max_pixels": limit} for limit in (10, 48))
    limit = pixel_limit(replace(manifest(dataset), sources=sources))

    assert open_picture(picture(), max_pixels=limit)[0].size == (8, 6)
    with pytest.raises(DataError, match="the limit is 47"):
        open_picture(picture(), max_pixels=limit - 1)
    assert pixel_limit(manifest()) == MAX_PIXELS


def stored(path, image, **changes):
    """Return the row that an index would hold of one image of a folder."""
    row = {"source": 0, "ref": path, "width": image.width, "height": image.height}
    return {**row, "thumbnail": thumbnail(image), **changes}


def test_an_image_of_another_size_is_no_longer_the_one_indexed(tmp_path, both):
    row = stored("cat/0.png", both.pil(0, "cat/0.png"))
    assert both.pil(0, "cat/0.png", row).size == (8, 6)
    assert both.tensor(pa.Table.from_pylist([row])).shape == (1, 3, 6, 8)

    with pytest.raises(
        DataError, match=r"'cat/0\.png' of .*/set has changed .*8 × 6 pixels, and had 8 × 7"
    ):
        both.tensor(pa.Table.from_pylist([{**row, "height": 7}]))


@pytest.mark.parametrize("size", [(32, 32), (300, 200)])
def test_an_image_that_shows_something_else_is_no_longer_the_one_indexed(tmp_path, size):
    dataset = open_dataset(write_class_folders(tmp_path / "set", ("cat", "dog"), images=1))
    path = tmp_path / "set" / "cat" / "0.png"
    noise(size).save(path)
    images = IndexedImages(manifest(dataset))
    row = stored("cat/0.png", images.pil(0, "cat/0.png"))
    assert images.pil(0, "cat/0.png", row).size == size

    ImageOps.mirror(noise(size)).save(path)
    with pytest.raises(DataError, match="shows something else than its thumbnail"):
        IndexedImages(manifest(dataset)).pil(0, "cat/0.png", row)
