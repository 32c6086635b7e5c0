"""Which candidates have further pairs of copies, and what comes back for the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.audit.belief import Answers, believe, suggest
from search.audit.copies import ONE_IN, WHETHER, look_closer


@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_the_most_suspicious_are_looked_at_again(seed: int, count: int, voted: bool) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 2, (count, 5)), random.integers(0, 5, count)
    shares = random.dirichlet(np.ones(5), count) if voted else None
    pairs = random.normal(0, 2, (len(ONE_IN), 2, count, 5)).astype(np.float32)
    asked: list[np.ndarray] = []

    def look(rows: np.ndarray, pair: int) -> np.ndarray:
        assert pair == len(asked)
        asked.append(rows)
        return pairs[pair][:, rows]

    found = look_closer(look, logits, shares, labels)
    assert len(found.whether) == 2 * WHETHER
    copies = found.every
    assert copies.shape == (2 * len(ONE_IN), count, 5)
    np.testing.assert_array_equal(asked[0], np.arange(count))
    for pair, (rows, one_in) in enumerate(zip(asked, ONE_IN, strict=True)):
        cut = 2 * min(pair, WHETHER)
        known, made = Answers(copies[:cut], copies[cut : 2 * pair]), copies[2 * pair : 2 * pair + 2]
        np.testing.assert_array_equal(made[:, rows], pairs[pair][:, rows])
        others = np.setdiff1d(np.arange(count), rows)
        assert np.isnan(made[:, others]).all()
        assert len(others) == count - -(-count // one_in)
        suspicion = 1 - suggest(believe(logits, shares, labels, known)[0], labels)[0]
        assert suspicion[rows].min() >= suspicion[others].max(initial=0)


def test_nobody_is_looked_at_where_there_is_nobody() -> None:
    copies = look_closer(
        lambda rows, pair: np.zeros((2, len(rows), 3)), np.zeros((0, 3)), None, np.zeros(0, int)
    )
    assert copies.every.shape == (2 * len(ONE_IN), 0, 3)
