"""An explanation agrees with the index it comes from, and shows itself."""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from failsearch.explain import ExplainSettings, InvertSettings, explain, invert
from failsearch.explain.explaining import explain_subject, explain_subjects
from failsearch.explain.subjects import Bench
from indexer.errors import (
    ClassMapError,
    DataError,
    IncompatibleIndexError,
    SettingError,
    UnknownSampleError,
)
from indexer.saliency.matching import matching_distance
from indexer.saliency.reference import reference_profiles
from tests.support.classifier import SmallIndex
from tests.support.progress import Recorder


def _stored(bench: Bench, sample: str) -> np.ndarray:
    row = bench.store.take([sample], ["profile"])["profile"].combine_chunks()
    return row.flatten().to_numpy()


def test_agrees_with_the_stored_sample(bench: Bench, failure: dict):
    (subject,) = bench.samples([failure["id"]])
    explanation = explain_subject(bench, subject, ExplainSettings(top=5))
    stored = _stored(bench, failure["id"])
    np.testing.assert_allclose(explanation.profile, stored, rtol=1e-3, atol=1e-3)
    assert explanation.label_name == failure["label_name"]
    assert explanation.prediction_name == failure["prediction_name"]
    top = np.argsort(-stored)[:5]
    assert [item.column for item in explanation.filters] == top.tolist()
    for item in explanation.filters:
        assert bench.layout.column(f"{item.layer}:{item.filter}") == item.column
        assert item.standardized == pytest.approx(stored[item.column], rel=1e-3)
        assert item.raw == pytest.approx(explanation.raw[item.column])


def test_percentiles_rank_against_all_samples(bench: Bench, failure: dict):
    (subject,) = bench.samples([failure["id"]])
    (explanation,) = explain_subjects(bench, [subject], ExplainSettings(top=4))
    table = bench.store.read(["profile"])["profile"].combine_chunks()
    profiles = table.flatten().to_numpy().reshape(len(table), -1)
    for item in explanation.filters:
        below = (profiles[:, item.column] < item.standardized).mean() * 100
        assert item.percentile == pytest.approx(below)


def test_gradient_is_taken_by_pixels(bench: Bench, failure: dict, monkeypatch: pytest.MonkeyPatch):
    """Finite differences in float64, by pixels in [0, 1] and not by normalized input."""
    (subject,) = bench.samples([failure["id"]])
    mean, std = bench.mean.astype(np.float64), bench.std.astype(np.float64)
    monkeypatch.setattr(bench, "model", deepcopy(bench.model).double())
    monkeypatch.setattr(bench, "normalize", lambda pixels: torch.from_numpy((pixels - mean) / std))
    (explanation,) = explain_subjects(bench, [subject], ExplainSettings(top=5))
    label = torch.tensor([subject.label])

    def raw(pixels: np.ndarray) -> torch.Tensor:
        return reference_profiles(bench.model, bench.normalize(pixels[None]), label, bench.layout)

    target = bench.standardize(raw(subject.pixels))
    target[0, [item.column for item in explanation.filters]] *= 100
    distance = matching_distance(bench.standardize, target)
    step = 1e-6 * np.sign(explanation.gradient)
    numeric = distance(raw(subject.pixels + step)) - distance(raw(subject.pixels - step))
    expected = 2 * float((explanation.gradient * step).sum())
    assert numeric.item() == pytest.approx(expected, rel=1e-2)


def test_batches_agree_with_single_explanations(bench: Bench):
    ids = bench.store.read(["id"], limit=5)["id"].to_pylist()
    subjects = bench.samples(ids)
    together = explain_subjects(bench, subjects, ExplainSettings())
    for subject, found in zip(subjects, together, strict=True):
        (alone,) = explain_subjects(bench, [subject], ExplainSettings())
        np.testing.assert_allclose(found.gradient, alone.gradient, rtol=1e-3, atol=1e-6)
        assert found.filters[0].column == alone.filters[0].column


