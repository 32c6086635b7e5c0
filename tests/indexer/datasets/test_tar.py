import io
import json
import tarfile

import pytest

from indexer.datasets import open_dataset, open_source
from indexer.errors import DataError, RejectedImageError
from tests.support.pictures import encode, picture


def write_tar(file, members):
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def image(i):
    return encode(picture((i, 0, 0)))


def shard(start, count=2):
    members = []
    for i in range(start, start + count):
        members += [(f"{i:04}.png", image(i)), (f"{i:04}.cls", str(i % 3).encode())]
    return members


def test_shards_with_cls_members(tmp_path):
    write_tar(tmp_path / "val-1.tar", shard(2))
    write_tar(tmp_path / "val-0.tar", shard(0))

    dataset = open_dataset("wds/any", root=str(tmp_path))

    assert [(row.id, row.label) for row in dataset.rows()] == [
        ("0000", 0),
        ("0001", 1),
        ("0002", 2),
        ("0003", 0),
    ]
    assert [dataset.read(row.ref) for row in dataset.rows()] == [image(i) for i in range(4)]
    assert open_source(dataset.to_source()).read("3") == image(3)


def test_a_folder_named_from_the_current_one_is_found_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "a.tar", shard(0))
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("wds/shards")
    monkeypatch.chdir("/")

    again = open_source(dataset.to_source())

    assert again.read("1") == image(1)
    assert again.to_source() == dataset.to_source()


@pytest.mark.parametrize(
    ("split", "rows"),
    [("val-{0..1}.tar", 4), ("val-{0..0}.tar|2", 2), ("val-*.tar", 4), ("val", 4), ("train", 2)],
)
def test_splits_by_pattern_or_name(tmp_path, split, rows):
    for name in ("val-0", "val-1", "train-0"):
        write_tar(tmp_path / f"{name}.tar", shard(ord(name[-1]) + 10 * len(name)))

    assert len(open_dataset("wds/any", root=str(tmp_path), split=split)) == rows


def test_a_split_of_the_info_file(tmp_path):
    write_tar(tmp_path / "a.tar", shard(0))
    write_tar(tmp_path / "b.tar", shard(2))
    info = {"splits": {"holdout": {"filenames": ["b.tar"]}}}
    (tmp_path / "_info.json").write_text(json.dumps(info))

    dataset = open_dataset(f"wds/{tmp_path}", split="holdout")

    assert [row.id for row in dataset.rows()] == ["0002", "0003"]
    with pytest.raises(DataError, match="describes no split 'other'"):
        open_dataset(f"wds/{tmp_path}", split="other")


def test_labels_from_json_members(tmp_path):
    members = [("a/x.jpg", b"1"), ("a/x.json", b'{"label": "cat", "k": 1}'), ("a/y.jpg", b"2")]
    dataset = open_dataset(write_tar(tmp_path / "set.tar", members))

    assert [(row.id, row.label_name, row.error) for row in dataset.rows()] == [
        ("a/x", "cat", None),
        ("a/y", None, "no label"),
    ]


def test_class_folders_inside_an_archive(tmp_path):
    members = [("set/1/a.png", image(1)), ("set/10/b.png", image(2)), ("set/2/c.d.png", image(3))]
    dataset = open_dataset(write_tar(tmp_path / "set.tar", members))

    assert dataset.class_names == ("1", "2", "10")
    assert [row.label_name for row in dataset.rows()] == ["1", "10", "2"]


def test_a_damaged_sample_keeps_its_row(tmp_path):
    members = [("a.cls", b"0"), ("b.png", b""), ("b.cls", b"1"), *shard(5, 1)]
    dataset = open_dataset(write_tar(tmp_path / "set.tar", members))

    rows = list(dataset.rows())

    assert [row.error for row in rows] == ["no image under this key", None, None]
    with pytest.raises(RejectedImageError, match="0 bytes"):
        dataset.read(rows[1].ref)
    assert dataset.read(rows[2].ref) == image(5)


def test_the_same_key_in_two_shards_is_a_duplicate(tmp_path):
    write_tar(tmp_path / "0.tar", shard(0, 1))
    write_tar(tmp_path / "1.tar", shard(0, 1))

    rows = list(open_dataset(f"wds/{tmp_path}").rows())

    assert [row.error for row in rows] == [None, "duplicate id: an earlier row has it already"]


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_what_is_no_tar_is_an_error(tmp_path, content):
    (tmp_path / "set.tar").write_bytes(content)

    with pytest.raises(DataError, match=r"set\.tar"):
        open_dataset(tmp_path / "set.tar")


def test_images_without_labels_are_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no labels"):
        open_dataset(write_tar(tmp_path / "set.tar", [("a.png", image(1))]))


def test_a_folder_without_shards_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no shards"):
        open_dataset(f"wds/{tmp_path}")
    with pytest.raises(DataError, match="no such folder"):
        open_dataset("wds/nowhere-at-all")
