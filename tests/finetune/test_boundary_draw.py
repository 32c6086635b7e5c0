"""The estimate of a change of accuracy from the samples near the boundary."""

import numpy as np
import pytest

from finetune.boundary_draw import draw_near_boundary

LOGITS = np.random.default_rng(0).normal(0, 2, (400, 4)).astype(np.float32)
MARGINS = np.diff(np.sort(LOGITS, axis=1)[:, -2:], axis=1)[:, 0]


def test_the_nearest_are_all_in_and_the_draw_stands_for_the_rest():
    draw = draw_near_boundary(LOGITS, nearest=50, drawn=70, seed=0)
    nearest = np.argsort(MARGINS)[:50]
    assert set(nearest) <= set(draw.rows)
    assert len(draw.rows) == len(set(draw.rows)) == 120
    assert draw.weights.sum() == pytest.approx(400)
    assert (draw.weights[np.isin(draw.rows, nearest)] == 1).all()
    assert (np.diff(draw.rows) > 0).all()


def test_flips_near_the_boundary_are_counted_exactly():
    before = np.random.default_rng(1).random(400) < 0.7
    after = before ^ (np.argsort(np.argsort(MARGINS)) < 30)
    expected = after.mean() - before.mean()
    for seed in range(5):
        draw = draw_near_boundary(LOGITS, nearest=50, drawn=20, seed=seed)
        assert draw.change(before[draw.rows], after[draw.rows]) == pytest.approx(expected)


def test_over_many_draws_the_estimate_is_the_change_wherever_samples_flip():
    random = np.random.default_rng(2)
    before, after = random.random(400) < 0.7, random.random(400) < 0.5
    draws = [draw_near_boundary(LOGITS, 50, 80, seed) for seed in range(400)]
    found = [draw.change(before[draw.rows], after[draw.rows]) for draw in draws]
    error = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(after.mean() - before.mean(), abs=4 * error)


def test_where_there_are_no_others_all_are_scored():
    draw = draw_near_boundary(LOGITS, nearest=1000, drawn=10, seed=0)
    assert draw.rows.tolist() == list(range(400))
    assert (draw.weights == 1).all()
