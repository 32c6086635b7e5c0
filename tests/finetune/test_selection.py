"""Which filters a repair may touch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from finetune.selection import FilterEvidence, filter_count, select, within_weights
from indexer.errors import SettingError
from indexer.filters import FilterLayout, Layer

scores = arrays(np.float64, st.integers(1, 30), elements=st.integers(-3, 3).map(float))


def only_failures(values: np.ndarray) -> FilterEvidence:
    return FilterEvidence(values, np.zeros_like(values))


@given(scores, st.integers(1, 30))
def test_salient_are_the_highest_scores_and_least_the_lowest(values, count):
    count = min(count, len(values))
    high = select("salient", only_failures(values), count)
    low = select("least", only_failures(values), count)
    for chosen in (high, low):
        assert len(chosen) == count
        assert (np.diff(chosen) > 0).all()
    assert sorted(values[high]) == sorted(values)[len(values) - count :]
    assert sorted(values[low]) == sorted(values)[:count]


def test_equal_scores_go_to_the_lower_column():
    assert select("salient", only_failures(np.ones(5)), 2).tolist() == [0, 1]
    assert select("least", only_failures(np.ones(5)), 2).tolist() == [0, 1]


LAYOUT = FilterLayout(
    (Layer("a", "a.weight", "conv", 0, 2, 100), Layer("b", "b.weight", "conv", 2, 3, 10))
)


def test_a_budget_of_weights_passes_over_filters_that_are_too_large():
    assert within_weights(np.array([0, 1, 4, 2, 3]), LAYOUT, 115).tolist() == [0, 4]
    assert within_weights(np.array([4, 2, 0]), LAYOUT, 15).tolist() == [4]
    with pytest.raises(SettingError, match="5 weights"):
        within_weights(np.array([4]), LAYOUT, 5)


def test_the_papers_fraction_gives_19_filters_of_resnet18_and_106_of_resnet50():
    assert filter_count(0.004, 4800) == 19
    assert filter_count(0.004, 26560) == 106
    assert filter_count(0.004, 10) == 1


@pytest.mark.parametrize("fraction", [0, -1, 1.1, float("nan")])
def test_a_fraction_outside_its_range_is_named(fraction):
    with pytest.raises(SettingError, match=str(fraction)):
        filter_count(fraction, 10)


def test_each_selection_follows_its_evidence():
    evidence = FilterEvidence(
        failures=np.array([5.0, 4.0, 1.0, 0.0]),
        needed=np.array([5.0, 0.0, 0.0, 0.0]),
        gradient=np.array([0.0, 0.0, 0.0, 1.0]),
    )
    assert select("salient", evidence, 1).tolist() == [0]
    assert select("contrastive", evidence, 1).tolist() == [1]
    assert select("gradient", evidence, 1).tolist() == [3]
    assert select("least", evidence, 1).tolist() == [3]
    assert select("all", evidence, 1).tolist() == [0, 1, 2, 3]


def test_random_filters_repeat_with_the_seed_and_differ_without():
    evidence = FilterEvidence(np.zeros(1000), np.zeros(1000))
    first = select("random", evidence, 20, seed=1)
    assert first.tolist() == select("random", evidence, 20, seed=1).tolist()
    assert first.tolist() != select("random", evidence, 20, seed=2).tolist()
    assert len(np.unique(first)) == 20


@pytest.mark.parametrize("name", ["gradient", "unheard-of"])
def test_what_cannot_be_selected_is_said(name):
    with pytest.raises(SettingError, match=name):
        select(name, FilterEvidence(np.zeros(3), np.zeros(3)), 1)
