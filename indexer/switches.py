"""Settings that libraries keep in attributes of their own, changed for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def switched(owners: Sequence[Any], name: str, value: Any) -> Iterator[None]:
    """Set an attribute of every owner to a value, and to what it was on leaving."""
    before = [getattr(owner, name) for owner in owners]
    try:
        for owner in owners:
            setattr(owner, name, value)
        yield
    finally:
        for owner, old in zip(owners, before, strict=True):
            setattr(owner, name, old)
