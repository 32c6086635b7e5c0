import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.datasets import open_dataset, open_source
from indexer.datasets.row_groups import BATCH_ROWS, KEPT_BATCHES, RowGroups
from indexer.errors import DataError, RejectedImageError
from tests.support.pictures import encode, picture, write_embedded

CIFAR = Path(__file__).parents[4] / "shared" / "cifar10" / "test.parquet"


def rows_of(count, **columns):
    return [
        {"bytes": encode(picture((i, 0, 0))), "path": f"{i}.png", "label": i % 3}
        | {name: values[i] for name, values in columns.items()}
        for i in range(count)
    ]


def test_rows_come_with_their_own_bytes(tmp_path):
    file = write_embedded(tmp_path / "set.parquet", rows_of(10))

    dataset = open_dataset(file)

    assert dataset.kind == "parquet"
    assert [row.id for row in dataset.rows()] == [f"{i}.png" for i in range(10)]
    assert [row.label for row in dataset.rows()] == [i % 3 for i in range(10)]
    for i, row in enumerate(dataset.rows()):
        assert dataset.read(row.ref) == encode(picture((i, 0, 0)))


def test_ids_fall_back_to_row_numbers_where_paths_repeat(tmp_path):
    rows = [{**row, "path": "image.png"} for row in rows_of(3)]

    dataset = open_dataset(write_embedded(tmp_path / "set.parquet", rows))

    assert [row.id for row in dataset.rows()] == ["0", "1", "2"]


def test_an_id_column_is_taken_and_its_repeats_are_errors(tmp_path):
    file = write_embedded(tmp_path / "set.parquet", rows_of(3, id=["a", "b", "a"]))

    rows = list(open_dataset(file).rows())

    assert [row.id for row in rows] == ["a", "b", "a"]
    assert [row.error for row in rows][2] == "duplicate id: an earlier row has it already"


def test_class_names_come_from_the_schema(tmp_path):
    file = write_embedded(tmp_path / "set.parquet", rows_of(3))
    features = '{"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}'
    table = pq.read_table(file).replace_schema_metadata({"huggingface": features})
    pq.write_table(table, file)

    dataset = open_dataset(file)

    assert dataset.class_names == ("x", "y")
    assert dataset.declares_classes
    assert [row.label_name for row in dataset.rows()] == ["x", "y", None]
    assert "label 2 is out of range" in str([row.error for row in dataset.rows()][2])


def test_a_row_without_an_image_is_rejected_and_shifts_nothing(tmp_path):
    rows = rows_of(4)
    rows[1]["bytes"], rows[1]["path"] = None, None
    rows[2]["bytes"] = b""
    dataset = open_dataset(write_embedded(tmp_path / "set.parquet", rows))

    for ref in ("1", "2"):
        with pytest.raises(RejectedImageError, match="holds no image"):
            dataset.read(ref)
    assert dataset.read("3") == encode(picture((3, 0, 0)))


def test_a_row_may_point_to_a_file(tmp_path):
    rows = rows_of(1)
    rows[0]["bytes"] = None
    picture().save(tmp_path / "0.png")
    dataset = open_dataset(write_embedded(tmp_path / "set.parquet", rows))

    assert dataset.read("0") == (tmp_path / "0.png").read_bytes()


def test_shards_of_a_folder_are_one_data_set(tmp_path):
    for shard in (10, 2):
        rows = [{**row, "path": f"{shard}/{row['path']}"} for row in rows_of(3)]
        write_embedded(tmp_path / f"test-{shard}.parquet", rows)

    folder, pattern = open_dataset(tmp_path), open_dataset(str(tmp_path / "test-*.parquet"))

    ids = [row.id for row in folder.rows()]
    assert ids == [f"{shard}/{i}.png" for shard in (2, 10) for i in range(3)]
    assert [row.id for row in pattern.rows()] == ids
    assert open_source(pattern.to_source()).read("5") == folder.read("5")


def test_shards_that_do_not_fit_are_an_error(tmp_path):
    write_embedded(tmp_path / "0.parquet", rows_of(2))
    write_embedded(tmp_path / "1.parquet", rows_of(2, extra=[1, 2]))
    pq.write_table(pa.table({"label": ["x"]}), tmp_path / "1.parquet")

    with pytest.raises(DataError, match="do not fit"):
        open_dataset(tmp_path)


