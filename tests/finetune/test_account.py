"""What was fixed and broken, and the intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from finetune.account import account, mcnemar, paired_difference, wilson


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(successes, extra):
    trials = successes + extra
    interval = wilson(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert interval.low == pytest.approx(expected.low, abs=1e-9)
    assert interval.high == pytest.approx(expected.high, abs=1e-9)


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 1000))
def test_the_interval_of_a_difference_is_antisymmetric(gained, lost, rest):
    one = paired_difference(gained, lost, gained + lost + rest)
    other = paired_difference(lost, gained, gained + lost + rest)
    assert one.value == -other.value
    assert one.low == pytest.approx(-other.high)


def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    up, down, trials = 0.02, 0.01, 1000
    draws = random.multinomial(trials, [up, down, 1 - up - down], 2000)
    intervals = [paired_difference(int(g), int(b), trials) for g, b, _ in draws]
    covered = np.mean([one.low <= up - down <= one.high for one in intervals])
    assert 0.93 < covered < 0.97


LABELS = np.array([0, 0, 0, 1, 1, 1, 2])
BEFORE = np.array([1, 1, 0, 1, 1, 0, 2])
MODE = np.array([True, True, False, False, False, False, False])


def test_fixed_and_broken_are_counted_on_both_sides():
    after = np.array([0, 1, 0, 1, 0, 0, 0])
    found = account(LABELS, BEFORE, after, MODE, [(0, 1)])
    assert (found.mode_failures, found.mode_fixed) == (2, 1)
    assert (found.samples, found.fixed, found.broken) == (7, 1, 2)
    assert found.accuracy_change.value == pytest.approx(-1 / 7)
    assert found.elsewhere_change.value == pytest.approx(-2 / 5)
    assert (found.reverse_before, found.reverse_after) == (1, 2)
    changes = [(one.label, one.samples, one.fixed, one.broken) for one in found.classes]
    assert changes == [(0, 3, 1, 0), (1, 3, 0, 1), (2, 1, 0, 1)]
    assert found.verdict == "trades one confusion for its reverse"


def test_a_repair_without_reverse_confusions_is_one():
    found = account(LABELS, BEFORE, np.array([0, 0, 0, 1, 1, 0, 2]), MODE, [(0, 1)])
    assert found.verdict == "repairs"
    assert account(LABELS, BEFORE, BEFORE, MODE, [(0, 1)]).verdict == "does not repair"
    costly = account(LABELS, BEFORE, np.array([0, 1, 2, 2, 1, 0, 2]), MODE, [(0, 1)])
    assert costly.verdict == "breaks more than it fixes"


@pytest.mark.parametrize(("fixed", "verdict"), [(1, "hardly repairs"), (2, "repairs")])
def test_a_repair_fixes_a_fifth_of_its_mode(fixed, verdict):
    mode = np.ones(10, bool)
    after = np.where(np.arange(10) < fixed, 0, 1)
    found = account(np.zeros(10, int), np.ones(10, int), after, mode, [(0, 1)])
    assert found.verdict == verdict


def test_a_shifted_boundary_that_gains_beyond_doubt_is_no_mere_trade():
    labels = np.repeat([0, 1], 100)
    before = np.where(np.arange(200) < 40, 1, labels)
    for reverse, verdict in ((20, "repairs"), (38, "trades one confusion for its reverse")):
        after = np.where(np.arange(200) >= 200 - reverse, 0, labels)
        found = account(labels, before, after, before != labels, [(0, 1)])
        assert found.reverse_after == reverse
        assert found.trades == (verdict != "repairs")
        assert found.verdict == verdict
        assert found.elsewhere_change.value == pytest.approx(-reverse / 160)


def test_both_directions_of_a_mode_are_no_reverse_of_each_other():
    found = account(LABELS, BEFORE, BEFORE, MODE, [(0, 1), (1, 0)])
    assert (found.reverse_before, found.reverse_after) == (0, 0)


def test_a_held_out_part_without_failures_of_the_mode_has_no_share():
    found = account(LABELS, BEFORE, BEFORE, np.zeros(7, bool), [])
    assert found.fixed_share is None
