"""The approximate path: exact scores, honest margins, and no index that does not fit."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lancedb.index import IvfRq

from indexer.errors import SettingError, StoreError
from indexer.store import Store
from search import ann
from search.ann import AnnIndex, build_ann, open_ann, read_report
from search.info import search_info
from search.neighbours import SearchSettings, search
from search.predicates import FAILURES, to_sql
from search.snapshot import snapshot
from tests.support.progress import Recorder

from .conftest import make_index
from .test_snapshot import appended


@pytest.fixture(scope="module", autouse=True)
def few_queries() -> Iterator[None]:
    """Measure builds on a few failures only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ann, "_SAMPLED_QUERIES", 12)
        yield


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An index of 600 samples with an approximate index of its own."""
    store = make_index(tmp_path_factory.mktemp("ann") / "made.lancedb", rows=600, seed=2)
    build_ann(store, partitions=2)
    return store


def test_report_is_measured_and_stored(indexed: Store) -> None:
    report = read_report(indexed)
    assert report is not None
    assert report.rows == 600
    assert report.recall >= 0.9
    assert 0.3 < report.scale < 0.7  # the index gives squared distances of unit vectors
    assert 0 < report.bound < 1
    assert set(report.exact_ms) == set(report.ann_ms) == {"failures", "all"}
    assert report.bytes > 0


@pytest.mark.parametrize("among", ["failures", "all"])
def test_scores_are_exact_and_complete_answers_are_right(indexed: Store, among: str) -> None:
    for row in range(0, 600, 25):
        settings = SearchSettings(k=5, among=among, method="ann")  # type: ignore[arg-type]
        found = search(indexed, f"r{row}", settings)
        exact = search(indexed, f"r{row}", replace(settings, method="exact"))
        truth = {item.sample.id: item.score for item in exact.neighbours}
        assert found.method == "ann"
        assert all(truth.get(n.sample.id, n.score) == n.score for n in found.neighbours)
        if found.complete:
            assert found.neighbours == exact.neighbours


def test_a_build_is_counted_to_its_end(tmp_path: Path) -> None:
    progress = Recorder()
    store = make_index(tmp_path / "made.lancedb", rows=60, seed=2)
    queries = build_ann(store, partitions=1, progress=progress).queries
    assert progress.told == [
        ("Building the approximate index", 60),
        ("Measuring the approximate index", 2 * queries),
    ]


def test_margin_decides(indexed: Store) -> None:
    version = snapshot(indexed)
    report = read_report(indexed)
    assert report is not None
    query = version.column.rows(np.array([3]))[0]
    # Both bounds are beyond any error of an estimate, so the hits are the same, however the
    # partitions were drawn.
    loose = AnnIndex(version, replace(report, bound=2.0)).search(query, 3)
    tight = AnnIndex(version, replace(report, bound=1.0)).search(query, 3)
    assert not loose.complete
    assert tight.margin == pytest.approx(loose.margin + 1.0)


def test_unsure_answers_are_searched_exactly_on_request(
    indexed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = read_report(indexed)
    assert report is not None
    monkeypatch.setattr(ann, "read_report", lambda _: replace(report, bound=2.0))
    unsure = search(indexed, "r1", SearchSettings(method="ann"))
    assert (unsure.method, unsure.complete) == ("ann", False)
    sure = search(indexed, "r1", SearchSettings(method="ann", exact_if_unsure=True))
    assert (sure.method, sure.complete) == ("exact", True)


def test_few_matching_samples_are_all_candidates(indexed: Store) -> None:
    settings = SearchSettings(k=5, filters=("speed<90",), method="ann")
    found = search(indexed, "r1", settings)
    assert found.complete
    assert found.neighbours == search(indexed, "r1", replace(settings, method="exact")).neighbours


def test_automatic_choice_follows_the_measurement(
    indexed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = read_report(indexed)
    assert report is not None
    slow = {"failures": 5000.0, "all": 5000.0}
    fast = {"failures": 1.0, "all": 1.0}
    monkeypatch.setattr(ann, "read_report", lambda _: replace(report, exact_ms=slow, ann_ms=fast))
    assert search(indexed, "r1").method == "ann"
    monkeypatch.setattr(ann, "read_report", lambda _: replace(report, exact_ms=fast, ann_ms=slow))
    assert search(indexed, "r1").method == "exact"


def test_added_rows_are_found_though_not_indexed(tmp_path: Path) -> None:
    store = make_index(tmp_path / "grown", rows=400)
    build_ann(store, partitions=1)
    appended(store)
    assert search_info(store).unindexed == 5
    found = search(store, "new3", SearchSettings(k=1, among="all", method="ann"))
    assert found.neighbours[0].sample.id == "r3"
    again = search(store, "r3", SearchSettings(k=1, among="all", method="ann"))
    assert again.neighbours[0].sample.id == "new3"


def test_an_index_over_other_rows_is_not_used(tmp_path: Path) -> None:
    store = make_index(tmp_path / "changed", rows=400)
    before = search_info(store)
    assert before.ann == "absent"
    assert before.path == {"failures": "exact", "all": "exact"}
    assert all(ms > 0 for ms in before.expected_ms.values())
    with pytest.raises(SettingError, match="build-ann"):
        search(store, "r1", SearchSettings(method="ann"))
    build_ann(store, partitions=1)
    report, after = read_report(store), search_info(store)
    assert after.ann == "ready"
    assert report is not None
    for among, way in after.path.items():
        assert after.expected_ms[among] == min(report.exact_ms[among], report.ann_ms[among])
        assert after.expected_ms[among] == getattr(report, f"{way}_ms")[among]
    with store.commit("samples"):
        store.table("samples").delete("id = 'r7'")
    assert search_info(store).ann == "stale"
    assert open_ann(snapshot(store)) is None
    assert search(store, "r1").method == "exact"


def test_an_index_of_another_metric_is_not_used(tmp_path: Path) -> None:
    store = make_index(tmp_path / "metric", rows=400)
    build_ann(store, partitions=1)
    with store.commit("samples"):
        config = IvfRq(distance_type="l2", num_partitions=1)
        store.table("samples").create_index("profile", config=config)
    assert open_ann(snapshot(store)) is None


def test_an_index_without_its_files_is_named_with_the_way_out(tmp_path: Path) -> None:
    store = make_index(tmp_path / "broken", rows=400)
    build_ann(store, partitions=25)  # more than lancedb probes unless told
    shutil.rmtree(store.path / "samples.lance" / "_indices")
    opened = Store.open(store.path)
    with pytest.raises(StoreError, match="build-ann"):
        search(opened, "r1", SearchSettings(method="ann"))
    assert search(opened, "r1", SearchSettings(method="exact")).complete
    build_ann(opened)
    assert search(Store.open(store.path), "r1", SearchSettings(method="ann")).method == "ann"


def test_filters_reach_the_index(indexed: Store) -> None:
    version = snapshot(indexed)
    report = read_report(indexed)
    assert report is not None
    query = version.column.rows(np.array([3]))[0]
    rows, _ = AnnIndex(version, report).candidates(query, 50, to_sql([FAILURES]))
    correct = version.sample_table(rows)["correct"]
    assert len(rows) == 50
    assert not any(correct.to_pylist())


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="partitions"):
        build_ann(make_index(tmp_path / "few", rows=30), partitions=31)
    with pytest.raises(SettingError, match="method"):
        SearchSettings(method="guess")  # type: ignore[arg-type]
