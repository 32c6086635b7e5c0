"""Reading ahead: in the order of the rows, and never further than allowed."""

import threading
from dataclasses import dataclass, field, replace

import pytest

from indexer.classes import match_classes
from indexer.datasets import ImageDataset, Row
from indexer.errors import DataError
from indexer.reading import ImageReader, ReadImage, Rejected
from tests.support.tiny_run import CLASSES, tiny_model


@dataclass(frozen=True)
class Counting(ImageReader):
    """Counts the rows that were read."""

    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, row: Row) -> ReadImage | Rejected:
        """Read a row and remember its id."""
        with self.lock:
            self.seen.append(row.id)
        return super().read(row)


def reader(dataset: ImageDataset) -> Counting:
    """Return a counting reader of a data set with the tiny model's classes."""
    classes = match_classes(dataset, num_classes=len(CLASSES), model_names=CLASSES)
    return Counting(dataset, classes, tiny_model().transform)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 5), (2, 33), (3, 7), (2, 66)])
def test_no_more_is_read_ahead_than_allowed(
    dataset: ImageDataset, workers: int, ahead: int
) -> None:
    counting = reader(dataset)
    rows = [row.id for row in dataset.rows()]
    taken = []
    for item in counting.stream(0, workers, ahead):
        taken.append(item.id if isinstance(item, Rejected) else item.row.id)
        with counting.lock:
            assert len(counting.seen) <= len(taken) - 1 + ahead
    assert taken == rows
    assert sorted(counting.seen) == sorted(rows)


def test_reading_starts_where_it_is_told(dataset: ImageDataset) -> None:
    items = reader(dataset).stream(len(dataset) - 3, 2, 8)
    ids = [item.id if isinstance(item, Rejected) else item.row.id for item in items]
    assert ids == [row.id for row in dataset.rows()][-3:]


def test_an_unforeseen_error_of_a_row_reaches_the_caller(dataset: ImageDataset) -> None:
    def transform(image: object) -> None:
        raise ZeroDivisionError("a fault of the program")

    faulty = replace(reader(dataset), transform=transform)
    with pytest.raises(ZeroDivisionError):
        list(faulty.stream(0, 2, 8))


def test_too_little_memory_ends_the_run_and_rejects_nothing(
    dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("indexer.reading.decode", full)
    with pytest.raises(DataError, match=r"memory does not suffice to read image '.*\.png'"):
        list(reader(dataset).stream(0, 2, 8))
