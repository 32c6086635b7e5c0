"""Thumbnails inside the file, within a budget of bytes."""

import base64
import io
from collections.abc import Iterable, Sequence

from PIL import Image

from indexer.schema import ID, THUMBNAIL
from indexer.store import Store

CAPPED = 6_000
"""Bytes of one thumbnail; larger ones are made smaller."""
SIDES = (96, 64, 48)


class InlineThumbnails:
    """Thumbnails as data addresses; those beyond the budget are left out.

    Attributes:
        left_out: how many were.
    """

    def __init__(self, store: Store, budget: int) -> None:
        self._store = store
        self._left = budget
        self._made: dict[str, str] = {}
        self.left_out = 0

    def take(self, groups: Iterable[Sequence[str]]) -> None:
        """Take up the pictures of several groups, the first of each group before the second.

        So a budget that does not last for all of them still shows something of every group.
        """
        listed = [list(group) for group in groups]
        longest = max(map(len, listed), default=0)
        order = dict.fromkeys(
            group[rank] for rank in range(longest) for group in listed if rank < len(group)
        )
        wanted = [name for name in order if name not in self._made]
        if not wanted:
            return
        rows = self._store.take(wanted, [ID, THUMBNAIL])
        for name, data in zip(wanted, rows[THUMBNAIL].to_pylist(), strict=True):
            self._add(name, data)

    def __call__(self, sample: str) -> str | None:
        """Return the picture of a sample as a data address; None where it was left out."""
        return self._made.get(sample)

    def _add(self, name: str, data: bytes | None) -> None:
        small = shrunk(data) if data else None
        if small is None:
            return
        address = "data:image/jpeg;base64," + base64.b64encode(small).decode()
        if len(address) > self._left:
            self.left_out += 1
            return
        self._left -= len(address)
        self._made[name] = address


def shrunk(data: bytes) -> bytes | None:
    """Return a JPEG of at most `CAPPED` bytes; None where it cannot be made so small."""
    if len(data) <= CAPPED:
        return data
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for side in SIDES:
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
        if buffer.tell() <= CAPPED:
            return buffer.getvalue()
    return None
