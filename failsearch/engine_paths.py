"""How the engine profiles each layer of an indexed model on this machine."""

import torch

from indexer.manifest import Manifest
from indexer.models import load_indexed_model
from indexer.profiling import engine_of


def engine_paths(manifest: Manifest, device: str) -> list[tuple[str, str, str]]:
    """Return (layer, path, reason) for each layer, after two blank images went through.

    Raises:
        ModelError, IncompatibleIndexError: the model cannot be loaded, or has changed.
    """
    loaded = load_indexed_model(manifest, device=device)
    engine = engine_of(manifest, loaded.model)
    size = loaded.transform_config["input_size"]
    engine(torch.zeros(2, *size, device=device), torch.zeros(2, dtype=torch.long))
    return engine.describe()
