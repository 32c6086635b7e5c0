"""How large the blocks of a Triton program are, and how many warps share one."""

from dataclasses import dataclass, replace

import torch

# `tl.dot` multiplies blocks of at least 16.
SMALLEST = 16


@dataclass(frozen=True)
class Blocks:
    """The product that a program holds in registers, and what it reads at a time for it.

    Attributes:
        filters: rows of the product.
        inputs: columns of the product, all of one tap where a tap has enough channels.
        positions: summed over between two loads.
        warps: of 32 threads, that share a product.
        stages: loads under way at a time, and one more.
    """

    filters: int
    inputs: int
    positions: int
    warps: int
    stages: int = 3

    def __str__(self) -> str:
        return f"{self.filters}x{self.inputs}x{self.positions}, {self.warps} warps"


# Of each kind the first is the one to take untried. `benchmarks.kernel_code` shows their machine
# code. On Hopper, tf32 in four or more warps goes to wgmma, which takes operands in an order that
# has to be loaded 4 bytes at a time; in two warps it goes to the older mma, 16 bytes at a time.
_IEEE = (Blocks(64, 64, 16, 4), Blocks(128, 128, 16, 8))
_TF32 = (Blocks(64, 64, 32, 2), Blocks(128, 128, 32, 8), Blocks(64, 64, 32, 4))
_HALF = (Blocks(64, 64, 64, 4), Blocks(128, 128, 64, 8))
COLUMNS = Blocks(64, 64, 16, 4)
"""Where a column can be of any tap; more would not fit into registers."""
_SHARE = 1024
"""Elements of a product that are worth a warp."""


def choices(
    dtype: torch.dtype, precision: str, filters: int, inputs: int, positions: int
) -> tuple[Blocks, ...]:
    """Return the blocks worth a try, the safest first.

    Args:
        dtype: of the operands.
        precision: of the products of float32, "ieee" or "tf32".
        filters: of a group.
        inputs: channels of a group.
        positions: of the output map.
    """
    kind = _HALF if dtype != torch.float32 else _TF32 if precision == "tf32" else _IEEE
    return tuple(dict.fromkeys(fitted(blocks, filters, inputs, positions) for blocks in kind))


def fitted(blocks: Blocks, filters: int, inputs: int, positions: int) -> Blocks:
    """Return the blocks cut to a layer, so that no program is larger than it has to be."""
    cut = replace(
        blocks,
        filters=min(blocks.filters, _covering(filters)),
        inputs=min(blocks.inputs, _covering(inputs)),
        positions=min(blocks.positions, _covering(positions)),
    )
    return replace(cut, warps=min(cut.warps, max(1, cut.filters * cut.inputs // _SHARE)))


def _covering(size: int) -> int:
    """Smallest power of two, from `SMALLEST` on, that is not below `size`."""
    return max(SMALLEST, 1 << (size - 1).bit_length())
