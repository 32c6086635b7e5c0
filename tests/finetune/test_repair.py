"""The paper's repair on a small real index, from the store to the files and the record."""

import re
import shutil

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import failsearch
from finetune.patch import apply_patch, read_patch
from finetune.population import open_population
from finetune.records import list_repairs, read_repair
from finetune.repair import repair
from finetune.settings import RepairSettings
from indexer.errors import ChangedWeightsError, SettingError, UnknownSampleError
from indexer.indexed_model import load_indexed_model
from indexer.models import load_model
from indexer.patched import PATCH_FILE
from indexer.relocate import relocate
from indexer.same_model import open_model
from indexer.weights import WEIGHTS_FILE
from search.modes import Confusion, Mode, ModeReport, ModeSettings
from search.modes.stored import write_modes

SETTINGS = RepairSettings(fraction=0.1, lr=0.02, steps=3, neighbours=5)


def failures_of(index) -> list[str]:
    table = index.store.read(["id", "correct"])
    return [row["id"] for row in table.to_pylist() if not row["correct"]]


def test_a_repair_reports_writes_and_records_and_leaves_the_index_alone(small_index):
    store = small_index.store
    before = store.read(["id", "prediction", "profile"])
    sample = failures_of(small_index)[0]
    report = repair(store, sample=sample, settings=SETTINGS)

    assert (report.id, report.kind, report.target) == ("r1", "sample", sample)
    assert report.neighbours == 5
    assert len(report.filters) == round(0.1 * len(store.manifest.layout))
    assert set(report.controls) == {"random", "least", "all"}
    assert report.outcome.fixed - report.outcome.broken == round(36 * report.accuracy_change)
    assert sum(s.change == "fixed" for s in report.samples) == report.outcome.fixed
    assert sum(s.change == "broken" for s in report.samples) == report.outcome.broken
    assert report.to_json()["controls"]["all"]["weights"] > report.outcome.weights

    assert store.read(["id", "prediction", "profile"]).equals(before)
    load_indexed_model(store.manifest)  # raises where the weights have changed
    assert list_repairs(store)[0]["id"] == "r1"
    document, samples = read_repair(store, "r1")
    assert document["neighbours_corrected"] == report.neighbours_corrected
    assert (document["mode"], document["title"]) == (None, sample)
    assert samples.equals(report.to_arrow())
    assert repair(store, sample=sample, settings=SETTINGS).id == "r2"


def test_the_repaired_folder_loads_in_plain_timm_and_predicts_what_was_recorded(small_index):
    report = repair(small_index.store, sample=failures_of(small_index)[0], settings=SETTINGS)
    assert report.outcome.fixed + report.outcome.broken > 0
    model = timm.create_model(f"local-dir:{report.model}", pretrained=True).eval()
    population, _ = open_population(small_index.store)
    rows = population.rows([sample.id for sample in report.samples])
    with torch.inference_mode():
        predictions = model(population.inputs.batch(rows)).argmax(1).tolist()
    assert predictions == [sample.after for sample in report.samples]

    apply_patch(read_patch(report.patch), small_index.model_folder)
    patched = load_model(f"local-dir:{small_index.model_folder}").digest
    assert patched == load_model(f"local-dir:{report.model}").digest


def test_weights_that_carry_a_repair_are_told_with_the_way_back(small_index, tmp_path):
    store, folder = small_index.store, small_index.model_folder
    report = repair(store, sample=failures_of(small_index)[0], settings=SETTINGS)
    for repair_id, content in (("r0", b""), ("r00", b"{}")):  # damaged ones are passed over
        (store.path / "repairs" / repair_id).mkdir()
        (store.path / "repairs" / repair_id / PATCH_FILE).write_bytes(content)
    kept = shutil.copytree(folder, tmp_path / "kept")
    apply_patch(read_patch(report.patch), folder)
    back = f"of repair r1: take it off with `failsearch patch revert {report.patch} "
    for ask in (
        lambda: open_model(store),
        lambda: failsearch.open(store.path).engine_paths("cpu"),
        lambda: relocate(store.path, model=f"local-dir:{folder}"),
    ):
        with pytest.raises(ChangedWeightsError, match=re.escape(f"{back}{folder}`")):
            ask()
    checkpoint = folder / WEIGHTS_FILE
    with pytest.raises(ChangedWeightsError, match=re.escape(f"{back}{checkpoint}`")):
        relocate(store.path, model=f"local-dir:{kept}", checkpoint=checkpoint)

    weights = load_file(folder / WEIGHTS_FILE)
    weights["fc.bias"][0] += 1
    save_file(weights, folder / WEIGHTS_FILE)
    with pytest.raises(ChangedWeightsError, match="restore them, or index again"):
        open_model(store)


def test_a_mode_is_repaired_on_all_its_members(small_index):
    members = failures_of(small_index)[:6]
    table = small_index.store.take(members, ["label", "prediction", "label_name"])
    confusions = [
        Confusion(row["label"], row["prediction"], row["label_name"], "other", 1)
        for row in table.to_pylist()
    ]
    mode = Mode("m1", "six", tuple(members), tuple(confusions), 0.5, (), (), ())
    write_modes(small_index.store, ModeReport((mode,), (), ModeSettings()))
    report = repair(small_index.store, mode="m1", settings=SETTINGS)
    assert (report.kind, report.target, report.neighbours) == ("mode", "m1", 6)
    assert report.target_name == "six"
    assert read_repair(small_index.store, report.id)[0]["mode"] == "m1"
    assert [s.id for s in report.samples if s.in_group] == sorted(members)
    assert "m1" in report._repr_html_()


def test_the_salient_filters_lower_the_samples_loss_more_than_the_least_salient(session_index):
    population, _ = open_population(session_index.store)
    from finetune.repair import _arms, mean_evidence, take_steps
    from finetune.rescore import rescore

    rows = population.failures[:1]
    arms = _arms(mean_evidence(population, rows), SETTINGS)
    edits = {n: take_steps(population, c, rows, lr=1e-3, steps=1) for n, c in arms.items()}
    logits = rescore(population, edits, rows)
    label = population.labels[rows[0]]

    def loss(values: np.ndarray) -> float:
        return float(np.log(np.exp(values[0] - values[0, label]).sum()))

    was = loss(population.logits[rows])
    assert was > loss(logits["least"]) > loss(logits["salient"]) > loss(logits["all"])


def test_the_group_is_the_sample_and_its_nearest_failures(small_index):
    population, _ = open_population(small_index.store)
    row = int(population.failures[2])
    report = repair(small_index.store, sample=population.ids[row], settings=SETTINGS)
    profiles = population.profiles(population.failures).astype(float)
    unit = profiles / np.linalg.norm(profiles, axis=1, keepdims=True)
    nearest = population.failures[np.argsort(-(unit @ unit[2]))[:5]]
    assert nearest[0] == row
    group = {sample.id for sample in report.samples if sample.in_group}
    assert group == {population.ids[one] for one in nearest}


def test_a_users_mistakes_are_named(session_index):
    store = session_index.store
    right = next(r["id"] for r in store.read(["id", "correct"]).to_pylist() if r["correct"])
    with pytest.raises(SettingError, match="classified correctly"):
        repair(store, sample=right)
    with pytest.raises(UnknownSampleError, match="nowhere"):
        repair(store, sample="nowhere")
    with pytest.raises(SettingError, match="either"):
        repair(store)
    with pytest.raises(SettingError, match="fraction"):
        RepairSettings(fraction=2)
    with pytest.raises(UnknownSampleError, match="no repair 'r9'"):
        read_repair(store, "r9")
