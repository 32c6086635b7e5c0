"""Indexing runs from end to end: what they store, and what they do when short of memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from failsearch.query import ImageProfiler
from indexer import pipeline, profiling
from indexer.datasets import ImageDataset, open_dataset
from indexer.errors import IncompatibleIndexError, ModelError, UnsupportedLayerError
from indexer.images import IndexedImages
from indexer.pipeline import add_dataset
from indexer.progress import silent
from indexer.saliency.engine import SaliencyEngine
from indexer.saliency.layout import profile_layout
from indexer.saliency.reference import SelfCheck, reference_profiles
from indexer.store import Store
from tests.support.raw_profiles import recover_raw
from tests.support.tiny_run import (
    CLASSES,
    SETTINGS,
    FaultyNet,
    run,
    tiny_images,
    tiny_model,
)


def test_an_index_holds_every_row_under_its_own_id(dataset: ImageDataset, tmp_path: Path) -> None:
    report = run(dataset, tmp_path / "db")
    store, loaded = Store.open(tmp_path / "db"), tiny_model()
    rows = {row.id: row for row in dataset.rows()}
    samples = store.table("samples").to_arrow()
    rejects = store.read_table("rejects")
    assert rejects is not None
    stored, refused = samples["id"].to_pylist(), rejects["id"].to_pylist()
    assert [id for id in rows if id not in set(refused)] == stored
    assert (report.samples, report.rejected) == (len(stored), len(refused)) == (71, 9)
    assert (report.status, report.engine, report.units) == ("indexed", "fast", 10)

    images = [loaded.transform(Image.open(Path(dataset.spec) / rows[id].ref)) for id in stored]
    labels = [CLASSES.index(str(rows[id].label_name)) for id in stored]
    layout = profile_layout(loaded.model)
    raw = reference_profiles(loaded.model, torch.stack(images), torch.tensor(labels), layout)
    assert samples["label"].to_pylist() == labels
    profiles = np.array(samples["profile"].to_pylist(), np.float32)
    signs = np.frombuffer(b"".join(samples["signs"].to_pylist()), np.uint8).reshape(len(raw), -1)
    back = recover_raw(profiles, signs, store.statistics)
    np.testing.assert_allclose(back, raw.numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(store.statistics.mean, raw.double().mean(0), rtol=1e-5)
    np.testing.assert_allclose(store.statistics.deviation, raw.double().std(0), rtol=1e-4)


def test_one_fragment_and_no_spool_are_left(dataset: ImageDataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "db")
    assert len(list((tmp_path / "db/samples.lance/data").iterdir())) == 1
    assert not (tmp_path / "db/spool").exists()


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    def fault(size: int) -> None:
        if size > 3:
            raise torch.OutOfMemoryError("out of memory")

    report = run(dataset, tmp_path / "db", tiny_model(FaultyNet(fault)), batch_size=16)
    store = Store.open(tmp_path / "db")
    assert report.samples == 71
    assert store.manifest.batch_size == 2
    run(dataset, tmp_path / "plain")
    ids = Store.open(tmp_path / "plain").read(["id"])
    assert store.read(["id"]) == ids


def test_one_image_that_does_not_fit_is_an_error(dataset: ImageDataset, tmp_path: Path) -> None:
    armed = []

    def fault(size: int) -> None:
        if size > 3 or armed:
            armed.append(True)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 byte")

    with pytest.raises(ModelError, match="single image"):
        run(dataset, tmp_path / "db", tiny_model(FaultyNet(fault)))


def test_other_errors_of_the_model_are_not_taken_for_memory(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    def fault(size: int) -> None:
        if size > 3:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(dataset, tmp_path / "db", tiny_model(FaultyNet(fault)))


def test_images_without_a_finite_profile_are_rejected(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    loaded = tiny_model()
    calls = []

    def transform(image: Image.Image) -> torch.Tensor:
        calls.append(image)
        tensor = loaded.transform(image)
        if image.getpixel((0, 0))[0] < 20:  # type: ignore[index]
            raise ValueError("too dark")
        return tensor * torch.nan if image.getpixel((0, 0))[0] > 230 else tensor  # type: ignore[index]

    run(dataset, tmp_path / "db", replace(loaded, transform=transform))
    rejects = Store.open(tmp_path / "db").read_table("rejects")
    assert rejects is not None
    reasons = " ".join(rejects["reason"].to_pylist())
    assert "no finite profile" in reasons
    assert "cannot be transformed: too dark" in reasons
    assert Store.open(tmp_path / "db").count() + len(rejects) == 80


def test_an_engine_that_disagrees_is_replaced_by_the_reference(
    dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        profiling, "self_check", lambda *_: SelfCheck(1.0, False, "differs in layer 'stem'")
    )
    report = run(dataset, tmp_path / "db")
    assert report.engine == Store.open(tmp_path / "db").manifest.engine == "reference"
    monkeypatch.undo()
    run(dataset, tmp_path / "fast")
    slow, fast = (Store.open(tmp_path / db).read(["profile"]) for db in ("db", "fast"))
    np.testing.assert_allclose(
        slow["profile"].to_pylist(), fast["profile"].to_pylist(), rtol=1e-3, atol=1e-4
    )


def test_a_layer_that_the_fast_engine_meets_too_late_is_left_to_the_reference(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    def fault(size: int) -> None:
        if size > 3:
            raise UnsupportedLayerError("layer 'body' hides the samples")

    report = run(dataset, tmp_path / "db", tiny_model(FaultyNet(fault)))
    assert (report.engine, report.samples) == ("reference", 71)
    assert Store.open(tmp_path / "db").manifest.engine == "reference"


def test_whatever_comes_after_a_run_takes_its_engine(
    dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = SelfCheck(1.0, False, "differs in layer 'stem'")
    monkeypatch.setattr(profiling, "self_check", lambda *_: refused)
    run(dataset, tmp_path / "db")
    monkeypatch.undo()
    monkeypatch.setattr(SaliencyEngine, "__call__", lambda *_: pytest.fail("not relied on"))
    store = Store.open(tmp_path / "db")
    rows = store.read(["id", "source", "ref", "label", "profile"], limit=3)
    profiler = ImageProfiler(store, loaded=tiny_model())
    pixels = IndexedImages(store.manifest, tiny_model().transform).tensor(rows)
    profiles, _ = profiler.profiles(pixels, np.array(rows["label"].to_pylist()))
    np.testing.assert_allclose(profiles, rows["profile"].to_pylist(), rtol=1e-3, atol=1e-4)
    more = tiny_images(tmp_path / "more", count=6, seed=5)
    added = add_dataset(more, tiny_model(), tmp_path / "db", SETTINGS, progress=silent)
    assert (added.status, added.engine) == ("added", "reference")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_map": {"cat": "dog", "dog": "cat"}}, "class_map {}, not {'cat': 'dog'"),
        ({"max_pixels": 70}, "max_pixels 64000000, not 70"),
    ],
)
def test_data_read_in_another_way_is_not_taken_for_the_same(
    dataset: ImageDataset, tmp_path: Path, change: dict, message: str
) -> None:
    run(dataset, tmp_path / "db")
    with pytest.raises(IncompatibleIndexError, match=message):
        run(dataset, tmp_path / "db", **change)
    with pytest.raises(IncompatibleIndexError, match=message):
        add_dataset(dataset, tiny_model(), tmp_path / "db", replace(SETTINGS, **change), silent)


def test_a_class_that_is_named_like_a_gap_is_one(tmp_path: Path) -> None:
    tiny_images(tmp_path, count=6, broken=False)
    lines = [f"{path},{'NA' if i % 2 else ''}" for i, path in enumerate(tmp_path.glob("*/*.png"))]
    (tmp_path / "set.csv").write_text("\n".join(["path,label", *lines]))
    named = replace(tiny_model(), class_names=("NA", "dog", "ship"))
    report = run(open_dataset(tmp_path / "set.csv"), tmp_path / "db", named)
    assert (report.samples, report.rejected) == (3, 3)
    run(open_dataset(tmp_path / "set.csv"), tmp_path / "mapped", class_map={"NA": "ship"})
    for db, name in (("db", "NA"), ("mapped", "ship")):
        assert set(Store.open(tmp_path / db).read(["label_name"])["label_name"].to_pylist()) == {
            name
        }
    rest = [f"{line.partition(',')[0]},NA" for line in lines[::2]]
    (tmp_path / "rest.csv").write_text("\n".join(["path,label", *rest]))
    added = add_dataset(
        open_dataset(tmp_path / "rest.csv"), named, tmp_path / "db", SETTINGS, silent
    )
    assert added.samples == 6


def test_automatic_batches_and_float16_and_signs(dataset: ImageDataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "db", batch_size=None, profile_dtype="float16", signed=True)
    store = Store.open(tmp_path / "db")
    profiles = np.array(store.read(["profile"])["profile"].to_pylist())
    assert store.table("samples").schema.field("profile").type.value_type == pa.float16()
    assert (profiles < 0).any()
    np.testing.assert_allclose(profiles.mean(0), 0, atol=1e-3)
    assert store.manifest.batch_size == 32


def test_progress_goes_to_stderr_only(
    dataset: ImageDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("indexer.progress.LOG_INTERVAL", 0)
    pipeline.index_dataset(dataset, tiny_model(), tmp_path / "db", SETTINGS)
    out, err = capsys.readouterr()
    assert out == ""
    assert "agrees with the reference" in err
    assert "Indexing: 80/80" in err
