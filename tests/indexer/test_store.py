"""The store: what is written is read back, in the order asked, by every reader."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from indexer.errors import (
    IncompatibleIndexError,
    LockedError,
    StoreError,
    StoreWarning,
    UnknownSampleError,
)
from indexer.store import Store
from indexer.versions import newest_version, read_acknowledged, table_folder
from tests.support.databases import UNITS, make_database, sample_batches, sample_schema


@pytest.fixture
def database(tmp_path: Path) -> Store:
    return make_database(tmp_path / "index.lancedb", rows=30)


def test_importing_the_store_and_opening_a_database_does_without_lancedb(database: Store) -> None:
    program = (
        "import sys; from indexer.store import Store; store = Store.open(sys.argv[1]);"
        "assert store.version == 1 and store.statistics.count == 30;"
        "assert not {'lancedb', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(database.path)], check=True)


def test_rows_come_back_in_the_order_they_were_added(database: Store) -> None:
    ids = database.read(["id"])["id"].to_pylist()
    assert ids == [f"s{row}" for row in range(30)]
    assert sum(len(batch) for batch in database.scan(["id", "loss"], batch_size=7)) == 30
    assert database.count() == 30
    assert database.count("label = 1") == len(database.read(["id"], where="label = 1"))
    assert [len(database.read(["id"], limit=limit)) for limit in (0, 4, 99)] == [0, 4, 30]


@pytest.mark.parametrize("asked", [["s7", "s0", "s29"], ["s3", "s3", "s1"], []])
def test_take_keeps_the_order_asked_and_repeats(database: Store, asked: list[str]) -> None:
    taken = database.take(asked, ["profile", "id"])
    assert taken.column_names == ["profile", "id"]
    assert taken["id"].to_pylist() == asked
    whole = dict(zip(*database.read(["id", "profile"]).to_pydict().values(), strict=True))
    assert taken["profile"].to_pylist() == [whole[id] for id in asked]


def test_take_spans_fragments(database: Store) -> None:
    database.append_samples(sample_reader(30, 10))
    assert database.take(["s35", "s2", "s30"], ["label"])["label"].to_pylist() == [35 % 3, 2, 0]


def test_an_unknown_id_is_named_and_never_becomes_sql(database: Store) -> None:
    for name in ("s99", "x' OR '1'='1", ""):
        with pytest.raises(UnknownSampleError, match="no sample"):
            database.take(["s1", name], ["id"])


def test_a_missing_column_is_one_clear_line(database: Store) -> None:
    with pytest.raises(StoreError, match="nope") as error:
        database.read(["nope"])
    assert "\n" not in str(error.value)


def test_absent_and_unfinished_databases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index at"):
        Store.open(tmp_path / "absent")
    Store.create(tmp_path / "begun")
    with pytest.raises(StoreError, match="no finished index: make one with"):
        Store.open(tmp_path / "begun")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Store.create(tmp_path / "file")


def test_small_tables_are_replaced_and_appended(database: Store) -> None:
    assert database.read_table("modes") is None
    table = pa.table({"id": ["a", "b"]})
    database.write_table("modes", table)
    database.append_table("modes", table)
    assert database.read_table("modes") == pa.table({"id": ["a", "b", "a", "b"]})
    database.write_table("modes", table)
    assert database.read_table("modes") == table


def test_a_second_handle_sees_new_versions_at_once(database: Store) -> None:
    reader = Store.open(database.path)
    assert reader.count() == 30
    database.append_samples(sample_reader(30, 5))
    assert (reader.count(), reader.version) == (35, 2)
    assert reader.take(["s34"], ["id"])["id"].to_pylist() == ["s34"]


def test_a_second_writer_is_refused_with_the_holder_named(database: Store) -> None:
    with database.writer(), pytest.raises(LockedError, match=r"process \d+ on .+ since 20"):
        Store.open(database.path).write_table("modes", pa.table({"id": ["a"]}))
    with database.writer(), database.writer():
        pass
    Store.open(database.path).write_table("modes", pa.table({"id": ["a"]}))


def test_every_commit_is_acknowledged(database: Store) -> None:
    database.append_samples(sample_reader(30, 5))
    database.write_table("modes", pa.table({"id": ["a"]}))
    assert read_acknowledged(database.path) == {"samples": 2, "modes": 1}


def test_a_stream_that_fails_commits_nothing(database: Store) -> None:
    def failing():
        yield next(iter(sample_batches(30, 5)))
        raise OSError("disk gone")

    reader = pa.RecordBatchReader.from_batches(sample_schema(), failing())
    with pytest.raises(StoreError, match="disk gone"):
        database.append_samples(reader)
    assert database.count() == 30


@pytest.mark.parametrize("damage", ["empty manifest", "garbage manifest", "torn data"])
def test_an_unreadable_newest_version_is_set_aside(database: Store, damage: str) -> None:
    samples = table_folder(database.path, "samples")
    before = set(samples.rglob("*.lance"))
    database.append_samples(sample_reader(30, 5))
    (database.path / "acknowledged.json").write_text('{"samples": 1}')  # as if never synced
    manifest = min(samples.glob("_versions/*.manifest"))
    if damage == "torn data":
        (data,) = set(samples.rglob("*.lance")) - before
        data.write_bytes(data.read_bytes()[:100])
    else:
        manifest.write_bytes(
            b"" if damage == "empty manifest" else np.random.default_rng(0).bytes(500)
        )
    with pytest.warns(StoreWarning, match="version 2 of table samples .* set aside"):
        reopened = Store.open(database.path)
    assert reopened.count() == 30
    assert newest_version(samples) == 1
    assert Store.open(database.path).count() == 30
    reopened.append_samples(sample_reader(30, 5))
    assert Store.open(database.path).take(["s33"], ["id"])["id"].to_pylist() == ["s33"]


@pytest.mark.parametrize("table", ["samples", "rejects"])
@pytest.mark.filterwarnings("ignore::indexer.errors.StoreWarning")
def test_a_commit_of_which_the_disk_lost_a_write_is_taken_back(
    database: Store, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    rejects = pa.table({"id": ["a"], "reason": ["torn"]})
    database.write_table("rejects", rejects)
    before = {name: database.table(name).to_arrow() for name in ("samples", "rejects")}
    acknowledged = read_acknowledged(database.path)

    def lose_a_write(files: list[Path], root: Path) -> None:
        (data,) = (file for file in files if file.parent.name == "data")
        data.write_bytes(data.read_bytes()[: -data.stat().st_size // 3])

    append = {
        "samples": lambda: database.append_samples(sample_reader(30, 5)),
        "rejects": lambda: database.append_table("rejects", rejects),
    }
    monkeypatch.setattr("indexer.tables.sync_files", lose_a_write)
    with pytest.raises(StoreError, match=f"lost part of what was written to {table}"):
        append[table]()
    assert read_acknowledged(database.path) == acknowledged
    again = Store.open(database.path)
    assert all(again.table(name).to_arrow() == before[name] for name in before)


def test_a_whole_version_that_was_never_acknowledged_is_kept(database: Store) -> None:
    database.append_samples(sample_reader(30, 5))
    (database.path / "acknowledged.json").unlink()
    assert Store.open(database.path).count() == 35
    assert read_acknowledged(database.path) == {"samples": 2}


def test_leftovers_of_killed_writers_are_swept(database: Store) -> None:
    leftovers = [
        database.path / "manifest.json.partial",
        table_folder(database.path, "samples") / "data" / ".tmpx1",
    ]
    for path in leftovers:
        path.write_text("half")
    with database.writer():
        assert not any(path.exists() for path in leftovers)


def sample_reader(start: int, rows: int) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(sample_schema(), sample_batches(start, rows))


def test_profiles_keep_their_length(database: Store) -> None:
    assert database.read(["profile"])["profile"].type.list_size == UNITS


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "[1]", "3", '{"schema_version": 1}', "{}"])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    database = make_database(tmp_path / "db")
    (database.path / "manifest.json").write_text(text)
    with pytest.raises(IncompatibleIndexError, match="index"):
        Store.open(database.path)


def test_a_small_table_is_read_from_its_copy_without_lancedb(database: Store) -> None:
    database.write_table("modes", pa.table({"id": ["m1"]}))
    database.append_table("modes", pa.table({"id": ["m2"]}))
    program = (
        "import sys; from indexer.store import Store; store = Store.open(sys.argv[1]);"
        "assert store.read_table('modes')['id'].to_pylist() == ['m1', 'm2'];"
        "assert store.read_table('nothing') is None;"
        "assert 'lancedb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(database.path)], check=True)


def test_a_copy_that_is_damaged_or_old_is_made_again(database: Store) -> None:
    database.write_table("modes", pa.table({"id": ["m1"]}))
    (copy,) = database.path.glob("cache/tables/*")
    copy.write_bytes(copy.read_bytes()[:-20])
    assert Store(database.path).read_table("modes") == pa.table({"id": ["m1"]})
    database.write_table("modes", pa.table({"id": ["m3"]}))
    (newer,) = database.path.glob("cache/tables/*")
    assert newer != copy
    assert Store(database.path).read_table("modes") == pa.table({"id": ["m3"]})


def test_without_a_cache_small_tables_are_still_read(
    database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.copies.write_derived", lambda *_: False)
    database.write_table("modes", pa.table({"id": ["m1"]}))
    assert not (database.path / "cache").exists()
    assert Store(database.path).read_table("modes") == pa.table({"id": ["m1"]})
