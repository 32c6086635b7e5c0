"""An index whose model or data have moved: pointed to where they are now, if they are the same."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .datasets import open_dataset
from .errors import IncompatibleIndexError, SettingError
from .indexed_model import load_as_indexed
from .manifest import Manifest
from .patched import naming_the_patch
from .store import Store
from .trust import remember, require_trust


def relocate(
    db: str | Path,
    *,
    model: str | None = None,
    checkpoint: str | Path | None = None,
    data: Sequence[str] = (),
) -> Manifest:
    """Tell an index where its model and data are now, and return its manifest.

    Nothing changes unless all of it is found to be what was indexed: the model by the digest of its
    weights, a data set by its fingerprint.

    Args:
        db: the database.
        model: as `load_model` takes it; what was indexed where only `checkpoint` is given.
        checkpoint: the model's weights, where `model` does not bring them.
        data: "OLD=NEW" for each data set, or "NEW" where the index has only one.

    Raises:
        SettingError: nothing is given, or no data set of the index is at OLD.
        ModelError, DataError: there is nothing to be read.
        IncompatibleIndexError: it is another model, or other data, than was indexed.
    """
    if model is None and checkpoint is None and not data:
        raise SettingError("say what has moved: --model, --checkpoint or --data")
    store = Store.open(db)
    with store.writer():
        manifest = store.manifest
        if model is not None or checkpoint is not None:
            with naming_the_patch(store.path):
                manifest = dataclasses.replace(manifest, model=_model(manifest, model, checkpoint))
        sources = list(manifest.sources)
        for moved in data:
            number, path = _find(sources, moved)
            sources[number] = _moved(sources[number], path)
        manifest = dataclasses.replace(manifest, sources=tuple(sources))
        store.publish(manifest)
    return manifest


def _model(manifest: Manifest, model: str | None, checkpoint: str | Path | None) -> dict[str, Any]:
    """Return the manifest's entry of the model where it is now."""
    if model is None:
        spec, folder = manifest.model["spec"], manifest.model["folder"]
        if folder is not None:
            require_trust(spec, folder)
        return load_as_indexed(manifest, spec, checkpoint, folder=folder).describe()
    loaded = load_as_indexed(manifest, model, checkpoint, folder=None)
    if loaded.folder is not None:  # of a factory that the user has just named
        remember(loaded.spec, loaded.folder)
    return loaded.describe()


def _find(sources: Sequence[Mapping[str, Any]], moved: str) -> tuple[int, str]:
    """Return the number of the data set that has moved, and where to."""
    for number, source in enumerate(sources):
        old, separator, new = moved.partition("=")
        while separator:  # either path may hold a "=" itself
            if source["path"] in (old, os.path.abspath(old)):
                return number, new
            more, separator, new = new.partition("=")
            old = f"{old}={more}"
    if len(sources) == 1:
        return 0, moved
    known = ", ".join(source["path"] for source in sources)
    raise SettingError(f"data {moved!r}: give OLD=NEW, where OLD is one of {known}")


def _moved(source: dict[str, Any], path: str) -> dict[str, Any]:
    dataset = open_dataset(path, **source.get("options", {}))
    if not dataset.is_source(source):
        raise IncompatibleIndexError(
            f"{path} holds other data than was indexed from {source['path']}: restore it, or index "
            "it with another --db"
        )
    return {**source, "path": dataset.to_source()["path"]}
