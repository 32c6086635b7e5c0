"""How the engine profiles each layer of an indexed model on this machine."""

import torch

from indexer.indexed_model import load_indexed_model
from indexer.patched import naming_the_patch
from indexer.profiling import engine_of
from indexer.store import Store


def engine_paths(store: Store, device: str) -> list[tuple[str, str, str]]:
    """Return (layer, path, reason) for each layer, after two blank images went through.

    Raises:
        ModelError, IncompatibleIndexError: the model cannot be loaded, or has changed.
    """
    manifest = store.manifest
    with naming_the_patch(store.path):
        loaded = load_indexed_model(manifest, device=device)
    engine = engine_of(manifest, loaded.model)
    size = loaded.transform_config["input_size"]
    engine(torch.zeros(2, *size, device=device), torch.zeros(2, dtype=torch.long))
    return engine.describe()
