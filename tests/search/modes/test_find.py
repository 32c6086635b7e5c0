"""Modes of an index with planted causes: found, described, stored, and the same every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import StoreError, UnknownSampleError
from indexer.store import Store
from search.modes import ModeReport, ModeSettings, chance_pair_share, find_modes, read_modes
from tests.search.modes.conftest import CAUSE_SIZE, NAMES, PAIRS, planted_arrays
from tests.support.arrays import index_of_arrays
from tests.support.progress import Recorder

SETTINGS = ModeSettings(resolution=1.0)


@pytest.fixture
def report(planted: Store) -> ModeReport:
    return find_modes(planted, SETTINGS)


def cause_of(sample: str) -> int:
    return int(sample[1:]) // CAUSE_SIZE


def test_each_planted_cause_is_one_mode(report: ModeReport) -> None:
    largest = report.modes[:3]
    for mode in largest:
        causes = [cause_of(sample) for sample in mode.samples]
        assert np.bincount(causes).max() >= 0.9 * CAUSE_SIZE
    assert len({cause_of(mode.samples[0]) for mode in largest}) == 3


def test_modes_are_named_after_their_confusion(report: ModeReport) -> None:
    for mode in report.modes[:3]:
        label, prediction = PAIRS[cause_of(mode.samples[0])]
        assert mode.name == f"{NAMES[label]} → {NAMES[prediction]}"


def test_shared_filters_are_the_planted_ones(report: ModeReport, planted: Store) -> None:
    layout = planted.manifest.layout
    for mode in report.modes[:3]:
        cause = cause_of(mode.samples[0])
        columns = {layout.column(f"{f.layer}:{f.filter}") for f in mode.filters[:8]}
        assert columns == set(range(cause * 8, cause * 8 + 8))


def test_correct_samples_with_the_same_filters_are_at_risk(report: ModeReport) -> None:
    mode = next(mode for mode in report.modes if cause_of(mode.samples[0]) == 1)
    assert set(mode.at_risk[:2]) == {"r398", "r399"}


def test_every_failure_is_in_one_mode_or_ungrouped(report: ModeReport, planted: Store) -> None:
    failures = set(planted.read(["id"], "NOT correct")["id"].to_pylist())
    grouped = [sample for mode in report.modes for sample in mode.samples]
    assert sorted([*grouped, *report.ungrouped]) == sorted(failures)
    assert report.grouped_share == len(grouped) / len(failures)


def test_stored_modes_are_the_found_ones(report: ModeReport, planted: Store) -> None:
    assert read_modes(planted) == report


def test_the_same_seed_gives_the_same_modes(report: ModeReport, planted: Store) -> None:
    assert find_modes(planted, SETTINGS) == report


def test_every_sample_that_is_read_is_counted(planted: Store) -> None:
    progress = Recorder()
    find_modes(planted, SETTINGS, progress=progress)
    failures = planted.count("NOT correct")
    assert progress.told == [
        ("Reading failures", 2 * failures),
        ("Comparing failures", failures),
        ("Grouping failures", 1),
        ("Describing modes", planted.count()),  # few enough for all that are right to be looked at
    ]
    progress = Recorder()
    find_modes(planted, replace(SETTINGS, at_risk=0), progress=progress)
    assert progress.told[-1] == ("Describing modes", failures)


def test_the_order_of_samples_does_not_matter(report: ModeReport, tmp_path: Path) -> None:
    arrays = planted_arrays()
    order = np.random.default_rng(1).permutation(len(arrays["labels"]))
    shuffled = {name: values[order] for name, values in arrays.items()}
    ids = [f"r{row}" for row in order]
    store = index_of_arrays(tmp_path / "other", names=NAMES, ids=ids, **shuffled)
    other = find_modes(store, SETTINGS)
    assert [mode.samples for mode in other.modes] == [mode.samples for mode in report.modes]


def test_modes_agree_with_pairs_far_beyond_chance(report: ModeReport) -> None:
    assert report.pair_share > 0.8
    assert chance_pair_share(report) < 0.6


def test_an_index_without_failures_has_no_modes(tmp_path: Path) -> None:
    arrays = planted_arrays()
    arrays["labels"] = arrays["logits"].argmax(1)
    report = find_modes(index_of_arrays(tmp_path / "db", names=NAMES, **arrays))
    assert report.modes == () == report.ungrouped
    assert report.grouped_share == report.pair_share == chance_pair_share(report) == 0
    assert report.to_json()["modes"] == []


def test_few_failures_stay_ungrouped(tmp_path: Path) -> None:
    arrays = {name: values[-300:] for name, values in planted_arrays().items()}
    arrays["labels"] = arrays["logits"].argmax(1)
    arrays["labels"][:5] = (arrays["labels"][:5] + 1) % len(NAMES)
    report = find_modes(index_of_arrays(tmp_path / "db", names=NAMES, **arrays))
    assert not report.modes
    assert len(report.ungrouped) == 5


def test_unknown_mode_and_absent_modes_are_said(report: ModeReport, tmp_path: Path) -> None:
    with pytest.raises(UnknownSampleError, match="no mode 'x9'"):
        report.mode("x9")
    arrays = planted_arrays()
    with pytest.raises(StoreError, match="failsearch modes"):
        read_modes(index_of_arrays(tmp_path / "fresh", names=NAMES, **arrays))


def test_json_has_the_documented_shape(report: ModeReport) -> None:
    document = report.to_json()
    mode = document["modes"][0]
    assert {"id", "name", "size", "samples", "confusions", "filters"} <= set(mode)
    assert set(mode["filters"][0]) == {"layer", "filter", "score"}
    assert {"label", "prediction", "count"} <= set(mode["confusions"][0])
    assert mode["size"] == len(mode["samples"])
    assert isinstance(document["ungrouped"], list)


def test_tables_and_html_show_one_row_a_mode(report: ModeReport) -> None:
    assert report.to_arrow().num_rows == len(report) == len(report.to_pandas())
    assert report._repr_html_().count("<tr>") == len(report) + 1
