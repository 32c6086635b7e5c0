"""A person's corrections of modes."""

import pytest

from indexer.errors import SettingError, UnknownSampleError
from indexer.store import Store
from search.modes import (
    ModeReport,
    ModeSettings,
    find_modes,
    merge_modes,
    read_modes,
    rename_mode,
    split_mode,
)


@pytest.fixture
def report(planted: Store) -> ModeReport:
    return find_modes(planted, ModeSettings(resolution=1.0))


def members(report: ModeReport) -> set[str]:
    return {sample for mode in report.modes for sample in mode.samples}


def test_a_renamed_mode_keeps_everything_else(planted: Store, report: ModeReport) -> None:
    renamed = rename_mode(planted, "m2", " night shots ")
    assert renamed.mode("m2").name == "night shots"
    assert renamed.mode("m2").samples == report.mode("m2").samples
    assert read_modes(planted) == renamed


def test_edited_modes_are_not_replaced_by_the_way(planted: Store, report: ModeReport) -> None:
    assert not read_modes(planted).edited
    assert find_modes(planted, report.settings) == report
    renamed = rename_mode(planted, "m1", "night shots")
    with pytest.raises(SettingError, match="by hand"):
        find_modes(planted, report.settings)
    assert read_modes(planted) == renamed
    assert find_modes(planted, report.settings, replace_edited=True) == report


def test_names_stay_unique_and_present(planted: Store, report: ModeReport) -> None:
    with pytest.raises(SettingError, match="already"):
        rename_mode(planted, "m2", report.mode("m1").name)
    with pytest.raises(SettingError, match="empty"):
        rename_mode(planted, "m2", "  ")
    with pytest.raises(UnknownSampleError):
        rename_mode(planted, "m99", "x")


def test_merging_joins_the_members_under_the_first_id(planted: Store, report: ModeReport) -> None:
    merged = merge_modes(planted, ["m2", "m2", "m1"], name="both")
    joined = {*report.mode("m1").samples, *report.mode("m2").samples}
    assert set(merged.mode("m2").samples) == joined
    assert merged.mode("m2").name == "both"
    assert len(merged) == len(report) - 1
    assert members(merged) == members(report)
    assert read_modes(planted) == merged


def test_merging_needs_two_modes(planted: Store, report: ModeReport) -> None:
    with pytest.raises(SettingError, match="two different modes"):
        merge_modes(planted, ["m1", "m1"])


def test_splitting_undoes_a_merge(planted: Store, report: ModeReport) -> None:
    merge_modes(planted, ["m1", "m2"])
    split = split_mode(planted, "m1")
    original = {frozenset(report.mode(i).samples) for i in ("m1", "m2")}
    new = [mode for mode in split.modes if set(mode.samples) <= members_of(report, "m1", "m2")]
    assert len(new) == 2
    overlap = [max(len(o & set(mode.samples)) / mode.size for o in original) for mode in new]
    assert min(overlap) > 0.9
    assert read_modes(planted) == split


def members_of(report: ModeReport, *ids: str) -> set[str]:
    return {sample for i in ids for sample in report.mode(i).samples}


@pytest.mark.parametrize("parts", [1, 1000])
def test_splitting_into_an_impossible_number_is_refused(
    planted: Store, report: ModeReport, parts: int
) -> None:
    with pytest.raises(SettingError, match="give 2 to"):
        split_mode(planted, "m1", parts)
