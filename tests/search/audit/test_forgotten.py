"""Whom a copy of the model is to forget, and what its answers count for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.audit.belief import Answers, believe, posterior, reweigh, suggest
from search.audit.copies import ONE_IN, WHETHER
from search.audit.forgotten import ask_after_forgetting, with_forgotten

ANSWERS = 1 + 2 * len(ONE_IN)


def case(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray, Answers]:
    """Return logits, labels and what copies were taken for, all at random."""
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 3, (count, classes)), random.integers(0, classes, count)
    copies = random.normal(0, 3, (2 * len(ONE_IN), count, classes))
    return logits, labels, Answers(copies[: 2 * WHETHER], copies[2 * WHETHER :])


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 6), st.booleans())
def test_the_most_suspicious_quarter_is_forgotten(
    seed: int, count: int, classes: int, mirror: bool
) -> None:
    logits, labels, answers = case(seed, count, classes)
    if not mirror:
        answers.whether[1::2] = np.nan
    said = np.random.default_rng(seed + 1).normal(size=(ANSWERS, -(-count // 4), classes))
    asked: list[np.ndarray] = []

    def forget(suspects: np.ndarray, closely: int, mirrored: bool) -> np.ndarray:
        assert (closely, mirrored) == (-(-count // 12), mirror)
        asked.append(suspects)
        return said

    found = ask_after_forgetting(forget, answers, logits, None, labels)
    assert found is not None
    (suspects,) = asked
    others = np.setdiff1d(np.arange(count), suspects)
    assert len(suspects) == -(-count // 4)
    np.testing.assert_allclose(found[:, suspects], said, rtol=1e-6)
    assert np.isnan(found[:, others]).all()
    given_p, _ = suggest(believe(logits, None, labels, answers)[0], labels)
    assert (np.diff(given_p[suspects]) >= 0).all()
    assert given_p[suspects].max() <= given_p[others].min(initial=1)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6))
def test_first_answers_say_whether_and_all_say_which(seed: int, count: int, classes: int) -> None:
    logits, labels, copies = case(seed, count, classes)
    said = np.random.default_rng(seed + 2).normal(0, 3, (ANSWERS, count, classes))
    said[:, ::3] = np.nan
    belief, mistakes = believe(logits, None, labels, with_forgotten(copies, said))
    rows, first = np.arange(count), 1 + 2 * WHETHER
    views = np.concatenate([copies.whether, said[:first]])
    whether, _ = believe(logits, None, labels, Answers(views, views[:0]))
    np.testing.assert_allclose(belief[rows, labels], whether[rows, labels], rtol=1e-12)
    every = np.concatenate([copies.every, said])
    which = reweigh(posterior(logits, None, 1.0, every), labels, mistakes)
    np.testing.assert_array_equal(suggest(belief, labels)[1], suggest(which, labels)[1])


def test_a_copy_that_came_to_nothing_changes_nothing() -> None:
    logits, labels, answers = case(0, 20, 3)
    assert ask_after_forgetting(lambda *_: None, answers, logits, None, labels) is None
    assert with_forgotten(answers, None) is answers
    nobody = Answers(answers.whether[:, :0], answers.which[:, :0])

    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("there is nobody to forget")

    assert ask_after_forgetting(refuse, nobody, logits[:0], None, labels[:0]) is None
