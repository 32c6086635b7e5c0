"""A small timm architecture, and the manifest of an index of it."""

from indexer.filters import FilterLayout
from indexer.manifest import Manifest
from indexer.models import LoadedModel

ARCHITECTURE = "test_resnet"


def manifest_of(loaded: LoadedModel, classes: tuple[str, ...] = ("a", "b", "c")) -> Manifest:
    """Return the manifest of an index that is made with a model."""
    return Manifest(
        model=loaded.describe(),
        transform=loaded.transform_config,
        classes=classes,
        units="conv",
        aggregation="filter",
        signed=False,
        precision="fp32",
        profile_dtype="float32",
        layout=FilterLayout(()),
        sources=(),
        batch_size=1,
        embedding=None,
    )
