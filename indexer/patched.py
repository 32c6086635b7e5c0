"""Telling that weights which were not indexed are the indexed ones under a repair of the index."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .errors import ChangedWeightsError
from .schema import REPAIRS

PATCH_FILE = "patch.safetensors"
"""Name of a repair's patch in its folder, `<db>/repairs/<id>/`."""
PATCH_KEY = "failsearch"
"""Key of the metadata of a safetensors file that marks it as a patch and describes it."""


@contextmanager
def naming_the_patch(db: Path) -> Iterator[None]:
    """Say of changed weights which repair they carry, if it is one of this database.

    Raises:
        ChangedWeightsError: in place of another one, with how to take the patch off.
    """
    try:
        yield
    except ChangedWeightsError as error:
        patch = _find(db.absolute(), error.digest)
        if patch is None:
            raise
        words = shlex.join([str(patch), error.file or "WEIGHTS"])
        raise ChangedWeightsError(
            f"the weights of {error.source} are those that were indexed with the patch of repair "
            f"{patch.parent.name}: take it off with `failsearch patch revert {words}`, or index "
            "again with another --db",
            digest=error.digest,
            source=error.source,
            file=error.file,
        ) from error


def _find(db: Path, digest: str) -> Path | None:
    """Return the patch that gives weights of this digest."""
    for path in sorted((db / REPAIRS).glob(f"*/{PATCH_FILE}")):
        try:
            with safe_open(path, framework="pt") as file:
                document = json.loads((file.metadata() or {})[PATCH_KEY])
            if document["patched_digest"] == digest:
                return path
        except (OSError, SafetensorError, ValueError, LookupError, TypeError):
            continue  # it is damaged, and others may do
    return None
