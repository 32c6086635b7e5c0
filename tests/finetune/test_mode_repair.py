"""A mode's repair from the store to the files, and its verification."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch

from finetune.mode_repair import repair_mode
from finetune.patch import apply_patch, read_patch, revert_patch, write_patch
from finetune.population import open_population
from finetune.records import list_repairs, read_repair
from finetune.repair import repair
from finetune.reprofile import reprofile
from finetune.settings import RepairSettings
from finetune.verify import verify_patch
from finetune.workbench import ModeRepairSettings
from indexer.errors import IncompatibleIndexError, ModelError, SettingError, StoreError
from search.modes import Confusion, Mode, ModeReport, ModeSettings
from search.modes.stored import write_modes
from tests.support.classifier import SmallIndex

SETTINGS = ModeRepairSettings(
    selections=("salient",), max_weights=0.5, max_drop=0.5, lr=0.02, retentions=(1.0,), steps=10
)


@pytest.fixture
def indexed(small_index: SmallIndex) -> SmallIndex:
    """A small index whose failures are one mode."""
    table = small_index.store.read(["id", "label", "prediction", "label_name", "correct"])
    failures = [row for row in table.to_pylist() if not row["correct"]]
    confusions = [
        Confusion(row["label"], row["prediction"], row["label_name"], "other", 1)
        for row in failures
    ]
    ids = tuple(row["id"] for row in failures)
    mode = Mode("m1", "all", ids, tuple(confusions), 0.5, (), (), ())
    write_modes(small_index.store, ModeReport((mode,), (), ModeSettings()))
    return small_index


def test_a_mode_repair_reports_writes_records_and_verifies(indexed):
    store = indexed.store
    before = store.read(["id", "prediction", "profile"])
    report = repair_mode(store, "m1", settings=SETTINGS)
    assert report.found
    assert report.winner is not None
    assert report.winner["guard"]["drop"] <= 0.5
    assert set(report.controls) == {"random", "least", "last", "all"}
    assert sum(report.parts.values()) == 36
    assert report.held_out.samples == report.parts["held-out"]
    document = report.to_json()
    assert json.loads(json.dumps(document))["found"] is True
    for key in ("id", "filters", "neighbours", "neighbours_corrected", "accuracy_change", "model"):
        assert key in document
    assert store.read(["id", "prediction", "profile"]).equals(before)

    stored, samples = read_repair(store, report.id)
    assert (stored["target"], stored["target_name"], stored["mode"]) == ("m1", "all", "m1")
    assert stored["held_out"]["broken"] == report.held_out.broken
    held_out = samples.filter(np.array(samples["split"].to_pylist()) == "held-out")
    changes = held_out["change"].to_pylist()
    assert changes.count("fixed") == report.held_out.fixed
    assert changes.count("broken") == report.held_out.broken
    assert report.to_pandas()["id"].tolist() == samples["id"].to_pylist()
    parts = pq.read_table(store.path / "repairs" / report.id / "split.parquet")
    assert parts.num_rows == 36

    assert verify_patch(store, str(report.patch)).matches
    added = store.table("samples").search().limit(3).to_arrow()
    names = pa.array(["new0", "new1", "new2"])
    added = added.set_column(added.schema.get_field_index("id"), added.schema.field("id"), names)
    with store.writer():
        store.append_samples(added.to_reader())
    assert verify_patch(store, str(report.patch)).matches  # later samples are in no part

    model = timm.create_model(f"local-dir:{report.model}", pretrained=True).eval()
    population, _ = open_population(store)
    with torch.inference_mode():
        predicted = model(population.inputs.batch(population.rows(samples["id"].to_pylist())))
    assert predicted.argmax(1).tolist() == samples["after"].to_pylist()

    patch = read_patch(str(report.patch))
    weights = indexed.model_folder / "model.safetensors"
    original = weights.read_bytes()
    assert verify_patch(store, str(report.patch), weights).weights == "base"
    apply_patch(patch, weights, indexed.model_folder.parent / "patched.safetensors")
    patched = indexed.model_folder.parent / "patched.safetensors"
    assert verify_patch(store, str(report.patch), patched).weights == "patched"
    revert_patch(patch, patched)
    assert patched.read_bytes() == original
    with pytest.raises(ModelError, match="neither"):
        verify_patch(store, str(report.patch), report.patch)

    (store.path / "repairs" / report.id / "split.parquet").write_bytes(b"torn")
    with pytest.raises(StoreError, match=r"cannot read .*split\.parquet"):
        verify_patch(store, str(report.patch))


@pytest.mark.parametrize("run", [repair_mode, repair])
def test_a_repaired_model_takes_the_place_of_nothing(indexed, tmp_path, run):
    weights = indexed.model_folder / "model.safetensors"
    before = weights.read_bytes()
    (tmp_path / "link").symlink_to(indexed.model_folder)
    for taken in (indexed.model_folder, tmp_path / "link", weights):
        with pytest.raises(SettingError, match="is not empty: name a new folder"):
            run(indexed.store, mode="m1", output=taken)
    assert weights.read_bytes() == before


def test_a_patch_is_judged_on_the_data_it_was_made_from(indexed, tmp_path):
    settings = RepairSettings(fraction=0.1, lr=0.02, steps=3, neighbours=5)
    patch = read_patch(repair(indexed.store, mode="m1", settings=settings).patch)
    other = replace(patch, details={**patch.details, "sources": ["of other data"]})
    write_patch(other, tmp_path / "other.safetensors")
    with pytest.raises(IncompatibleIndexError, match="made from other data"):
        verify_patch(indexed.store, tmp_path / "other.safetensors")


def test_that_no_repair_exists_is_recorded_too(indexed):
    hopeless = ModeRepairSettings(selections=("salient",), lr=1e-9, steps=1, max_weights=0.5)
    report = repair_mode(indexed.store, "m1", settings=hopeless)
    assert not report.found
    assert (report.patch, report.model, report.filters) == (None, None, ())
    assert report.held_out.verdict == "does not repair"
    assert report.outcome.accuracy_change == 0
    assert [entry["found"] for entry in list_repairs(indexed.store)] == [False]
    with pytest.raises(ModelError):
        reprofile(indexed.store, report.id)


def test_the_papers_repair_verifies_and_profiles_again(indexed):
    store = indexed.store
    settings = RepairSettings(fraction=0.1, lr=0.02, steps=3, neighbours=5)
    report = repair(store, mode="m1", settings=settings)
    found = verify_patch(store, report.patch)
    assert found.matches
    assert found.judged_on == "index"
    earlier = replace(found, promised={"fixed": found.measured["fixed"]})
    assert earlier.matches  # figures that an earlier version did not promise
    broken = replace(found, promised=found.promised | {"fixed": -1})
    assert (broken.matches, broken.differing) == (False, ("fixed",))

    table = pq.read_table(reprofile(store, report.id))
    assert table["id"].to_pylist() == [sample.id for sample in report.samples]
    assert table["prediction"].to_pylist() == [sample.after for sample in report.samples]
    old = store.take(table["id"].to_pylist(), ["profile"])["profile"].to_pylist()
    assert np.abs(np.array(old) - np.array(table["profile"].to_pylist())).max() > 1e-3
    assert pq.read_table(reprofile(store, report.id, whole_index=True)).num_rows == 36


def test_a_patch_of_another_model_is_refused(indexed, tmp_path):
    from tests.support.classifier import make_small_index

    report = repair(indexed.store, mode="m1")
    other = make_small_index(tmp_path / "other", seed=5)
    with pytest.raises(IncompatibleIndexError, match="other weights"):
        verify_patch(other.store, report.patch)
