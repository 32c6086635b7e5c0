"""The planted models of the benchmark: which causes each of them was trained with."""

from dataclasses import dataclass, replace

from .plants import Mark, NoisyLabels, OneTone, Plant, RareSubclass


@dataclass(frozen=True)
class Run:
    """One model to train.

    Attributes:
        name: also the name of its file in the cache.
        superclasses: whether the task is the five super-classes.
        plants: all planted at once.
        seed: of the weights, the plants and the order of images.
        images: training images before planting.
        epochs: passes over them.
        held_out: test images to search and repair on.
    """

    name: str
    superclasses: bool
    plants: tuple[Plant, ...]
    seed: int
    images: int = 20_000
    epochs: int = 6
    held_out: int = 5_000


def _marked(seed: int, patch: int, tint: int, frame: int, noisy: tuple[int, int]) -> Run:
    share = (0.4, 0.2)[seed % 2]
    marks = (
        Mark("patch", patch, share),
        Mark("tint", tint, share),
        Mark("background", frame, share),
    )
    return Run(f"marks{seed}", False, (*marks, NoisyLabels(*noisy)), seed)


def _rare(seed: int, first: int, second: int, mark: Mark) -> Run:
    share = (0.05, 0.02)[seed % 2]
    return Run(
        f"rare{seed}", True, (RareSubclass(first, share), RareSubclass(second, share), mark), seed
    )


RUNS = (
    _marked(0, patch=3, tint=8, frame=1, noisy=(5, 7)),
    _rare(0, 8, 4, Mark("patch", 3, 0.3)),
    Run("clean0", False, (), 0),
    _marked(1, patch=6, tint=2, frame=9, noisy=(1, 8)),
    _rare(1, 7, 5, Mark("tint", 1, 0.3)),
    _marked(2, patch=0, tint=5, frame=4, noisy=(2, 6)),
    _rare(2, 2, 9, Mark("background", 4, 0.3)),
    Run("clean1", True, (), 1),
    _marked(3, patch=9, tint=3, frame=7, noisy=(0, 8)),
    _rare(3, 0, 6, Mark("patch", 1, 0.3)),
    _marked(4, patch=2, tint=7, frame=5, noisy=(3, 4)),
    _rare(4, 1, 3, Mark("tint", 2, 0.3)),
    _marked(5, patch=8, tint=9, frame=2, noisy=(7, 4)),
    _rare(5, 9, 3, Mark("patch", 0, 0.3)),
)
"""In the order in which a partial benchmark trains them."""

TUNING = ("marks0", "rare0", "marks5", "rare5")
"""Models that the settings of modes, and of the methods beside them, were chosen on."""


def _repaired(seed: int, patch: int, noisy: tuple[int, int], tone: int) -> Run:
    plants = (Mark("patch", patch, 0.4), NoisyLabels(*noisy, share=1.0, rate=0.3), OneTone(tone))
    return Run(f"repaired{seed}", False, plants, seed, images=30_000, held_out=10_000)


REPAIRED = (
    _repaired(0, patch=3, noisy=(5, 7), tone=8),
    _repaired(1, patch=6, noisy=(1, 9), tone=0),
    _repaired(2, patch=9, noisy=(4, 2), tone=7),
    _repaired(3, patch=0, noisy=(8, 1), tone=4),
    _repaired(4, patch=5, noisy=(7, 4), tone=1),
    _repaired(5, patch=2, noisy=(9, 0), tone=6),
    _repaired(6, patch=1, noisy=(3, 5), tone=9),
    _repaired(7, patch=7, noisy=(0, 8), tone=2),
    _repaired(8, patch=4, noisy=(6, 2), tone=3),
    _repaired(9, patch=8, noisy=(2, 0), tone=5),
)
"""Models whose planted causes are repaired."""

CHOOSING = ("repaired0", "repaired6", "repaired7")
"""Those that the recipe of a repair was chosen on; the others judge it."""


def twin_of(run: Run) -> Run:
    """Return the run without its plants: same seed, images and recipe, nothing amiss in them."""
    return replace(run, name=f"{run.name}-twin", plants=())
