"""The pure parts of the audit against scipy and brute force."""

import io

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import mannwhitneyu

from search.audit.belief import posterior, suggest
from search.audit.causes import Trait, causes, compare
from search.audit.duplicates import NEAR_BITS, _candidates
from search.audit.pictures import PROPERTIES, difference_hash, measure
from search.audit.settings import AuditSettings
from search.audit.significance import discoveries
from search.modes import Confusion, Mode, ModeReport, ModeSettings


@given(st.integers(0, 10**6), st.integers(6, 40), st.integers(6, 40), st.booleans())
def test_one_class_is_the_rank_sum_test(seed: int, m: int, n: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 5, m + n).astype(float) if ties else random.normal(size=m + n)
    labels, correct = np.zeros(m + n, int), np.arange(m + n) >= m
    compared = compare(values, np.arange(m), labels, correct)
    if compared is None:
        assert len(set(values)) == 1
        return
    expected = mannwhitneyu(
        values[:m], values[m:], use_continuity=False, method="asymptotic", alternative="two-sided"
    )
    assert compared.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert compared.effect == pytest.approx(2 * expected.statistic / (m * n) - 1, abs=1e-9)


def test_what_is_typical_of_a_class_is_no_cause() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    values = labels * 10 + random.normal(size=400)
    correct = np.ones(400, bool)
    members = np.arange(200, 230)  # all of the bright class, and ordinary within it
    correct[members] = False
    compared = compare(values, members, labels, correct)
    assert compared is not None
    assert abs(compared.effect) < 0.3
    assert compared.p_value > 0.01


def test_what_cannot_be_compared_is_in_no_figure_and_in_no_sentence() -> None:
    labels = np.array([0] * 5 + [1] * 15 + [0] * 30)  # nothing of class 1 is right
    values = np.where(np.arange(50) < 5, 1.0, 0.0)
    correct, members = np.arange(50) >= 20, np.arange(20)
    compared = compare(values, members, labels, correct)
    assert compared is not None
    assert (compared.count, compared.effect) == (5, 1.0)
    assert (compared.members, compared.others) == (1.0, 0.0)
    ids = [f"s{row}" for row in range(50)]
    confusion = Confusion(0, 1, "cat", "dog", 20)
    mode = Mode("m1", "mode", tuple(ids[:20]), (confusion,), 0.5, (), (), ())
    report = ModeReport((mode,), (), ModeSettings())
    traits = [Trait("light=night", values, None), Trait("speed", -values, ("slow", "fast"))]
    tagged, measured = sorted(
        causes(report, traits, ids, labels, correct, AuditSettings()),
        key=lambda finding: finding.evidence["property"],
    )
    assert tagged.evidence["compared"] == measured.evidence["compared"] == 5
    assert tagged.reason.startswith(
        "100 % of the 5 of its 20 images that can be compared have light=night, 0 % of correct"
    )
    assert measured.reason.startswith("the 5 of its 20 images that can be compared are slow: ")
    assert tagged.samples == measured.samples == tuple(ids[:5])


@given(st.lists(st.floats(0, 1), max_size=40), st.sampled_from([0.01, 0.1, 0.5]))
def test_discoveries_follow_benjamini_and_hochberg(p_values: list[float], rate: float) -> None:
    """The k smallest are rejected, for the largest k whose p-value is at most rate * k / n."""
    ranked, n = sorted(p_values), len(p_values)
    surely = all(abs(p - rate * k / n) > 1e-12 for k, p in enumerate(ranked, start=1))
    assume(surely)
    most = max((k for k, p in enumerate(ranked, start=1) if p <= rate * k / n), default=0)
    expected = [p <= ranked[most - 1] if most else False for p in p_values]
    assert discoveries(np.array(p_values), rate).tolist() == expected


@given(st.integers(0, 10**6))
def test_no_pair_of_close_hashes_is_missed(seed: int) -> None:
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**63, 30, dtype=np.uint64)
    for twin in range(1, 30, 3):
        flips = random.choice(64, random.integers(0, 12), replace=False)
        hashes[twin] = hashes[twin - 1] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    found = {pair for a, b in _candidates(hashes, hashes) for pair in zip(a, b, strict=True)}
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert found == set(zip(*np.nonzero(distance <= NEAR_BITS), strict=True))


def test_neighbours_can_only_help_the_class_they_vote_for() -> None:
    logits = np.array([[1.0, 1.0, 0.0]], np.float32)
    shares = np.array([[0.1, 0.9, 0.0]])
    alone, together = posterior(logits, None, 1.0), posterior(logits, shares, 1.0)
    assert alone[0, 0] == alone[0, 1]
    assert together[0, 1] > alone[0, 1]
    assert together.sum() == pytest.approx(1)
    given_p, other = suggest(together, np.array([1]))
    assert other.tolist() == [0]
    assert given_p[0] == together[0, 1]


def gray(level: int, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.full((*shape, 3), level, np.uint8)


def test_properties_measure_what_they_say() -> None:
    names = list(PROPERTIES)

    def value(pixels: np.ndarray, name: str) -> float:
        return measure(pixels, 64, 32)[names.index(name)]

    red = gray(0)
    red[..., 0] = 200
    assert value(red, "redness") == 200
    assert value(red, "saturation") == 200
    assert value(gray(90), "brightness") == 90
    assert value(gray(90), "contrast") == 0
    framed = gray(200)
    framed[4:12, 4:12] = 0
    assert value(framed, "border contrast") == 0
    assert value(framed, "border brightness") == 200
    assert value(framed, "pixels") == 64 * 32
    assert value(framed, "aspect") == pytest.approx(np.log(2))
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    ramp = np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[None, :, None], 16, 0).repeat(3, 2)
    assert value(noise, "sharpness") > 5 * value(ramp, "sharpness")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2)])
def test_tiny_images_have_properties_too(shape: tuple[int, int]) -> None:
    assert np.isfinite(measure(gray(10, shape), 0, 0)).all()


def test_hashes_survive_compression() -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 255, (6, 6, 3)).astype(np.uint8)).resize((48, 48))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    again = Image.open(buffer)
    assert bin(difference_hash(image) ^ difference_hash(again)).count("1") <= 4
