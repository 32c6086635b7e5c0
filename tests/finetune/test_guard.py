"""Accuracy counted softly: between a count and a mean of confidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.guard import boundary_width, soft_accuracy

LOGITS = np.random.default_rng(0).normal(0, 3, (50, 4)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 4, 50)


def test_of_no_width_it_is_the_accuracy():
    expected = (LOGITS.argmax(1) == LABELS).mean()
    assert soft_accuracy(LOGITS, LABELS, 1e-9) == pytest.approx(expected)


@given(st.floats(0.1, 10))
def test_of_two_classes_and_width_one_it_is_the_mean_probability_at_any_scale(scale):
    two, labels = LOGITS[:, :2].astype(np.float64), LABELS % 2
    probability = np.exp(two) / np.exp(two).sum(1, keepdims=True)
    expected = probability[np.arange(50), labels].mean()
    assert soft_accuracy(two * scale, labels, scale) == pytest.approx(expected)


def test_a_sample_on_the_boundary_counts_half_and_none_count_nothing():
    assert soft_accuracy(np.array([[1.0, 1.0, 0.0]]), np.array([1]), 0.5) == 0.5
    assert soft_accuracy(np.empty((0, 3)), np.empty(0, np.int64), 1.0) == 0


def test_the_width_scales_with_the_logits():
    assert boundary_width(3 * LOGITS) == pytest.approx(3 * boundary_width(LOGITS))
    assert boundary_width(np.zeros((3, 2))) > 0
