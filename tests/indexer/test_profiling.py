"""How many images go through the model at a time."""

import pytest

from indexer.profiling import largest_batch


@pytest.mark.parametrize(
    ("kind", "side", "size"),
    [
        ("cpu", 64, 32),
        ("mps", 64, 32),
        ("cuda", 384, 256),
        ("cuda", 224, 256),
        ("cuda", 128, 512),
        ("cuda", 64, 2048),
        ("cuda", 8, 2048),
    ],
)
def test_small_images_go_in_larger_batches_on_a_gpu(kind: str, side: int, size: int) -> None:
    assert largest_batch(kind, side * side) == size
