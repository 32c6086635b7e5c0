"""Loading the model of an index: the one that was indexed, or none."""

import dataclasses
import os

import torch

from .errors import ChangedWeightsError
from .factories import is_factory
from .manifest import Manifest
from .models import LOCAL, LoadedModel, load_model
from .transforms import TransformOverrides
from .trust import require_trust


def load_indexed_model(manifest: Manifest, device: str | torch.device = "cpu") -> LoadedModel:
    """Load the model of an index, with the transform and class names of the index.

    Raises:
        ModelError: the model is gone.
        UntrustedModelError: it is a factory that this user never named, see `indexer.trust`.
        ChangedWeightsError: its weights are no longer those that were indexed.
    """
    described = manifest.model
    folder = described.get("folder")
    if is_factory(described["spec"]):
        require_trust(described["spec"], folder or os.getcwd())
    return load_as_indexed(
        manifest, described["spec"], described.get("checkpoint"), folder=folder, device=device
    )


def load_as_indexed(
    manifest: Manifest,
    spec: str,
    checkpoint: str | os.PathLike[str] | None,
    *,
    folder: str | os.PathLike[str] | None,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load a model as that of an index, with the transform and class names of the index.

    Args:
        manifest: of the index.
        spec: as of `load_model`, like the two that follow.
        checkpoint: the weights.
        folder: where a factory's module is.
        device: where the model goes.

    Raises:
        ModelError: it cannot be loaded.
        ChangedWeightsError: its weights are not those that were indexed.
    """
    config = manifest.transform
    loaded = load_model(
        spec,
        checkpoint=checkpoint,
        num_classes=len(manifest.classes),
        device=device,
        overrides=TransformOverrides(
            **{
                **{key: value for key, value in config.items() if key != "input_size"},
                "input_size": tuple(config["input_size"][-2:]),
            }
        ),
        folder=folder,
    )
    if loaded.digest != manifest.model["weights_digest"]:
        source = loaded.checkpoint or loaded.spec
        local = loaded.checkpoint is not None or source.startswith(LOCAL)
        raise ChangedWeightsError(
            f"the weights of {source} are not those that were indexed: restore them, or index "
            "again with another --db",
            digest=loaded.digest,
            source=source,
            file=source.removeprefix(LOCAL) if local else None,
        )
    return dataclasses.replace(loaded, class_names=tuple(manifest.classes))
