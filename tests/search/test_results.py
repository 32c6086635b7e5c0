"""Results validate themselves, convert, and never let text become markup."""

import json
import math
from dataclasses import replace

import pytest

from search.results import (
    CommonFilter,
    Neighbour,
    Sample,
    SearchResult,
    samples_from_arrow,
    samples_to_arrow,
)

SAMPLE = Sample(
    id="a<b>&'\"", label=0, prediction=1, label_name="<cat>", prediction_name="dog", correct=False,
    confidence=0.75, label_probability=0.25, loss=1.5, margin=-0.5, entropy=0.5,
    top_classes=(1, 0), top_probabilities=(0.75, 0.25), width=3, height=4, source=0, ref="a.png",
    metadata={"weather": "<sun>", "speed": 3.0}, thumbnail=b"\xff\xd8",
)  # fmt: skip
OTHER = replace(SAMPLE, id="other", metadata={"weather": None, "speed": math.inf})


def result(*scores: float) -> SearchResult:
    neighbours = [
        Neighbour(replace(OTHER, id=f"n{n}"), score, (CommonFilter("conv", n, 0.1),))
        for n, score in enumerate(scores)
    ]
    return SearchResult(SAMPLE, tuple(neighbours))


def test_json_has_the_promised_keys() -> None:
    document = json.loads(json.dumps(result(0.9, 0.8).to_json(), allow_nan=False))
    for key in ("id", "label", "prediction", "label_name", "prediction_name", "correct"):
        assert key in document["query"]
    assert document["query"]["metadata"] == {"weather": "<sun>", "speed": 3.0}
    first = document["neighbours"][0]
    assert first["score"] == 0.9
    assert first["shared_filters"] == [{"layer": "conv", "filter": 0, "share": 0.1}]
    assert first["metadata"] == {"weather": None, "speed": None}
    assert "thumbnail" not in first
    several = replace(result(0.9), query=(SAMPLE, OTHER))
    assert [item["id"] for item in several.to_json()["query"]] == [SAMPLE.id, "other"]


def test_arrow_and_back() -> None:
    table = result(0.9, 0.8).to_arrow()
    assert table["rank"].to_pylist() == [1, 2]
    assert table["score"].to_pylist() == pytest.approx([0.9, 0.8])
    assert table["meta_weather"].to_pylist() == [None, None]
    assert samples_from_arrow(samples_to_arrow([SAMPLE])) == (SAMPLE,)
    assert samples_to_arrow([]).num_rows == 0
    assert list(result(0.9).to_pandas()["id"]) == ["n0"]


def test_html_is_escaped() -> None:
    for page in (result(0.9)._repr_html_(), SAMPLE._repr_html_()):
        assert "<cat>" not in page
        assert "a<b>" not in page
        assert "&lt;cat&gt; → dog" in page
        assert "data:image/jpeg;base64,/9g=" in page


def test_results_check_themselves() -> None:
    with pytest.raises(ValueError, match="best first"):
        result(0.8, 0.9)
    with pytest.raises(ValueError, match="not a cosine"):
        result(1.5)
    with pytest.raises(ValueError, match="contradicts"):
        replace(SAMPLE, correct=True)
    with pytest.raises(ValueError, match="differ in length"):
        replace(SAMPLE, top_classes=(1,))
    neighbour = Neighbour(OTHER, 0.5)
    with pytest.raises(ValueError, match="twice"):
        SearchResult(SAMPLE, (neighbour, neighbour))
    with pytest.raises(ValueError, match="best first, ties by id"):
        SearchResult(SAMPLE, (neighbour, Neighbour(replace(OTHER, id="a"), 0.5)))
    with pytest.raises(ValueError, match="method"):
        SearchResult(SAMPLE, (), complete=False)
