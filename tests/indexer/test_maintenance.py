"""Checking, compacting and migrating an index, and what a reader sees meanwhile."""

import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from indexer.check import CheckReport, check_database
from indexer.compact import compact_database
from indexer.errors import IncompatibleIndexError, LockedError, StoreError
from indexer.lock import hold_writer_lock
from indexer.manifest import MANIFEST_FILE
from indexer.migration import migrate
from indexer.pipeline import IndexSettings, index_dataset
from indexer.progress import silent
from indexer.statistics import Statistics
from indexer.store import Store
from tests.support.arrays import index_of_arrays
from tests.support.databases import UNITS, make_database, sample_batches, sample_schema
from tests.support.progress import Recorder
from tests.support.tiny_run import tiny_images, tiny_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    dataset = tiny_images(tmp_path / "images")
    settings = IndexSettings(batch_size=4, workers=1)
    index_dataset(dataset, tiny_model(), tmp_path / "db", settings, progress=silent)
    return tmp_path / "db"


def wrong(report: CheckReport) -> dict[str, str]:
    return {finding.check: finding.detail for finding in report.findings if not finding.ok}


def test_a_fresh_index_passes_every_check(indexed: Path) -> None:
    report = check_database(indexed)
    assert report.ok
    checks = [finding.check for finding in report.findings]
    assert checks == [
        "manifest", "table rejects", "table samples", "columns", "ids", "classes", "vectors",
        "statistics", "leftovers",
    ]  # fmt: skip


def test_a_check_counts_the_rows_that_it_reads(indexed: Path) -> None:
    progress = Recorder()
    check_database(indexed, progress)
    store = Store.open(indexed)
    rejected = store.read_table("rejects")
    assert rejected is not None
    assert progress.told == [("Checking", 2 * store.count() + len(rejected))]


def test_checks_find_what_is_wrong(indexed: Path) -> None:
    store = Store.open(indexed)
    rows = store.table("samples").to_arrow()
    store.append_samples(rows.slice(0, 2).to_reader())
    assert "2 of" in wrong(check_database(indexed))["ids"]
    assert "the table has" in wrong(check_database(indexed))["statistics"]

    profiles = rows["profile"].combine_chunks()
    spoiled = profiles.flatten().to_numpy().copy()
    spoiled[:3] = np.inf
    column = pa.FixedSizeListArray.from_arrays(pa.array(spoiled), type=profiles.type)
    index = rows.schema.get_field_index("profile")
    broken = rows.set_column(index, rows.schema.field(index), column)
    label = rows.schema.get_field_index("label")
    labels = pa.array([9] * len(rows), pa.int32())
    broken = broken.set_column(label, rows.schema.field(label), labels)
    store.create_samples(broken.to_reader())
    found = wrong(check_database(indexed))
    assert "1 profiles are not finite" in found["vectors"]
    assert f"{len(rows)} samples with a label" in found["classes"]


