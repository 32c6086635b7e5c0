"""Triton kernels behind `gpu`: one program finishes |row sums| of a block of filters of one sample.

A program keeps the product over all positions of its weights in registers, so that the sum over
positions is never split and magnitudes are taken once. Weights may be spread over programs: sums
of magnitudes add up, in a fixed order, outside. No atomics: results are the same on every run.

B samples, G groups of `inputs` channels and `filters` filters, H x W and OH x OW maps. A tap
(u, v) meets the input pixel (oy * SH + u * DH - PH, ox * SW + v * DW - PW) at position (oy, ox).

Triton knows of a number that 16 divides it, or nothing. Where 8 or 4 divide the channels, and with
them the strides of channels_last maps, it would load one number at a time. So strides, but for the
channel's, and numbers of channels come in units of X_UNIT and G_UNIT, which are constants.
"""

# Ranges of Triton are no iterables to a type checker.
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl


@triton.jit
def taps_kernel(
    x, g, out,
    G, inputs, H, W, filters, OH, OW,
    KW, SH, SW, PH, PW, DH, DW,
    x_sample, x_channel, x_row, x_pixel,
    g_sample, g_channel, g_row, g_pixel,
    tiles, tiles_per_program, splits,
    X_UNIT: tl.constexpr, G_UNIT: tl.constexpr, FLAT: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Row sums by products of one tap and a block of input channels at a time.

    Only positions at which the tap lies within the image take part: no zeros are multiplied.
    `out` is [splits, B * G, filters]; programs count over splits first, then blocks of filters,
    then B * G. FLAT: a 1x1 convolution whose maps are rows of positions without gaps. PRECISION is
    that of `tl.dot` for float32 ("ieee", "tf32"); WIDEN makes float32 of shorter operands.
    """
    split = tl.program_id(0) % splits
    block = tl.program_id(0) // splits
    inputs *= X_UNIT
    filters *= G_UNIT
    o_blocks = tl.cdiv(filters, BLOCK_O)
    o = block % o_blocks * BLOCK_O + tl.arange(0, BLOCK_O)
    sample_group = block // o_blocks
    x, g = _maps(
        x, g, sample_group, G, inputs, filters,
        x_sample, x_channel, g_sample, g_channel, X_UNIT, G_UNIT,
    )  # fmt: skip
    o_inside = (o < filters)[:, None]
    g += (o * g_channel)[:, None]

    i_blocks = tl.cdiv(inputs, BLOCK_I)
    first = split * tiles_per_program
    rows = tl.zeros((BLOCK_O,), tl.float32)
    for tile in range(first, min(first + tiles_per_program, tiles)):
        tap = tile // i_blocks
        i = tile % i_blocks * BLOCK_I + tl.arange(0, BLOCK_I)
        i_inside = (i < inputs)[None, :]
        dy = tap // KW * DH - PH
        dx = tap % KW * DW - PW
        top, height = _meeting(dy, SH, H, OH)
        left, width = _meeting(dx, SW, W, OW)
        K = height * width
        per_row = 1.0 / width
        x_tap = x + (top * SH + dy) * (x_row * X_UNIT) + (left * SW + dx) * (x_pixel * X_UNIT)
        x_tap += (i * x_channel)[None, :]
        g_tap = g + top * (g_row * G_UNIT) + left * (g_pixel * G_UNIT)
        total = tl.zeros((BLOCK_O, BLOCK_I), tl.float32)
        for start in range(0, K, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            inside = k < K
            if FLAT:
                x_at = k * (x_pixel * X_UNIT)
                g_at = k * (g_pixel * G_UNIT)
            else:
                row, column = _row_and_column(k, width, per_row)
                x_at = row * (SH * x_row * X_UNIT) + column * (SW * x_pixel * X_UNIT)
                g_at = row * (g_row * G_UNIT) + column * (g_pixel * G_UNIT)
            gradient = tl.load(g_tap + g_at[None, :], mask=o_inside & inside[None, :], other=0.0)
            values = tl.load(x_tap + x_at[:, None], mask=i_inside & inside[:, None], other=0.0)
            if WIDEN:
                gradient = gradient.to(tl.float32)
                values = values.to(tl.float32)
            total = tl.dot(gradient, values, total, input_precision=PRECISION)
        rows += tl.sum(tl.abs(total), axis=1)
    samples = tl.num_programs(0) // splits // o_blocks
    tl.store(out + (split * samples + sample_group) * filters + o, rows, mask=o < filters)


@triton.jit
def columns_kernel(
    x, g, out,
    G, inputs, H, W, filters, OW, K, J,
    KW, SH, SW, PH, PW, DH, DW,
    x_sample, x_channel, x_row, x_pixel,
    g_sample, g_channel, g_row, g_pixel,
    columns_per_program,
    X_UNIT: tl.constexpr, G_UNIT: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Row sums where a tap has too few channels to fill a block, as in the stem.

    Columns j = (tap, channel), the channel running fastest, of all taps make up a block. Grid
    (B * G, blocks of filters, splits of the columns); `out` is [splits, B * G, filters].
    """
    sample_group = tl.program_id(0)
    inputs *= X_UNIT
    filters *= G_UNIT
    x, g = _maps(
        x, g, sample_group, G, inputs, filters,
        x_sample, x_channel, g_sample, g_channel, X_UNIT, G_UNIT,
    )  # fmt: skip
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    o_inside = (o < filters)[:, None]
    g += (o * g_channel)[:, None]
    per_row = 1.0 / OW
    first = tl.program_id(2) * columns_per_program
    rows = tl.zeros((BLOCK_O,), tl.float32)
    for start in range(first, min(first + columns_per_program, J), BLOCK_I):
        j = start + tl.arange(0, BLOCK_I)
        tap = j // inputs
        dy = (tap // KW * DH - PH)[None, :]
        dx = (tap % KW * DW - PW)[None, :]
        x_columns = x + (j % inputs * x_channel)[None, :]
        total = tl.zeros((BLOCK_O, BLOCK_I), tl.float32)
        for k0 in range(0, K, BLOCK_K):
            k = k0 + tl.arange(0, BLOCK_K)
            row, column = _row_and_column(k, OW, per_row)
            g_at = row * (g_row * G_UNIT) + column * (g_pixel * G_UNIT)
            gradient = tl.load(g + g_at[None, :], mask=o_inside & (k < K)[None, :], other=0.0)
            y = (row * SH)[:, None] + dy
            z = (column * SW)[:, None] + dx
            inside = (y >= 0) & (y < H) & (z >= 0) & (z < W) & (k < K)[:, None]
            x_at = y * (x_row * X_UNIT) + z * (x_pixel * X_UNIT)
            values = tl.load(x_columns + x_at, mask=inside & (j < J)[None, :], other=0.0)
            if WIDEN:
                gradient = gradient.to(tl.float32)
                values = values.to(tl.float32)
            total = tl.dot(gradient, values, total, input_precision=PRECISION)
        rows += tl.sum(tl.abs(total), axis=1)
    target = (tl.program_id(2) * tl.num_programs(0) + sample_group) * filters + o
    tl.store(out + target, rows, mask=o < filters)


@triton.jit
def depthwise_kernel(
    x, g, out,
    inputs, H, W, filters, OH, OW, repeat,
    SH, SW, PH, PW, DH, DW,
    x_sample, x_channel, x_row, x_pixel,
    g_sample, g_channel, g_row, g_pixel,
    X_UNIT: tl.constexpr, G_UNIT: tl.constexpr, KW: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Row sums where few inputs meet a filter: grid (B, blocks of filters, kernel rows).

    `inputs` and `repeat` are the channels and the filters of a group (not in units), `filters` is
    that of all groups. A gradient is loaded once for all taps of a kernel row. `out` is
    [kernel rows, B, filters].
    """
    sample = tl.program_id(0).to(tl.int64)
    filters *= G_UNIT
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    o_inside = (o < filters)[None, :]
    dy = tl.program_id(2) * DH - PH
    top, height = _meeting(dy, SH, H, OH)
    K = height * OW
    per_row = 1.0 / OW
    x += sample * (x_sample * X_UNIT) + (top * SH + dy) * (x_row * X_UNIT)
    g += sample * (g_sample * G_UNIT) + top * (g_row * G_UNIT) + (o * g_channel)[None, :]
    rows = tl.zeros((BLOCK_O,), tl.float32)
    for i in range(inputs):
        x_channels = x + ((o // repeat * inputs + i) * x_channel)[None, :]
        totals = ()
        for _ in tl.static_range(KW):
            totals += (tl.zeros((BLOCK_K, BLOCK_O), tl.float32),)
        for start in range(0, K, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            row, column = _row_and_column(k, OW, per_row)
            g_at = row * (g_row * G_UNIT) + column * (g_pixel * G_UNIT)
            gradient = tl.load(g + g_at[:, None], mask=o_inside & (k < K)[:, None], other=0.0)
            sums = ()
            for v in tl.static_range(KW):
                z = column * SW + v * DW - PW
                inside = (k < K) & (z >= 0) & (z < W)
                x_at = row * (SH * x_row * X_UNIT) + z * (x_pixel * X_UNIT)
                values = tl.load(
                    x_channels + x_at[:, None], mask=o_inside & inside[:, None], other=0.0
                )
                sums += (totals[v] + gradient.to(tl.float32) * values.to(tl.float32),)
            totals = sums
        for v in tl.static_range(KW):
            rows += tl.abs(tl.sum(totals[v], axis=0))
    target = (tl.program_id(2) * tl.num_programs(0) + sample) * filters + o
    tl.store(out + target, rows, mask=o < filters)


@triton.jit
def _maps(
    x, g, sample_group, G, inputs, filters,
    x_sample, x_channel, g_sample, g_channel, X_UNIT: tl.constexpr, G_UNIT: tl.constexpr,
):  # fmt: skip
    """Pointers to the maps of a sample's group; a whole batch may pass 2^31 elements."""
    sample = (sample_group // G).to(tl.int64)
    group = sample_group % G
    x += sample * (x_sample * X_UNIT) + group * inputs * x_channel
    g += sample * (g_sample * G_UNIT) + group * filters * g_channel
    return x, g


@triton.jit
def _meeting(offset, stride, size, positions):
    """First position p with 0 <= p * stride + offset < size, and how many there are."""
    first = (tl.maximum(-offset, 0) + stride - 1) // stride
    last = tl.minimum(positions, tl.maximum(size - 1 - offset + stride, 0) // stride)
    return first, tl.maximum(last - first, 0)


@triton.jit
def _row_and_column(k, width, per_row):
    """Quotient and rest of k / width; up to 2^20, (k + 0.5) / width stays clear of whole ones."""
    row = ((k + 0.5) * per_row).to(tl.int32)
    return row, k - row * width