def test_an_image_is_explained_as_the_sample_it_is(
    small: SmallIndex, failure: dict, tmp_path: Path
):
    folder = small.model_folder.parent / "images"
    by_id = explain(small.store, sample=failure["id"])
    by_file = explain(small.store, image=folder / failure["id"], label=failure["label_name"])
    with Image.open(folder / failure["id"]) as picture:
        by_picture = explain(small.store, image=picture, label=failure["label"])
    np.testing.assert_array_equal(by_id.pixels, by_file.pixels)
    np.testing.assert_array_equal(by_id.pixels, by_picture.pixels)
    np.testing.assert_allclose(by_id.heatmap, by_file.heatmap, rtol=1e-4, atol=1e-7)
    assert by_file.id == Path(failure["id"]).name


def test_chosen_filters_take_the_place_of_the_top(bench: Bench, failure: dict):
    (subject,) = bench.samples([failure["id"]])
    names = (bench.layout.name(3), bench.layout.name(40))
    explanation = explain_subject(bench, subject, ExplainSettings(filters=names))
    assert [item.column for item in explanation.filters] == [3, 40]
    with pytest.raises(SettingError, match="no filter 'stem:99'"):
        explain_subject(bench, subject, ExplainSettings(filters=("stem:99",)))


def test_saves_panel_arrays_and_pictures(
    bench: Bench, failure: dict, success: dict, tmp_path: Path
):
    (subject,) = bench.samples([failure["id"]])
    settings = ExplainSettings(
        masks=((0, 0, 4, 4),), mask_salient=0.1, paste_onto=success["label_name"], controls=3
    )
    if success["label"] == failure["prediction"]:
        settings = ExplainSettings(masks=((0, 0, 4, 4),), mask_salient=0.1, controls=3)
    explanation = explain_subject(bench, subject, settings)
    files = explanation.save(tmp_path / "made")
    assert all(file.stat().st_size for file in files)
    with Image.open(tmp_path / "made" / "panel.png") as picture:
        panel = np.asarray(picture)
    assert panel.shape[1] > 1200
    assert panel.std() > 10
    with np.load(tmp_path / "made" / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["heatmap"], explanation.heatmap)
    document = json.loads(json.dumps(explanation.to_json()))
    assert document["filters"][0]["layer"]
    assert document["what_if"]["regions"][0]["region"] == "boxes"
    assert len(explanation.summary()) >= 7


def test_requests_that_make_no_sense(small: SmallIndex, bench: Bench, tmp_path: Path):
    store = small.store
    with pytest.raises(SettingError, match="either"):
        explain(store)
    with pytest.raises(SettingError, match="either"):
        explain(store, sample="a", image="b", label=0)
    with pytest.raises(SettingError, match="label"):
        explain(store, image=Image.new("RGB", (8, 8)))
    with pytest.raises(SettingError, match="a label goes with an image"):
        explain(store, sample="a", label=0)
    with pytest.raises(UnknownSampleError, match="nowhere"):
        explain(store, sample="nowhere")
    with pytest.raises(ClassMapError, match=r"'square'.*'circle', 'cross', 'stripes'"):
        explain(store, image=Image.new("RGB", (8, 8)), label="square")
    with pytest.raises(DataError, match=r"missing\.png"):
        explain(store, image=tmp_path / "missing.png", label=0)
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.jpg"):
        explain(store, image=tmp_path / "text.jpg", label=0)


def test_every_pass_is_reported(small: SmallIndex, failure: dict, success: dict) -> None:
    progress = Recorder()
    settings = ExplainSettings(mask_salient=0.1, controls=2)
    explain(small.store, sample=failure["id"], settings=settings, progress=progress)
    invert(small.store, sample=failure["id"], settings=InvertSettings(steps=2), progress=progress)
    assert progress.told == [(f"Explaining {failure['id']}", 2), (f"Inverting {failure['id']}", 2)]


def test_importing_the_package_is_light():
    code = (
        "import sys, failsearch.explain; "
        "print([m for m in ('torch', 'matplotlib.figure', 'lancedb', 'scipy') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_changed_model_is_refused(small: SmallIndex, monkeypatch: pytest.MonkeyPatch):
    manifest = small.store.manifest
    other = replace(manifest, model={**manifest.model, "weights_digest": "0" * 64})
    monkeypatch.setattr(type(small.store), "manifest", property(lambda store: other))
    with pytest.raises(IncompatibleIndexError):
        Bench(small.store)