def test_a_unit_that_hardly_saw_a_gradient_is_no_fault(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    raw = random.lognormal(size=(30, 8)).astype(np.float32)
    raw[:, 3] *= 1e-16
    logits, labels = random.normal(size=(30, 2)), random.integers(0, 2, 30)
    store = index_of_arrays(
        tmp_path / "db", raw=raw, logits=logits, labels=labels, names=("a", "b")
    )
    assert wrong(check_database(store.path)) == {}


def test_statistics_that_belong_to_other_data_are_found(indexed: Path) -> None:
    store = Store.open(indexed)
    store.create_samples(make_database(indexed.parent / "other").table("samples").to_arrow()
                         .to_reader())  # fmt: skip
    found = wrong(check_database(indexed))
    assert {"columns", "statistics"} <= set(found)
    (indexed / "statistics.npz").write_bytes(b"torn")
    assert "unreadable" in wrong(check_database(indexed))["statistics"]


def test_torn_data_of_an_acknowledged_version_is_found(indexed: Path) -> None:
    (data,) = (indexed / "samples.lance/data").iterdir()
    data.write_bytes(data.read_bytes()[:-200])
    assert "cannot be read" in wrong(check_database(indexed))["table samples"]


def test_checking_needs_a_finished_index(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index at"):
        check_database(tmp_path / "absent")


def test_compacting_keeps_the_rows_and_frees_the_rest(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db", rows=30)
    for start in range(30, 90, 10):
        batches = sample_batches(start, 10)
        store.append_samples(pa.RecordBatchReader.from_batches(sample_schema(), batches))
    (tmp_path / "db/samples.lance/data/orphan.lance").write_bytes(b"x" * 1000)
    assert "1 files" in check_database(tmp_path / "db").findings[-1].detail
    before = store.table("samples").to_arrow()
    reader = Store.open(tmp_path / "db")
    assert reader.take(["s50"], ["id"])["id"].to_pylist() == ["s50"]
    report = compact_database(tmp_path / "db")
    assert reader.take(["s71", "s50"], ["id"])["id"].to_pylist() == ["s71", "s50"]
    assert reader.count("label = 0") == 30
    assert report.freed == report.bytes_before - report.bytes_after > 1000
    assert report.files_removed > 0
    assert len(list((tmp_path / "db/samples.lance/data").iterdir())) == 1
    assert store.table("samples").to_arrow() == before
    assert store.take(["s71", "s2"], ["id"])["id"].to_pylist() == ["s71", "s2"]
    assert compact_database(tmp_path / "db").tables["samples"] >= report.tables["samples"]
    assert Store.open(tmp_path / "db").table("samples").to_arrow() == before


def test_compacting_waits_for_no_writer(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    with store.writer(), pytest.raises(LockedError):
        compact_database(tmp_path / "db")


def test_older_indexes_are_migrated_step_by_step(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    path = store.path / MANIFEST_FILE
    document = json.loads(path.read_text()) | {"schema_version": -1}
    path.write_text(json.dumps({key: v for key, v in document.items() if key != "signed"}))
    with pytest.raises(IncompatibleIndexError, match="index the data again"):
        Store.open(store.path)
    steps = {-1: lambda _, old: {**old, "signed": True}, 0: lambda _, old: {**old, "created": "x"}}
    assert migrate(store.path, steps)
    assert not migrate(store.path, steps)
    migrated = Store.open(store.path).manifest
    assert (migrated.schema_version, migrated.signed, migrated.created) == (1, True, "x")


def test_a_newer_index_is_refused(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    store.publish(replace(store.manifest, schema_version=99))
    with pytest.raises(IncompatibleIndexError, match="upgrade failsearch"):
        Store.open(store.path)


def test_statistics_stay_those_of_the_publication(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    store.publish(store.manifest, Statistics(np.zeros(UNITS), np.ones(UNITS), 3))
    assert Store.open(store.path).statistics.count == 3


WRITER = """
import sys, pyarrow as pa
from indexer.store import Store
from tests.support.databases import sample_batches, sample_schema
from pathlib import Path
store, rows = Store.open(sys.argv[1]), 30
while not Path(sys.argv[2]).exists():
    batches = sample_batches(rows, 10)
    store.append_samples(pa.RecordBatchReader.from_batches(sample_schema(), batches))
    rows += 10
"""


def test_a_writer_waits_for_a_holder_who_is_soon_done(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    lock = ExitStack()
    lock.enter_context(hold_writer_lock(store.path))
    with pytest.raises(LockedError), store.writer(patience=0):
        pass
    release = threading.Timer(0.1, lock.close)
    release.start()
    with store.writer(patience=60):
        release.join()


def test_a_reader_never_fails_beside_a_writer_in_another_process(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    enough, seen = tmp_path / "enough", [30]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, store.path, enough], cwd=ROOT)
    try:
        while len(set(seen)) < 8 and writer.poll() is None:
            reader = Store.open(store.path)
            ids = reader.read(["id"])["id"].to_pylist()
            assert ids == [f"s{number}" for number in range(len(ids))]
            assert reader.take([ids[-1], ids[0]], ["id"])["id"].to_pylist() == [ids[-1], ids[0]]
            seen.append(len(ids))
    finally:
        enough.touch()
        assert writer.wait() == 0
    assert all(count % 10 == 0 for count in seen), "whole versions only"
    assert [*seen, store.count()] == sorted([*seen, store.count()])


HOLDER = """
import sys
from indexer.store import Store
with Store.open(sys.argv[1]).writer():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_writer_is_free_again(tmp_path: Path) -> None:
    store = make_database(tmp_path / "db")
    command, pipe = [sys.executable, "-c", HOLDER, store.path], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid} on "):
            store.write_table("modes", pa.table({"id": ["a"]}))
        holder.kill()
    store.write_table("modes", pa.table({"id": ["a"]}))
    assert len(store.read_table("modes") or ()) == 1


def test_what_is_not_of_the_index_is_named(indexed: Path) -> None:
    for name in ("cache", "repairs", "cat as dog"):
        (indexed / name).mkdir(exist_ok=True)
    for name in ("ann.json", "x.csv", "manifest.json.partial"):
        (indexed / name).touch()
    report = check_database(indexed)
    detail = report.findings[-1].detail
    assert detail == "'cat as dog', 'x.csv' not of the index: move elsewhere"
    for number in range(9):
        (indexed / f"{number}.csv").touch()
    detail = check_database(indexed).findings[-1].detail
    assert (
        detail == "'0.csv', '1.csv', '2.csv', '3.csv', '4.csv' … not of the index: move elsewhere"
    )
