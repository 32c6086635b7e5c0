"""Data sets under timm names, all from local files."""

import gzip
import struct
import warnings
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import open_dataset, open_source
from indexer.errors import DataError
from tests.support.pictures import encode, picture, write_class_folders


def write_mnist(root, images, labels):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        header = struct.pack(">HBBIII", 0, 8, 3, *images.shape)
        for name, content in (
            (f"{prefix}-images-idx3-ubyte", header + images.tobytes()),
            (
                f"{prefix}-labels-idx1-ubyte",
                struct.pack(">HBBI", 0, 8, 1, len(labels)) + labels.tobytes(),
            ),
        ):
            (folder / name).write_bytes(content)
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))


def test_a_torchvision_set_of_arrays(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path, images, np.array([3, 1, 4, 1, 5], np.uint8))

    dataset = open_dataset("torch/mnist", root=str(tmp_path))

    assert [row.label for row in dataset.rows()] == [3, 1, 4, 1, 5]
    assert dataset.class_names is not None
    assert dataset.class_names[3] == "3 - three"
    image = open_source(dataset.to_source()).read("2")
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), images[2])


@pytest.fixture
def digits(tmp_path):
    """Options of a torchvision data set of 5 images, as a download leaves it."""
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path, images, np.array([3, 1, 4, 1, 5], np.uint8))
    return {"root": str(tmp_path)}


def test_it_is_the_same_data_whether_it_was_fetched_or_not(digits):
    fetched = open_dataset("torch/mnist", **digits, download=True)
    there = open_dataset("torch/mnist", **digits)

    assert fetched.options.download
    assert fetched.to_source() == there.to_source()
    assert there.is_source(fetched.to_source())
    assert "download" not in fetched.to_source()["options"]


def test_data_of_an_early_index_that_was_fetched_is_known_again(digits):
    dataset = open_dataset("torch/mnist", **digits)
    early = dataset.to_source()
    early["options"]["download"] = True
    early["fingerprint"] = dataset._digest(early["options"])
    assert early["fingerprint"] != dataset.fingerprint

    assert dataset.is_source(early)
    assert open_source(early).read("2")
    assert not dataset.is_source({**early, "fingerprint": "another"})
    with pytest.raises(DataError, match="has changed since it was indexed"):
        open_source({**early, "fingerprint": "another"})


def test_a_torchvision_set_of_files_is_read_as_bytes(tmp_path):
    root = write_class_folders(tmp_path, ("cat", "dog"), images=1)
    (root / "cat" / "broken.png").write_bytes(b"no image")

    dataset = open_dataset("torch/image_folder", root=str(root))

    assert [row.id for row in dataset.rows()] == ["cat/0.png", "cat/broken.png", "dog/0.png"]
    assert dataset.read("1") == b"no image"
    assert dataset.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("torch/mnist", {}, "give --root"),
        ("torch/mnist", {"root": "."}, "cannot be opened: Dataset not found"),
        ("torch/nothing", {"root": "."}, "Unknown torchvision dataset"),
        ("tfds/mnist", {}, "pip install tensorflow-datasets"),
        ("nothing", {}, "no data set 'nothing'"),
        ("no/such/*.parquet", {}, "no file matches"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, monkeypatch, spec, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        open_dataset(spec, **options)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(DataError, match=r"expected a folder, or a \.csv"):
        open_dataset(tmp_path / "notes.txt")


@pytest.fixture
def hub_copy(tmp_path):
    """A local data set as the hub keeps it: one parquet file per split, one image damaged."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "weight": datasets.Value("float32"),
        }
    )
    images = [encode(picture((10 * i, 0, 0))) for i in range(3)] + [b"damaged"]
    rows = {
        "img": [{"bytes": data, "path": None} for data in images],
        "label": [0, 1, 1, 0],
        "weight": [0.5, 1.0, 1.5, 2.0],
    }
    folder = tmp_path / "copy"
    folder.mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / "test.parquet"))
    return folder, images


def test_a_hugging_face_set(tmp_path, hub_copy):
    folder, images = hub_copy
    options = {"root": str(tmp_path / "cache"), "split": "test"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own imports
        dataset = open_dataset(f"hfds/{folder}", **options)
        reopened = open_source(dataset.to_source())

    assert dataset.class_names == ("cat", "dog")
    assert [row.label_name for row in dataset.rows()] == ["cat", "dog", "dog", "cat"]
    assert [row.metadata for row in dataset.rows()][2] == {"meta_weight": 1.5}
    assert [reopened.read(row.ref) for row in dataset.rows()] == images


def test_a_slice_of_a_hugging_face_set(tmp_path, hub_copy):
    folder, images = hub_copy
    options = {"root": str(tmp_path / "cache"), "split": "test[1:3]"}

    dataset = open_dataset(f"hfds/{folder}", **options)

    assert [dataset.read(row.ref) for row in dataset.rows()] == images[1:3]
    with pytest.raises(DataError, match="has no image column x"):
        open_dataset(f"hfds/{folder}", image_column="x", **options)
    with pytest.raises(DataError, match="cannot be opened: Unknown split"):
        open_dataset(f"hfds/{folder}", root=options["root"], split="other")


class FrontToBack:
    """A reader like timm's for streams; it stops at row `damaged`, as their decoders do."""

    class_to_idx: ClassVar = {"dog": 1, "cat": 0}

    def __init__(self, damaged=None):
        self.damaged = damaged

    def __iter__(self):
        for i, label in enumerate((0, 1, 1)):
            if i == self.damaged:
                raise OSError("cannot identify image file")
            yield picture((10 * i, 0, 0)), np.int64(label)


@pytest.mark.parametrize("kept", [1, 512])
def test_a_streamed_set_can_be_read_again_and_out_of_order(monkeypatch, kept):
    pytest.importorskip("datasets")
    monkeypatch.setattr("indexer.datasets.streamed.KEPT_IMAGES", kept)
    monkeypatch.setattr("timm.data.readers.create_reader", lambda *_, **__: FrontToBack())

    dataset = open_dataset("hfids/any")

    assert [(row.label, row.label_name) for row in dataset.rows()] == [
        (0, "cat"),
        (1, "dog"),
        (1, "dog"),
    ]
    for ref in ("2", "0", "0", "1"):
        image = open_source(dataset.to_source()).read(ref)
        assert isinstance(image, Image.Image)
        assert image.getpixel((0, 0)) == (10 * int(ref), 0, 0)
    with pytest.raises(DataError, match="has no row 3"):
        dataset.read("3")


def test_a_set_that_is_fetched_each_time_is_fetched_again(monkeypatch):
    pytest.importorskip("datasets")
    allowed = []

    def create(*_, download: bool, **__):
        allowed.append(download)
        return FrontToBack()

    monkeypatch.setattr("timm.data.readers.create_reader", create)
    for spec in ("hfids/any", "tfds/any"):
        source = open_dataset(spec, download=True).to_source()
        assert len(open_source(source)) == 3

    assert allowed == [True, True, True, False]


def test_a_stream_that_stops_is_an_error_of_the_whole_set(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("timm.data.readers.create_reader", lambda *_, **__: FrontToBack(damaged=1))

    with pytest.raises(DataError, match="stops at an image that its reader cannot decode"):
        open_dataset("hfids/any")


def test_nothing_is_fetched_unasked(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match="nothing is fetched without --download"):
        open_dataset("hfds/cifar10", root=str(tmp_path))
