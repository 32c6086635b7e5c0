"""Which candidates have a second pair of copies, and what comes back for the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.audit.belief import believe, suggest
from search.audit.copies import SECOND_LOOK, look_twice


@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_the_most_suspicious_are_looked_at_twice(seed: int, count: int, voted: bool) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 2, (count, 5)), random.integers(0, 5, count)
    shares = random.dirichlet(np.ones(5), count) if voted else None
    pairs = random.normal(0, 2, (2, 2, count, 5))
    asked: list[np.ndarray] = []

    def look(rows: np.ndarray, pair: int) -> np.ndarray:
        asked.append(rows)
        return pairs[pair][:, rows]

    copies = look_twice(look, logits, shares, labels)
    assert copies.shape == (4, count, 5)
    np.testing.assert_array_equal(asked[0], np.arange(count))
    np.testing.assert_array_equal(copies[:2], pairs[0])
    np.testing.assert_array_equal(copies[2:, asked[1]], pairs[1][:, asked[1]])
    others = np.setdiff1d(np.arange(count), asked[1])
    assert np.isnan(copies[2:, others]).all()
    assert len(others) == count - -(-count // SECOND_LOOK)
    suspicion = 1 - suggest(believe(logits, shares, labels, pairs[0])[0], labels)[0]
    assert suspicion[asked[1]].min() >= suspicion[others].max(initial=0)


def test_nobody_is_looked_at_where_there_is_nobody() -> None:
    copies = look_twice(
        lambda rows, pair: np.zeros((2, len(rows), 3)), np.zeros((0, 3)), None, np.zeros(0, int)
    )
    assert copies.shape == (4, 0, 3)
