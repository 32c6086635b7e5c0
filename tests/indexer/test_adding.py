"""Additions to a finished index."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from indexer.datasets import ImageDataset, open_dataset, open_source
from indexer.errors import (
    IncompatibleIndexError,
    StoreError,
)
from indexer.pipeline import add_dataset
from indexer.progress import silent
from indexer.records import RAW, spool_schema, standardized_records
from indexer.schema import ID, samples_schema
from indexer.statistics import Statistics
from indexer.store import Store
from tests.support.raw_profiles import recover_raw
from tests.support.tiny_run import (
    SETTINGS,
    Death,
    TinyNet,
    contents,
    dying_after,
    run,
    tiny_images,
    tiny_model,
)


def test_adding_uses_the_statistics_of_the_index(dataset: ImageDataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "db")
    before = Store.open(tmp_path / "db").statistics.mean.tobytes()
    more = tiny_images(tmp_path / "more", count=20, seed=5)
    report = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    store = Store.open(tmp_path / "db")
    assert (report.status, report.profiled, report.rejected) == ("added", 18, 2)
    assert report.samples == store.count() == 71 + 18
    assert store.statistics.mean.tobytes() == before
    assert [source["path"] for source in store.manifest.sources] == [dataset.spec, more.spec]
    assert store.count("source = 1") == 18
    again = add_dataset(more, tiny_model(), tmp_path / "db", progress=silent)
    assert (again.status, again.rejected) == ("unchanged", 2)

    run(more, tmp_path / "alone")
    alone, added = Store.open(tmp_path / "alone"), store.read(["profile"], where="source = 1")
    z = np.array(alone.read(["profile"])["profile"].to_pylist())
    signs = np.frombuffer(b"".join(alone.read(["signs"])["signs"].to_pylist()), np.uint8)
    raw = recover_raw(z, signs.reshape(18, -1), alone.statistics)
    expected = abs(raw - store.statistics.mean) / store.statistics.deviation
    np.testing.assert_allclose(added["profile"].to_pylist(), expected, rtol=1e-3, atol=1e-3)


def test_a_unit_far_beyond_the_statistics_stays_finite_in_half_floats() -> None:
    schema = samples_schema(units=2, classes=2, embedding=None, profile_dtype="float16")
    raw = pa.RecordBatch.from_pylist([{"id": "a", RAW: [1.0, 5.0]}], spool_schema(schema))
    statistics = Statistics(np.zeros(2), np.array([1e-12, 1.0]), 9)
    batch = standardized_records(schema, raw, statistics, signed=False)
    assert batch["profile"].to_pylist() == [[np.finfo(np.float16).max, 5.0]]


def test_ids_that_the_index_holds_are_rejected(dataset: ImageDataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "db")
    Image.new("RGB", (8, 8), (9, 200, 30)).save(tmp_path / "images/cat/new.png")
    grown = open_dataset(tmp_path / "images")
    report = add_dataset(grown, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert (report.samples, report.duplicates) == (72, 71)
    rejects = Store.open(tmp_path / "db").read_table("rejects")
    assert rejects is not None
    assert sum("duplicate id" in reason for reason in rejects["reason"].to_pylist()) == 71


def test_a_prefix_tells_images_with_the_same_names_apart(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    run(dataset, tmp_path / "db")
    tiny_images(tmp_path / "more", count=80)  # the names of the first set
    more = open_dataset(tmp_path / "more", id_prefix="more/")
    report = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert (report.samples, report.duplicates) == (142, 0)
    store = Store.open(tmp_path / "db")
    added = store.read([ID, "ref"], where="source = 1").to_pylist()
    assert all(row[ID] == f"more/{row['ref']}" for row in added)
    source = store.manifest.sources[1]
    assert [row.id for row in open_source(source).rows()] == [row.id for row in more.rows()]
    again = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert again.status == "unchanged"
    assert not open_dataset(tmp_path / "more").is_source(source)


@pytest.mark.parametrize("step", ["spool", "append_samples", "publish", "write_table"])
def test_an_interrupted_addition_is_continued(
    dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    more = tiny_images(tmp_path / "more", count=60, seed=5)
    for db in ("db", "whole"):
        run(dataset, tmp_path / db)
    add_dataset(more, tiny_model(), tmp_path / "whole", SETTINGS, progress=silent)

    def die(*_: object) -> None:
        raise Death

    model = tiny_model(dying_after(9)) if step == "spool" else tiny_model()
    with monkeypatch.context() as patch:
        if step != "spool":
            patch.setattr(Store, step, die)
        with pytest.raises(Death):
            add_dataset(more, model, tmp_path / "db", SETTINGS, progress=silent)
    assert Store.open(tmp_path / "db").count() in (71, 71 + 53)
    report = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert report.samples == 71 + 53
    assert contents(tmp_path / "db") == contents(tmp_path / "whole")


def test_an_addition_whose_spool_was_deleted_is_made_again(
    dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dataset, tmp_path / "db")
    more = tiny_images(tmp_path / "more", count=20, seed=5)

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append_samples", full)
        with pytest.raises(StoreError, match="full"):
            add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    shutil.rmtree(tmp_path / "db/spool")
    report = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert (report.status, report.samples, report.rejected) == ("added", 71 + 18, 2)
    again = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert (again.status, again.samples) == ("unchanged", 71 + 18)


def test_adding_with_another_model_or_to_nothing_is_refused(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="no index at"):
        add_dataset(dataset, tiny_model(), tmp_path / "db", progress=silent)
    run(dataset, tmp_path / "db")
    more = tiny_images(tmp_path / "more", seed=5)
    with pytest.raises(IncompatibleIndexError, match="weights_digest"):
        add_dataset(more, tiny_model(TinyNet(3)), tmp_path / "db", progress=silent)


def test_metadata_columns_must_agree(tmp_path: Path) -> None:
    images = tiny_images(tmp_path / "images", count=6, broken=False)
    paths = [row.ref for row in images.rows()]
    for name, values in (("one", "1"), ("two", "x")):
        lines = [f"{path},{path.split('/')[0]},{values}" for path in paths]
        (tmp_path / "images" / f"{name}.csv").write_text("\n".join(["path,label,camera", *lines]))
    run(open_dataset(tmp_path / "images/one.csv"), tmp_path / "db")
    store = Store.open(tmp_path / "db")
    assert set(store.read(["meta_camera"])["meta_camera"].to_pylist()) == {1}
    with pytest.raises(IncompatibleIndexError, match=r"'camera' holds string, the index has int64"):
        add_dataset(
            open_dataset(tmp_path / "images/two.csv"),
            tiny_model(),
            tmp_path / "db",
            progress=silent,
        )
