"""Streaming statistics against numpy, and the way back from a standardized profile."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from indexer.errors import StoreError
from indexer.statistics import (
    RunningStatistics,
    Statistics,
    pack_signs,
    standardize,
)
from tests.support.raw_profiles import recover_raw

PROFILES = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 9)),
    elements=st.floats(0, 1e4, width=32),
)


@given(raw=PROFILES, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_parts_of_any_size_give_the_statistics_of_the_whole(raw, cuts) -> None:
    whole = RunningStatistics(raw.shape[1])
    for part in np.split(raw, sorted(min(cut, len(raw)) for cut in cuts)):
        piece = RunningStatistics(raw.shape[1])
        piece.update(part)
        whole.merge(piece)
    wide = raw.astype(np.float64)
    expected = wide.std(axis=0, ddof=1) if len(raw) > 1 else np.zeros(raw.shape[1])
    scale = np.abs(wide).max(axis=0) + 1
    np.testing.assert_allclose(whole.mean, wide.mean(axis=0), rtol=1e-12)
    reached = np.sqrt(whole.m2 / max(whole.count - 1, 1))
    np.testing.assert_allclose(reached / scale, expected / scale, atol=1e-12)
    assert whole.count == len(raw)


def test_no_cancellation_far_from_zero() -> None:
    raw = 1e8 + np.random.default_rng(0).normal(size=(1000, 3))
    running = RunningStatistics(3)
    for part in np.split(raw, 10):
        running.update(part)
    np.testing.assert_allclose(running.deviation, raw.std(axis=0, ddof=1), rtol=1e-7)


def test_a_unit_that_never_saw_a_gradient_has_deviation_one() -> None:
    running = RunningStatistics(2)
    running.update(np.array([[0, 1], [0, 2]], np.float32))
    assert running.deviation.tolist() == [1.0, np.sqrt(0.5)]
    single = RunningStatistics(1)
    single.update(np.ones((1, 1), np.float32))
    assert single.result().deviation.tolist() == [1.0]


@given(raw=PROFILES, signed=st.booleans())
def test_raw_profiles_are_recovered(raw: np.ndarray, signed: bool) -> None:
    running = RunningStatistics(raw.shape[1])
    running.update(raw)
    statistics = running.result()
    profiles = standardize(raw, statistics, signed)
    assert profiles.dtype == np.float32
    assert signed or (profiles >= 0).all()
    back = recover_raw(profiles, pack_signs(raw, statistics), statistics, signed)
    scale = np.abs(raw).max() + 1
    np.testing.assert_allclose(back / scale, raw / scale, atol=1e-6)


def test_standardized_profiles_have_mean_zero_and_deviation_one() -> None:
    raw = np.random.default_rng(1).gamma(2, size=(500, 7)).astype(np.float32)
    running = RunningStatistics(7)
    running.update(raw)
    z = standardize(raw, running.result(), signed=True)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0, ddof=1), 1, atol=1e-6)
    np.testing.assert_array_equal(standardize(raw, running.result()), np.abs(z))


def test_statistics_survive_the_disk(tmp_path: Path) -> None:
    statistics = Statistics(np.arange(3.0), np.ones(3), 5)
    statistics.save(tmp_path / "statistics.npz")
    loaded = Statistics.load(tmp_path / "statistics.npz")
    assert loaded.count == 5
    np.testing.assert_array_equal(loaded.mean, statistics.mean)
    whole = (tmp_path / "statistics.npz").read_bytes()
    for torn in (b"torn", b"", whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "statistics.npz").write_bytes(torn)
        with pytest.raises(StoreError, match="unreadable"):
            Statistics.load(tmp_path / "statistics.npz")


def test_impossible_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        Statistics(np.zeros(2), np.ones(3), 1)
    with pytest.raises(ValueError, match="finite"):
        Statistics(np.zeros(2), np.zeros(2), 1)
