"""What the audit believes of a label: copies, usual mistakes, and what they must not do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln, softmax

from search.audit.belief import (
    CAUTION,
    Answers,
    Mistakes,
    believe,
    no_answers,
    posterior,
    reweigh,
    share_out,
    suggest,
    usual_mistakes,
)


def sure(right: np.ndarray, classes: int) -> np.ndarray:
    """Return probabilities of 0.99 for the right classes, the rest spread evenly."""
    return np.where(np.eye(classes, dtype=bool)[right], 0.99, 0.01 / (classes - 1))


def test_copies_are_averaged_as_log_probabilities() -> None:
    random = np.random.default_rng(0)
    logits, copies = random.normal(size=(6, 4)), random.normal(size=(3, 6, 4))
    views = softmax(np.concatenate([logits[None], copies]), axis=2)
    expected = np.exp(np.log(views).mean(0))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(posterior(logits, None, 1.0, copies), expected, rtol=1e-12)


def test_copies_that_were_not_made_count_for_nothing() -> None:
    random = np.random.default_rng(3)
    logits, copies = random.normal(size=(6, 4)), random.normal(size=(3, 6, 4))
    some = copies.copy()
    some[1:, 4:] = np.nan
    some[2, :2] = np.nan
    p = posterior(logits, None, 1.0, some)
    for rows, made in ((slice(4, 6), 1), (slice(0, 2), 2), (slice(2, 4), 3)):
        expected = posterior(logits[rows], None, 1.0, copies[:made, rows])
        np.testing.assert_allclose(p[rows], expected, rtol=1e-12)


def test_a_label_learnt_by_heart_gives_way_in_copies() -> None:
    logits = np.array([[5.0, 3.0, 0.0]])
    shifted = np.array([[[0.0, 3.0, 0.0]]] * 4)
    given = np.array([0])
    assert believe(logits, None, given)[0].argmax() == 0
    answers = no_answers(logits).with_more(shifted, shifted[:0])
    assert believe(logits, None, given, answers)[0].argmax() == 1


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6))
def test_further_copies_only_say_which_label_is_right(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(0, 3, (count, classes)), random.integers(0, classes, count)
    copies = random.normal(0, 3, (8, count, classes))
    copies[5:, ::2] = np.nan
    before, mistakes = believe(logits, None, labels, Answers(copies[:5], copies[:0]))
    after, _ = believe(logits, None, labels, Answers(copies[:5], copies[5:]))
    rows = np.arange(count)
    np.testing.assert_array_equal(after[rows, labels], before[rows, labels])
    np.testing.assert_allclose(after.sum(1), 1)
    np.testing.assert_allclose(after[::2], before[::2])
    closer = reweigh(posterior(logits, None, 1.0, copies), labels, mistakes)
    np.testing.assert_array_equal(suggest(after, labels)[1], suggest(closer, labels)[1])


def test_what_is_left_is_shared_in_proportion() -> None:
    p = np.array([[0.4, 0.5, 0.1], [0.4, 0.5, 0.1], [1.0, 0.0, 0.0]])
    closer = np.array([[0.8, 0.05, 0.15], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    expected = np.array([[0.4, 0.15, 0.45], [0.4, 0.5, 0.1], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(share_out(p, closer, np.zeros(3, int)), expected)


def test_random_mistakes_change_hardly_anything() -> None:
    random = np.random.default_rng(1)
    right = random.integers(0, 10, 3000)
    labels = np.where(random.random(3000) < 0.3, random.integers(0, 10, 3000), right)
    p = sure(right, 10)
    mistakes = usual_mistakes(p, labels)
    assert mistakes.chance > 20
    torn = np.full((10, 10), 0.1)
    assert np.abs(reweigh(torn, np.arange(10), mistakes) - torn).max() < 0.05


def test_usual_mistakes_make_their_kind_more_suspicious() -> None:
    random = np.random.default_rng(2)
    right = random.integers(0, 10, 3000)
    labels = np.where(random.random(3000) < 0.1, (right + 1) % 10, right)
    mistakes = usual_mistakes(sure(right, 10), labels)
    assert mistakes.counts[3, 4] == ((right == 3) & (labels == 4)).sum()
    assert mistakes.counts[4, 3] == 0
    torn = np.zeros((2, 10))
    torn[:, [2, 3, 4]] = 0.3, 0.3, 0.4
    usual, unusual = reweigh(torn, np.array([4, 2]), mistakes)
    assert usual[3] > 0.7 > 0.3 > usual[2]
    assert unusual[2] > torn[1, 2]
    given_p, suggested = suggest(np.stack([usual, unusual]), np.array([4, 2]))
    assert given_p[0] < 0.2
    assert suggested.tolist() == [3, 4]


def test_one_kind_of_mistake_gains_from_round_to_round() -> None:
    """Unsure mistakes of the usual kind are counted once the sure ones have made them likely."""
    random = np.random.default_rng(4)
    right = random.integers(0, 10, 3000)
    labels = np.where(random.random(3000) < 0.1, (right + 1) % 10, right)
    clear = np.where(random.random((3000, 1)) < 0.3, 8.0, 3.5)
    logits = clear * np.eye(10)[right] + 1.5 * np.eye(10)[labels]
    belief, mistakes = believe(logits, None, labels)
    once = usual_mistakes(posterior(logits, None, 1.0), labels)
    assert mistakes.counts.sum() > 1.5 * once.counts.sum()
    wrong = labels != right
    first = reweigh(posterior(logits, None, 1.0), labels, once)
    rows = np.arange(len(labels))
    assert belief[rows, labels][wrong].mean() < first[rows, labels][wrong].mean()
    assert (suggest(belief, labels)[1][wrong] == right[wrong]).all()


def test_random_mistakes_gain_nothing_in_rounds() -> None:
    random = np.random.default_rng(5)
    right = random.integers(0, 10, 3000)
    labels = np.where(random.random(3000) < 0.1, random.integers(0, 10, 3000), right)
    logits = 4 * np.eye(10)[right] + 2 * np.eye(10)[labels] + random.normal(0, 1, (3000, 10))
    plain = posterior(logits, None, 1.0)
    assert np.abs(believe(logits, None, labels)[0] - plain).max() < 0.1


@given(st.integers(0, 10**6), st.integers(3, 8), st.integers(1, 60))
def test_the_strength_of_chance_is_the_likeliest(seed: int, classes: int, count: int) -> None:
    random = np.random.default_rng(seed)
    right, labels = random.integers(0, classes, (2, count))
    mistakes = usual_mistakes(sure(right, classes), labels)
    counts = np.zeros((classes, classes))
    for to, label in zip(right, labels, strict=True):
        counts[to, label] += to != label
    np.testing.assert_array_equal(mistakes.counts.toarray(), counts)
    if not counts.any():
        assert np.isinf(mistakes.chance)
        return
    off = counts[~np.eye(classes, dtype=bool)].reshape(classes, classes - 1)

    def likelihood(a: float) -> float:
        whole = (classes - 1) * a
        rows = gammaln(whole) - gammaln(off.sum(1) + whole)
        return float(rows.sum() + (gammaln(off + a) - gammaln(a)).sum())

    best = max(likelihood(a) for a in np.geomspace(0.05, 200, 60))
    assert likelihood(mistakes.chance / CAUTION) == pytest.approx(best, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_belief_stays_a_probability(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits, given_labels = random.normal(0, 6, (40, classes)), random.integers(0, classes, 40)
    p, mistakes = believe(logits, None, given_labels)
    assert isinstance(mistakes, Mistakes)
    np.testing.assert_allclose(p.sum(1), 1)
    if classes < 3:  # there is one mistake at most to make
        np.testing.assert_array_equal(p, posterior(logits, None, 1.0))
