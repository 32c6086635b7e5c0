"""The pure parts of grouping: representation, exemplars, names, settings."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from indexer.errors import SettingError
from search.modes import Confusion, Mode, ModeReport, ModeSettings, SharedFilter
from search.modes.communities import communities
from search.modes.exemplars import cohesion, diverse, typical_first, typicality
from search.modes.naming import describe_confusions, distinguish
from search.modes.representation import fit_space, layer_scale, temper, unit_or_zero
from search.modes.settings import TRANSFORMS
from tests.support.arrays import even_layout

matrices = arrays(
    np.float32, st.tuples(st.integers(2, 9), st.just(6)), elements=st.floats(-9, 9, width=32)
)


@given(matrices, st.sampled_from(TRANSFORMS))
def test_tempering_keeps_signs_and_order(profiles: np.ndarray, transform: str) -> None:
    tempered = temper(profiles, transform, np.zeros(6, np.float32))
    assert (np.sign(tempered) * np.sign(profiles) >= 0).all()
    for row, new in zip(np.abs(profiles), np.abs(tempered), strict=True):
        assert (np.diff(new[np.argsort(row, kind="stable")]) >= 0).all()


def test_peaks_are_the_excess_over_the_threshold() -> None:
    profile = np.array([[3.0, -3.0, 0.5]], np.float32)
    assert temper(profile, "peaks", np.ones(3, np.float32)).tolist() == [[2, -2, 0]]


@given(matrices)
def test_balanced_layers_have_equal_energy(profiles: np.ndarray) -> None:
    profiles = profiles + np.float32(0.5)
    layout = even_layout(6)
    scaled = profiles * layer_scale(profiles, layout)
    energies = [(scaled[:, la.start : la.stop] ** 2).sum(1).mean() for la in layout.layers]
    np.testing.assert_allclose([e for e in energies if e > 1e-6], 1, rtol=1e-4)


def test_features_are_unit_rows_without_the_common_component() -> None:
    profiles = np.random.default_rng(0).random((50, 6)).astype(np.float32) + 3
    space = fit_space(profiles, None, even_layout(6), ModeSettings(dimensions=5))
    features = space(profiles, None)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert features.shape == (50, space.width) == (50, 5)
    assert abs((features @ features.T).mean()) < 0.05


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_cosines_mix_profiles_and_embeddings_by_weight(weight: float) -> None:
    random = np.random.default_rng(0)
    profiles, embeddings = (random.random((50, n)).astype(np.float32) for n in (6, 9))
    settings = ModeSettings(dimensions=5, embedding_weight=weight)
    space = fit_space(profiles, embeddings, even_layout(6), settings)
    assert space.embeddings is not None
    features, of_profiles = space(profiles, embeddings), space.profiles(profiles)
    of_embeddings = space.embeddings(embeddings)
    mixed = (1 - weight) * of_profiles @ of_profiles.T + weight * of_embeddings @ of_embeddings.T
    np.testing.assert_allclose(features @ features.T, mixed, atol=1e-5)
    assert features.shape == (50, space.width) == (50, 10)


def test_clear_failures_come_before_equally_typical_close_calls() -> None:
    members = unit_or_zero(np.array([[1, 0.1], [1, 0.1], [1, -0.2]], np.float32))
    assert typical_first(members, np.array([0.45, 0.01, 0.01])).tolist() == [1, 2, 0]


@pytest.mark.parametrize(("failures", "groups"), [(300, 3), (3000, 12)])
def test_few_failures_are_cut_more_coarsely(failures: int, groups: int) -> None:
    """Three causes of four kinds each: seen as kinds only where there are failures enough."""
    random = np.random.default_rng(0)
    causes, kinds = np.eye(15)[:3], np.eye(15)[3:]
    kind = np.arange(failures) % 12
    centres = causes[kind // 4] + 0.6 * kinds[kind]
    features = unit_or_zero(centres + random.normal(0, 0.2, (failures, 15))).astype(np.float32)
    found = communities(features, ModeSettings(resolution=3.0, neighbours=40))
    assert abs(found.max() + 1 - groups) <= 1


@given(matrices)
def test_cohesion_is_the_mean_cosine_of_pairs(vectors: np.ndarray) -> None:
    members = unit_or_zero(vectors)
    cosines = members.astype(np.float64) @ members.T
    pairs = cosines[~np.eye(len(members), dtype=bool)]
    assert cohesion(members) == pytest.approx(pairs.mean(), abs=1e-5)


def test_exemplars_cover_the_corners_of_a_mode() -> None:
    angles = np.repeat(np.radians([0, 40, 80]), 10)
    members = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    members = members[np.argsort(-typicality(members), kind="stable")]
    chosen = diverse(members, 3)
    assert len(set(chosen.tolist())) == 3
    assert chosen[0] == 0
    assert len(diverse(members, 99)) == 30
    assert len(diverse(members, 0)) == 0


def confusion(label: str, prediction: str, count: int) -> Confusion:
    names = ["bird", "cat", "deer", "dog", "frog"]
    return Confusion(names.index(label), names.index(prediction), label, prediction, count)


@pytest.mark.parametrize(
    ("confusions", "name"),
    [
        ([confusion("cat", "dog", 9), confusion("dog", "cat", 1)], "cat → dog"),
        ([confusion("cat", "dog", 9), confusion("dog", "cat", 6)], "cat ↔ dog"),
        ([confusion("dog", "cat", 9), confusion("cat", "dog", 6)], "cat ↔ dog"),
        ([confusion("bird", "frog", 4), confusion("deer", "frog", 4)], "bird, deer → frog"),
        ([confusion("bird", "frog", 4), confusion("bird", "cat", 4)], "bird → frog, cat"),
        ([confusion("bird", "frog", 4), confusion("cat", "dog", 4)], "bird → frog, cat → dog"),
    ],
)
def test_names_follow_the_confusions(confusions: list[Confusion], name: str) -> None:
    assert describe_confusions(confusions) == name


def test_equal_names_get_a_distinguishing_filter_then_a_number() -> None:
    filters = [SharedFilter("layer4.0.conv1", 3, 2.0)]
    first = distinguish("cat → dog", filters, {"cat → dog"})
    assert first == "cat → dog · layer4.0.conv1:3"
    assert distinguish("cat → dog", filters, {"cat → dog", first}) == "cat → dog (2)"


@pytest.mark.parametrize(
    "wrong",
    [
        {"transform": "cubed"},
        {"neighbours": 0},
        {"min_size": 1},
        {"dimensions": 1},
        {"resolution": 0},
        {"resolution": float("nan")},
        {"min_support": 1.5},
        {"embedding_weight": -0.1},
        {"exemplars": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        ModeSettings(**wrong)


def mode(**changes: Any) -> Mode:
    values: dict[str, Any] = {
        "id": "m1",
        "name": "cat → dog",
        "samples": ("a", "b"),
        "confusions": (confusion("cat", "dog", 2),),
        "cohesion": 0.5,
        "filters": (),
        "exemplars": ("a",),
        "at_risk": ("c",),
    }
    return Mode(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": ("a", "a")},
        {"samples": ()},
        {"confusions": ()},
        {"exemplars": ("x",)},
        {"at_risk": ("a",)},
        {"name": ""},
    ],
)
def test_a_mode_checks_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="mode"):
        mode(**changes)


def test_a_report_checks_itself() -> None:
    settings = ModeSettings()
    with pytest.raises(ValueError, match="share the id"):
        ModeReport((mode(), mode(name="x", samples=("d", "e"), exemplars=())), (), settings)
    with pytest.raises(ValueError, match="one mode or stays ungrouped"):
        ModeReport((mode(),), ("a",), settings)
