"""The Python API: what it accepts beside the plainest form, and what it says of the rest."""

import pytest

import failsearch
from failsearch.index import Index

from .conftest import Place


@pytest.fixture
def index(place: Place) -> Index:
    """The index of all commands, to read."""
    return failsearch.open(place.db)


@pytest.fixture
def own_index(own: Place) -> Index:
    """A copy of it, to write to."""
    return failsearch.open(own.db)


def test_modes_are_corrected_by_hand(own_index: Index) -> None:
    found = own_index.find_modes(min_size=3)
    assert own_index.rename_mode("m1", "night shots").mode("m1").name == "night shots"
    split = own_index.split_mode("m1")
    (new,) = {mode.id for mode in split.modes} - {mode.id for mode in found.modes}
    merged = own_index.merge_modes(iter(["m1", new]), "whole")
    assert set(merged.mode("m1").samples) == set(found.mode("m1").samples)
    assert own_index.modes == merged
