"""What can be asked of an explanation and of an inversion, and how it is written."""

from dataclasses import dataclass

from indexer.errors import SettingError

FILLS = ("mean", "blur", "noise", "inpaint")

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the model's view; x1 and y1 are exclusive."""


@dataclass(frozen=True)
class ExplainSettings:
    """What to explain, and what to try out on the image.

    Attributes:
        top: how many of the most salient filters are boosted and listed; None takes 10, or all
            but one where there are fewer.
        boost: factor of the boosted entries of the profile.
        filters: filters to look at in place of the most salient, each "layer:index".
        masks: boxes to fill, together as one region.
        mask_salient: share of the pixels, in (0, 1), to fill where the heat-map is strongest.
        fill: what is put in place of masked pixels, one of `FILLS`.
        paste_onto: class whose images get the salient region pasted in.
        paste_images: most images of that class to use.
        controls: random regions per measurement.
        seed: of random regions and noise.
    """

    top: int | None = None
    boost: float = 100.0
    filters: tuple[str, ...] = ()
    masks: tuple[Box, ...] = ()
    mask_salient: float | None = None
    fill: str = "mean"
    paste_onto: str | int | None = None
    paste_images: int = 50
    controls: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mask_salient is not None and not 0 < self.mask_salient < 1:
            raise SettingError(
                f"salient share {self.mask_salient}: give more than 0 and less than 100 %"
            )
        if self.fill not in FILLS:
            raise SettingError(f"fill {self.fill!r}: choose from {', '.join(FILLS)}")
        if self.controls < 2:
            raise SettingError(f"controls {self.controls}: a spread needs at least 2 regions")
        if self.paste_images < 1:
            raise SettingError(f"paste images {self.paste_images}: give at least 1")
        for x0, y0, x1, y1 in self.masks:
            if not (0 <= x0 < x1 and 0 <= y0 < y1):
                raise SettingError(
                    f"box {x0},{y0},{x1},{y1}: give x0,y0,x1,y1 with 0 <= x0 < x1 and 0 <= y0 < y1"
                )


@dataclass(frozen=True)
class InvertSettings:
    """How an image is recovered from its profile.

    Attributes:
        steps: most steps to take.
        lr: first step size, in units of the pixel range [0, 1].
        patience: steps without progress after which it stops.
        tolerance: cosine distance at which it stops.
        frames: pictures in the strip, first and last included.
        seed: of the noise it starts from.
    """

    steps: int = 400
    lr: float = 0.05
    patience: int = 60
    tolerance: float = 1e-4
    frames: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.patience < 1:
            raise SettingError(
                f"steps {self.steps}, patience {self.patience}: give at least 1 of each"
            )
        if not (self.lr > 0 and self.tolerance >= 0):
            raise SettingError(
                f"step size {self.lr}, tolerance {self.tolerance}: give a step size above 0 and "
                "a tolerance of 0 or more"
            )
        if self.frames < 2:
            raise SettingError(f"frames {self.frames}: a strip has at least 2")


def parse_box(text: str) -> Box:
    """Read "x0,y0,x1,y1", pixels of the model's view; raises SettingError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise SettingError(f"mask {text!r}: give x0,y0,x1,y1 in whole pixels, as in 8,8,24,24")
    x0, y0, x1, y1 = (int(part) for part in parts)
    return x0, y0, x1, y1


def parse_share(text: str) -> float:
    """Read a share such as "5%" or "0.05"; raises SettingError."""
    number, percent = (text.strip()[:-1], 100) if text.strip().endswith("%") else (text, 1)
    try:
        share = float(number) / percent
    except ValueError as error:
        raise SettingError(f"share {text!r}: give a percentage as in 5%") from error
    if not 0 < share < 1:
        raise SettingError(f"share {text!r}: give more than 0 and less than 100 %")
    return share
