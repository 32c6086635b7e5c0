"""Read and decode in worker threads, a bounded number of images ahead, in the order of the rows."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from .classes import ClassMap
from .datasets import ImageDataset, Row
from .decode import MAX_PIXELS, decode, thumbnail
from .errors import DataError, RejectedImageError
from .transforms import Transform, in_two_steps

LARGEST_CHUNK = 16
"""Rows that a worker takes at a time: handing over single ones costs as much as a small image."""

HELD_ALREADY = (
    "duplicate id: the index holds it already; --id-prefix tells images of several sets apart"
)


@dataclass(frozen=True)
class ReadImage:
    """One usable row.

    Attributes:
        row: the row of the data set.
        target: the model output that is right for it.
        pixels: the image after the transform's first step; see `ImageReader.inputs`.
        width: of the original image, in pixels.
        height: of the original image, in pixels.
        thumbnail: a small JPEG.
    """

    row: Row
    target: int
    pixels: Any
    width: int
    height: int
    thumbnail: bytes


@dataclass(frozen=True)
class Rejected:
    """One row that cannot be used, and why."""

    id: str
    ref: str
    reason: str


@dataclass(frozen=True)
class ImageReader:
    """How the images of a run are read.

    Attributes:
        dataset: where the rows come from.
        classes: from labels to outputs of the model.
        transform: from PIL image to tensor.
        taken: ids that the index holds already.
        max_pixels: largest image that is decoded.
    """

    dataset: ImageDataset
    classes: ClassMap
    transform: Transform
    taken: Collection[str] = frozenset()
    max_pixels: int = MAX_PIXELS

    def read(self, row: Row) -> ReadImage | Rejected:
        """Read one row; every fault of the row itself comes back as a rejection.

        Raises:
            DataError: the fault is the machine's, and the row may be read another time.
        """
        try:
            return self._read(row)
        except RejectedImageError as error:
            return Rejected(row.id, row.ref, str(error))
        except MemoryError as error:
            raise DataError(
                f"memory does not suffice to read image {row.id!r}: free some or lower "
                "--workers, and repeat the command"
            ) from error

    def _read(self, row: Row) -> ReadImage:
        if row.error is not None:
            raise RejectedImageError(row.error)
        if row.id in self.taken:
            raise RejectedImageError(HELD_ALREADY)
        target = self.classes.target(row)
        encoded = self.dataset.read(row.ref)
        image = decode(encoded, max_pixels=self.max_pixels)
        try:
            pixels = in_two_steps(self.transform)[0](image)
        except (ValueError, RuntimeError) as error:
            raise RejectedImageError(f"cannot be transformed: {error}") from error
        small = thumbnail(image, encoded if isinstance(encoded, bytes) else None)
        return ReadImage(row, target, pixels, image.width, image.height, small)

    def inputs(self, images: Sequence[ReadImage]) -> Tensor:
        """Return at least one image as a batch for the model, float32 [n, I, H, W]."""
        return in_two_steps(self.transform)[1]([image.pixels for image in images])

    def stream(
        self, start: int, workers: int, ahead: int
    ) -> Generator[ReadImage | Rejected, None, None]:
        """Read all rows from number `start` on, in order.

        Args:
            start: first row.
            workers: threads that read and decode; both release the GIL.
            ahead: most images that are read but not taken yet.
        """
        rows = self.dataset.rows(start)
        size = max(1, min(LARGEST_CHUNK, ahead // (2 * workers)))
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            pending: deque[Future[list[ReadImage | Rejected]]] = deque()
            try:
                while chunk := list(islice(rows, size)):
                    pending.append(pool.submit(self._read_chunk, chunk))
                    if (len(pending) + 1) * size > ahead:
                        yield from pending.popleft().result()
                while pending:
                    yield from pending.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _read_chunk(self, rows: list[Row]) -> list[ReadImage | Rejected]:
        return [self.read(row) for row in rows]


@dataclass(frozen=True)
class Batch:
    """Images that go through the model together.

    Attributes:
        images: usable rows, in order.
        rejected: rows between and before them that are not.
        ends_segment: whether the segment of the spool ends with this batch.
    """

    images: list[ReadImage]
    rejected: list[Rejected]
    ends_segment: bool

    @property
    def rows(self) -> int:
        """Number of rows of the data set that this batch accounts for."""
        return len(self.images) + len(self.rejected)


def group(
    rows: Iterator[ReadImage | Rejected],
    *,
    start: int,
    total: int,
    segment_rows: int,
    batch_size: Callable[[], int],
) -> Iterator[Batch]:
    """Group rows into batches that never cross a segment.

    Segments are `segment_rows` rows of the data set, usable or not, counted from row 0: wherever
    a run is interrupted, the same images meet in the same batch again, and give the same bits.

    Args:
        rows: from `ImageReader.stream`.
        start: number of the first row; the start of a segment.
        total: number of rows of the data set.
        segment_rows: rows in a segment.
        batch_size: asked before each batch, since it shrinks when memory runs out.
    """
    images: list[ReadImage] = []
    rejected: list[Rejected] = []
    size = batch_size()
    for number, row in enumerate(rows, start + 1):
        if isinstance(row, ReadImage):
            images.append(row)
        else:
            rejected.append(row)
        ends_segment = number % segment_rows == 0 or number == total
        if len(images) == size or ends_segment:
            yield Batch(images, rejected, ends_segment)
            images, rejected, size = [], [], batch_size()