def test_a_plain_binary_column_holds_images_too(tmp_path):
    table = pa.table({"jpg": [encode(picture())], "label": ["cat"]})
    pq.write_table(table, tmp_path / "set.parquet")

    dataset = open_dataset(tmp_path / "set.parquet")

    assert dataset.read("0") == encode(picture())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "label"}, "holds no image bytes"),
        ({"image_column": "x"}, "--image-column"),
    ],
)
def test_a_wrong_image_column_is_named(tmp_path, options, message):
    write_embedded(tmp_path / "set.parquet", rows_of(1))

    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "set.parquet", **options)


def test_a_table_without_images_is_an_error(tmp_path):
    pq.write_table(pa.table({"label": [1]}), tmp_path / "set.parquet")

    with pytest.raises(DataError, match="neither image bytes nor a column 'path'"):
        open_dataset(tmp_path / "set.parquet")


@pytest.mark.parametrize("cut", [0, 3, 200])
def test_a_cut_file_is_an_error(tmp_path, cut):
    file = write_embedded(tmp_path / "set.parquet", rows_of(3))
    file.write_bytes(file.read_bytes()[:cut])

    with pytest.raises(DataError, match="not a readable parquet file"):
        open_dataset(file)


def test_row_numbers_of_a_changed_file_are_refused(tmp_path):
    file = write_embedded(tmp_path / "set.parquet", rows_of(4))
    source = open_dataset(file).to_source()
    write_embedded(file, rows_of(4)[::-1])

    with pytest.raises(DataError, match="has changed since it was indexed"):
        open_source(source)


def test_rows_in_any_order_from_several_threads(tmp_path):
    count = BATCH_ROWS * (KEPT_BATCHES + 3)
    for shard in range(2):
        values = [f"{shard}:{i}".encode() for i in range(count)]
        pq.write_table(pa.table({"x": values}), tmp_path / f"{shard}.parquet", row_group_size=300)
    groups = RowGroups([tmp_path / "0.parquet", tmp_path / "1.parquet"], "x")
    order = list(range(2 * count))
    random.Random(0).shuffle(order)

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(groups.value, [*order[:100], 0, 2 * count - 1, 299, 300]))

    expected = [f"{i // count}:{i % count}".encode() for i in order[:100]]
    assert values == [*expected, b"0:0", f"1:{count - 1}".encode(), b"0:299", b"0:300"]


def test_reading_onwards_opens_each_row_group_once(tmp_path, monkeypatch):
    pq.write_table(pa.table({"x": range(1000)}), tmp_path / "x.parquet", row_group_size=300)
    groups = RowGroups([tmp_path / "x.parquet"], "x")
    opened = []
    iter_batches = pq.ParquetFile.iter_batches

    def counted(self, *arguments, **options):
        opened.append(options["row_groups"])
        return iter_batches(self, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)

    assert [groups.value(row) for row in range(1000)] == list(range(1000))
    assert opened == [[0], [1], [2], [3]]


def test_a_row_outside_the_file_is_an_error(tmp_path):
    dataset = open_dataset(write_embedded(tmp_path / "set.parquet", rows_of(2)))

    with pytest.raises(DataError, match="no row 2"):
        dataset.read("2")


@pytest.mark.shared
@pytest.mark.skipif(not CIFAR.exists(), reason="needs the CIFAR-10 files beside the checkout")
def test_the_real_file_opens():
    dataset = open_dataset(CIFAR)

    assert len(dataset) == 10_000
    assert dataset.class_names is not None
    assert dataset.class_names[:2] == ("airplane", "automobile")
    row = next(dataset.rows(9_999))
    assert row.id.partition("/")[0] == row.label_name
    assert isinstance(dataset.read(row.ref), bytes)


def test_columns_that_cannot_be_kept_are_named(tmp_path):
    rows = rows_of(3)
    file = write_embedded(tmp_path / "set.parquet", rows)
    table = pq.read_table(file).append_column("mask", pa.array([b"1", b"2", b"3"]))
    pq.write_table(table.append_column("boxes", pa.array([[1], [2], []])), file)

    dataset = open_dataset(file)

    assert dataset.metadata_schema.names == []
    assert dataset.left_out == ("boxes", "mask")
