"""Masking and pasting report what the model says about the images they made."""

import numpy as np
import pytest

from failsearch.explain.explaining import explain_subject
from failsearch.explain.fills import fill
from failsearch.explain.paste import paste_onto
from failsearch.explain.regions import box_region, salient_region
from failsearch.explain.settings import ExplainSettings
from failsearch.explain.subjects import Bench
from failsearch.explain.what_if import what_if
from indexer.errors import SettingError


@pytest.fixture(scope="module")
def case(bench: Bench, failure: dict):
    (subject,) = bench.samples([failure["id"]])
    return subject, explain_subject(bench, subject, ExplainSettings()).heatmap


def test_probabilities_before_and_after(bench: Bench, case):
    subject, heat = case
    region = salient_region(heat, 0.1)
    settings = ExplainSettings(fill="blur", controls=4)
    found = what_if(bench, subject, heat, {"salient": region}, settings)
    assert [row.region for row in found.rows] == ["salient", "least salient", "random"]
    assert [row.control_for for row in found.rows] == [None, "salient", "salient"]
    masked = fill(subject.pixels, region, "blur", np.random.default_rng(0))
    # Alone, images may be summed in another order than in a batch.
    alone = [bench.probabilities(image[None])[0] for image in (subject.pixels, masked)]
    np.testing.assert_allclose(found.before, alone[0], rtol=1e-4)
    np.testing.assert_allclose(found.rows[0].probabilities, alone[1], rtol=1e-4)
    for row in found.rows:
        assert row.probabilities.sum() == pytest.approx(1)
        assert row.area == pytest.approx(region.mean())
    assert found.rows[0].deviation is None
    assert found.rows[2].deviation is not None
    assert found.rows[2].deviation.max() > 0


def test_what_if_repeats_for_a_seed(bench: Bench, case):
    subject, heat = case
    region = {"box": box_region([(1, 1, 6, 6)], heat.shape)}
    settings = ExplainSettings(fill="noise", controls=3, seed=7)
    first, again = (what_if(bench, subject, heat, region, settings) for _ in range(2))
    assert first.to_json() == again.to_json()
    other = what_if(bench, subject, heat, region, ExplainSettings(fill="noise", controls=3, seed=8))
    assert other.to_json() != first.to_json()


def test_paste_moves_what_it_says(bench: Bench, case, success: dict):
    subject, heat = case
    everything = np.ones(heat.shape, bool)
    everything[0, 0] = False
    settings = ExplainSettings(paste_onto=success["label_name"], paste_images=4)
    found = paste_onto(bench, subject, heat, everything, settings)
    assert found.onto == success["label_name"]
    assert subject.id not in found.ids
    # With all but a pixel pasted, every image becomes the failure and is taken for the same.
    assert found.rows[0].flipped.all()
    assert found.rows[0].moved == len(found.ids)
    target = bench.probabilities(subject.pixels[None])[0].max()
    np.testing.assert_allclose(found.rows[0].after, target, atol=0.05)
    assert found.picture().width > 100
    assert f"taken for {found.wrong}" in found.summary()[1]


def test_paste_needs_a_failure_and_another_class(bench: Bench, case, failure, success):
    subject, heat = case
    region = salient_region(heat, 0.1)
    wrong = ExplainSettings(paste_onto=failure["prediction_name"])
    with pytest.raises(SettingError, match="another class"):
        paste_onto(bench, subject, heat, region, wrong)
    (right,) = bench.samples([success["id"]])
    with pytest.raises(SettingError, match="classified correctly"):
        paste_onto(bench, right, heat, region, ExplainSettings(paste_onto=0))
