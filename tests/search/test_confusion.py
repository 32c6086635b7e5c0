"""Counts of confusions, against a plain count of pairs."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.confusion import SHADES, SHOWN_CLASSES, ConfusionMatrix

CLASSES = ("cat", "dog", "ship")
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40)


def counted(pairs: list[tuple[int, int]], classes: tuple[str, ...] = CLASSES) -> ConfusionMatrix:
    columns = np.array(pairs, np.int32).reshape(-1, 2).T
    samples = pa.table([pa.array(column) for column in columns], ["label", "prediction"])
    return ConfusionMatrix.of(samples, classes)


@given(PAIRS)
def test_every_figure_is_that_of_a_plain_count(pairs: list[tuple[int, int]]) -> None:
    matrix = counted(pairs)
    wrong = Counter((CLASSES[a], CLASSES[b]) for a, b in pairs if a != b)
    found = matrix.pairs()
    assert {(pair["label"], pair["prediction"]): pair["count"] for pair in found} == wrong
    assert [pair["count"] for pair in found] == sorted(wrong.values(), reverse=True)
    right = len(pairs) - wrong.total()
    assert matrix.summary() == {
        "samples": len(pairs),
        "failures": wrong.total(),
        "accuracy": pytest.approx(right / max(1, len(pairs))),
        "classes": 3,
    }
    worst = matrix.worst_classes()
    assert {row["name"] for row in worst} == {CLASSES[label] for label, _ in pairs}
    assert [row["accuracy"] for row in worst] == sorted(row["accuracy"] for row in worst)
    for row in worst:
        own = [b for a, b in pairs if CLASSES[a] == row["name"]]
        hits = own.count(CLASSES.index(row["name"]))
        assert (row["samples"], row["failures"]) == (len(own), len(own) - hits)


def test_what_is_drawn_is_cut_to_the_most_confused_classes() -> None:
    names = tuple(f"class {c}" for c in range(100))
    pairs = [(c, c) for c in range(100)] + [(98, 99)] * 4 + [(99, 98)] + [(50, 98)] * 2
    drawn = counted(pairs, names).drawn()
    assert drawn["cut"]
    assert len(drawn["names"]) == len(drawn["rows"]) == SHOWN_CLASSES
    assert drawn["names"][-3:] == ["class 50", "class 98", "class 99"]
    before, last = drawn["rows"][-2]["cells"], drawn["rows"][-1]["cells"]
    assert before[-1] == {"prediction": "class 99", "count": 4, "hit": False, "shade": SHADES}
    assert before[-2] == {"prediction": "class 98", "count": 1, "hit": True, "shade": 0}
    assert last[-2]["shade"] == round(SHADES / 4)
    assert not counted(pairs[:3]).drawn()["cut"]


def test_counts_have_a_row_and_a_column_a_class() -> None:
    with pytest.raises(ValueError, match="of 3 classes"):
        ConfusionMatrix(np.zeros((2, 3), np.int64), CLASSES)
