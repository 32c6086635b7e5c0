import os

import pytest

from indexer.datasets import open_dataset, open_source
from indexer.errors import DataError, RejectedImageError
from tests.support.pictures import encode, picture, write_class_folders


def test_class_folders_are_the_labels(tmp_path):
    dataset = open_dataset(write_class_folders(tmp_path / "set", ("dog", "cat")))

    assert dataset.class_names == ("cat", "dog")
    assert [(row.id, row.label, row.label_name) for row in dataset.rows()] == [
        ("cat/0.png", 0, "cat"),
        ("cat/1.png", 0, "cat"),
        ("dog/0.png", 1, "dog"),
        ("dog/1.png", 1, "dog"),
    ]
    assert len(dataset) == 4
    assert dataset.declares_classes


def test_rows_start_anywhere(tmp_path):
    dataset = open_dataset(write_class_folders(tmp_path / "set", ("a", "b")))

    assert list(dataset.rows(3)) == list(dataset.rows())[3:]


def test_numbered_classes_are_in_the_order_that_timm_trains_in(tmp_path):
    names = tuple(str(number) for number in range(12))
    dataset = open_dataset(write_class_folders(tmp_path / "set", names, images=1))

    assert dataset.class_names == names


def test_deeper_folders_belong_to_the_class_at_the_top(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat", "dog"), images=1)
    (root / "cat" / "day 1" / "am").mkdir(parents=True)
    picture().save(root / "cat" / "day 1" / "am" / "x.png")

    dataset = open_dataset(root)

    assert dataset.class_names == ("cat", "dog")
    assert "cat/day 1/am/x.png" in [row.id for row in dataset.rows() if row.label == 0]


def test_hidden_files_and_other_files_are_no_rows(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat", "dog"), images=1)
    for name in (".hidden.png", "notes.txt", "labels.csv"):
        (root / "cat" / name).write_bytes(b"x")
    (root / ".git").mkdir()
    picture().save(root / ".git" / "x.png")

    dataset = open_dataset(root)

    (root / ".empty").mkdir()
    (root / ".settings").write_text("x")
    assert [row.id for row in dataset.rows()] == ["cat/0.png", "dog/0.png"]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.passed_over == (".git",)


def test_a_class_without_images_keeps_its_number(tmp_path):
    root = write_class_folders(tmp_path / "set", ("a", "c"), images=1)
    (root / "b").mkdir()

    dataset = open_dataset(root)

    assert dataset.class_names == ("a", "b", "c")
    assert dataset.used_labels == {0, 2}


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat",), images=1)
    other = write_class_folders(tmp_path / "other", ("x",), images=1)
    (root / "dog").symlink_to(other / "x")
    (root / "cat" / "loop").symlink_to(root)

    assert [row.id for row in open_dataset(root).rows()] == ["cat/0.png", "dog/0.png"]


def test_a_broken_link_is_a_row_that_cannot_be_read(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat",), images=1)
    (root / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
    dataset = open_dataset(root)

    with pytest.raises(RejectedImageError, match="no such file"):
        dataset.read("cat/gone.png")


def test_images_outside_the_class_folders_are_errors(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat", "dog"), images=1)
    picture().save(root / "stray.png")

    errors = {row.id: row.error for row in open_dataset(root).rows() if row.error}

    assert errors == {"stray.png": "the image lies outside the class folders"}


@pytest.mark.parametrize("name", ['it\'s "quoted"', "日本語", "a;b,c", "100% & <b>", "= '' --"])
def test_any_name_is_a_class_and_an_id(tmp_path, name):
    root = write_class_folders(tmp_path / "set", (name, "plain"), images=1)
    (root / name / "0.png").rename(root / name / f"{name}.png")

    row = next(row for row in open_dataset(root).rows() if row.label_name == name)

    assert row.id == f"{name}/{name}.png"
    assert open_dataset(root).read(row.ref) == (root / name / f"{name}.png").read_bytes()


def test_a_name_that_is_no_text_is_rejected_and_shifts_nothing(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat",), images=2)
    odd = os.fsencode(root / "cat") + b"/0\xff.png"
    try:
        with open(odd, "wb") as stream:
            stream.write(encode(picture()))
    except OSError:
        pytest.skip("the file system stores valid UTF-8 only")

    rows = list(open_dataset(root).rows())

    assert [row.error is None for row in rows].count(True) == 2
    assert [row.error for row in rows if row.error] == ["the file name is not valid UTF-8"]
    assert all(row.id.encode() for row in rows)


@pytest.mark.parametrize("split", ["validation", "val", "valid"])
def test_a_split_is_found_under_its_usual_names(tmp_path, split):
    write_class_folders(tmp_path / "set" / "val", ("cat", "dog"))
    write_class_folders(tmp_path / "set" / "train", ("cat", "dog"))

    assert len(open_dataset(tmp_path / "set", split=split)) == 4


def test_splits_are_no_classes(tmp_path):
    write_class_folders(tmp_path / "set" / "val", ("cat", "dog"))
    write_class_folders(tmp_path / "set" / "train", ("cat", "dog"))

    with pytest.raises(DataError, match="holds the splits train, val, not classes"):
        open_dataset(tmp_path / "set")
    with pytest.raises(DataError, match="no split 'test': its folders are train, val"):
        open_dataset(tmp_path / "set", split="test")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(tmp_path)


def test_only_hidden_folders_are_named_in_the_error(tmp_path):
    write_class_folders(tmp_path, (".10", ".9"), images=1)

    with pytest.raises(DataError, match=r"no images but in hidden folders.* \(\.9, \.10\): give"):
        open_dataset(tmp_path)


def test_images_without_class_folders_are_an_error(tmp_path):
    picture().save(tmp_path / "x.png")

    with pytest.raises(DataError, match="no class folders"):
        open_dataset(tmp_path)


def test_a_folder_reopens_though_images_were_added(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat", "dog"))
    source = open_dataset(root).to_source()
    picture().save(root / "cat" / "new.png")

    assert open_source(source).read("dog/1.png") == (root / "dog" / "1.png").read_bytes()


def test_the_fingerprint_follows_names_and_sizes(tmp_path):
    root = write_class_folders(tmp_path / "set", ("cat", "dog"))
    before = open_dataset(root).fingerprint

    assert open_dataset(root).fingerprint == before
    (root / "cat" / "0.png").write_bytes(b"another size")
    assert open_dataset(root).fingerprint != before


def test_a_relative_path_reopens_from_another_folder(tmp_path, monkeypatch):
    write_class_folders(tmp_path / "set", ("cat", "dog"))
    monkeypatch.chdir(tmp_path)
    source = open_dataset("set").to_source()
    monkeypatch.chdir("/")

    assert open_source(source).read("cat/0.png")
