// Forward 3x3 convolutions of stride 1 by Winograd's algorithm F(2x2, 3x3): 16 multiplications for
// 2x2 outputs instead of 36. The input gradient of such a layer is another one, with its weights
// transposed and reversed, so that one function serves both passes.
//
// With the B^T of winograd.h, y = A^T (G w G^T * B^T d B) A for a patch d of 4x4 pixels, where
//   G w = (w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2),   A^T m = (m0 + m1 + m2, m1 - m2 - m3).
// Each of the 16 frequencies is a product [tiles, I] x [I, O] over the tiles of the whole batch.
#pragma once

#include "finish.h"
#include "winograd.h"

namespace {

// Channels of a pixel that are multiplied at once. Fixed, so that the tiles of a block lie at
// constant distances.
constexpr Index kChunk = 64;
// Tiles per block: whole register tiles, few enough for their transforms to stay in the L2 cache.
constexpr Index kBlockSize = 1 << 17;

inline Index block_tiles(const Convolution& c) {
  return max(1, min(8, kBlockSize / (kFrequencies * c.in_channels * kRows))) * kRows;
}

// Scratch of one thread.
struct ConvolutionScratch {
  Buffer<float> patches, partial, zeros;

  explicit ConvolutionScratch(const Convolution& c)
      : patches(kFrequencies * block_tiles(c) * c.in_channels),
        partial(kFrequencies * block_tiles(c) * kColumns),
        zeros(c.in_channels) {
    if (complete()) std::memset(zeros.data, 0, c.in_channels * sizeof(float));
  }
  bool complete() const { return patches.data && partial.data && zeros.data; }
};

// G w along one direction, for floats or vectors.
template <typename T>
inline void transform_taps(const T* w, int w_step, T* result, int step) {
  const T even = (w[0] + w[2 * w_step]) * 0.5f, odd = w[w_step] * 0.5f;
  result[0] = w[0];
  result[step] = even + odd;
  result[2 * step] = even - odd;
  result[3 * step] = w[2 * w_step];
}

// G w G^T of a 3x3 kernel.
template <typename T>
inline void transform_kernel(const T* w, T* frequencies) {
  T rows[kPatch * kTaps];
  for (int column = 0; column < kTaps; ++column)
    transform_taps(w + column, kTaps, rows + column, kTaps);
  for (int row = 0; row < kPatch; ++row)
    transform_taps(rows + row * kTaps, 1, frequencies + row * kPatch, 1);
}

inline void transform_vectors(const Convolution& c, const float* weight, Vector* frequencies) {
  Vector w[kTaps * kTaps];
#pragma GCC unroll 9
  for (int tap = 0; tap < kTaps * kTaps; ++tap)
    w[tap] = load(weight + tap / kTaps * c.w_row + tap % kTaps * c.w_column);
  transform_kernel(w, frequencies);
}

// A square of kLanes filters x kLanes channels of the weights, to target[frequency][channel], rows
// of kColumns filters; `step` separates frequencies. One function for each way the weights lie.
inline void transform_square_by_filter(const Convolution& c, const float* weight, float* target,
                                       Index step) {
  for (int i = 0; i < kLanes; ++i) {
    Vector frequencies[kFrequencies];
    transform_vectors(c, weight + i * c.w_in, frequencies);
    for (int f = 0; f < kFrequencies; ++f)
      store(target + f * step + i * kColumns, frequencies[f]);
  }
}

inline void transform_square_by_channel(const Convolution& c, const float* weight, float* target,
                                        Index step) {
  float square[kFrequencies][kLanes][kLanes];
  for (int o = 0; o < kLanes; ++o) {
    Vector frequencies[kFrequencies];
    transform_vectors(c, weight + o * c.w_out, frequencies);
    for (int f = 0; f < kFrequencies; ++f) store(square[f][o], frequencies[f]);
  }
  for (int f = 0; f < kFrequencies; ++f)
    transpose(square[f][0], kLanes, target + f * step, kColumns);
}

inline void transform_square_scattered(const Convolution& c, const float* weight, float* target,
                                       Index step) {
  for (int o = 0; o < kLanes; ++o)
    for (int i = 0; i < kLanes; ++i) {
      float w[kTaps * kTaps], frequencies[kFrequencies];
      for (int tap = 0; tap < kTaps * kTaps; ++tap)
        w[tap] = weight[o * c.w_out + i * c.w_in + tap / kTaps * c.w_row +
                        tap % kTaps * c.w_column];
      transform_kernel(w, frequencies);
      for (int f = 0; f < kFrequencies; ++f) target[f * step + i * kColumns + o] = frequencies[f];
    }
}

// Transforms the weights into panels: [frequency][panel of filters][channel][kColumns].
inline void transform_weights(const Convolution& c, const float* weight, float* transformed) {
  const auto transform = c.w_out == 1  ? transform_square_by_filter
                         : c.w_in == 1 ? transform_square_by_channel
                                       : transform_square_scattered;
#pragma omp parallel for num_threads(static_cast<int>(c.threads))
  for (Index o = 0; o < c.out_channels; o += kLanes) {
    float* panel = transformed + o / kColumns * c.in_channels * kColumns + o % kColumns;
    for (Index i = 0; i < c.in_channels; i += kLanes)
      transform(c, weight + o * c.w_out + i * c.w_in, panel + i * kColumns,
                c.out_channels * c.in_channels);
  }
}

// One tile of 2x2 outputs of one sample.
struct Tile {
  Index sample, row, column;
};

inline Tile tile_at(const Convolution& c, Index index) {
  const Index down = ceil_div(c.out_height, kTile), across = ceil_div(c.out_width, kTile);
  return {index / (down * across), index / across % down * kTile, index % across * kTile};
}

// Transforms the patch of one tile: patches[chunk][frequency][tile][kChunk].
inline void transform_tile(const Convolution& c, const float* x, const Tile& tile, Index t,
                           Index block, ConvolutionScratch& scratch) {
  const Bordered image = {x + tile.sample * c.x_sample, c.height, c.width,
                          {c.x_row, c.x_pixel}, scratch.zeros.data};
  const Patch patch(image, tile.row - c.pad_height, tile.column - c.pad_width);
  for (Index i = 0; i < c.in_channels; i += kLanes)
    patch.transform(i,
                    scratch.patches.data + i / kChunk * kFrequencies * block * kChunk +
                        t * kChunk + i % kChunk,
                    block * kChunk);
}

// partial[tile][column] (+)= sum over a chunk of channels of patches[tile][channel] times
// weights[channel][column], for kRows tiles and kColumns columns.
inline void multiply_chunk(const float* patches, const float* weights, float* partial,
                           bool first) {
  Vector sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sum[m][v] = first ? Vector{} : load(partial + m * kColumns + v * kLanes);
  for (Index i = 0; i < kChunk; ++i, ++patches, weights += kColumns) {
    Vector column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) column[v] = load(weights + v * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[m][v] += patches[m * kChunk] * column[v];
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(partial + m * kColumns + v * kLanes, sum[m][v]);
}

// A^T m along one direction, in place: two results at 0 and step.
inline void transform_output(Vector* m, int step) {
  const Vector both = m[step] + m[2 * step], difference = m[step] - m[2 * step];
  m[0] += both;
  m[step] = difference - m[3 * step];
}

// Writes the outputs of one tile for the panel of filters from `o` on.
inline void write_tile(const Convolution& c, const Finish& finishing, const Tile& tile, Index o,
                       const float* partial, Index block, float* y) {
  const Index corner =
      tile.sample * c.y_sample + tile.row * c.y_row + tile.column * c.out_channels + o;
  const Index height = min(kTile, c.out_height - tile.row);
  const Index width = min(kTile, c.out_width - tile.column);
  for (int v = 0; v < kVectors; ++v) {
    Vector m[kFrequencies];
#pragma GCC unroll 16
    for (int f = 0; f < kFrequencies; ++f)
      m[f] = load(partial + f * block * kColumns + v * kLanes);
#pragma GCC unroll 4
    for (int row = 0; row < kPatch; ++row) transform_output(m + row * kPatch, 1);
#pragma GCC unroll 2
    for (int column = 0; column < kTile; ++column) transform_output(m + column, kPatch);
    for (Index row = 0; row < height; ++row)
      for (Index column = 0; column < width; ++column) {
        const Index offset = corner + row * c.y_row + column * c.out_channels + v * kLanes;
        store(y + offset,
              finish(finishing, m[row * kPatch + column], offset, o + v * kLanes, kLanes));
      }
  }
}

// Computes `count` tiles from number `from` on; `block` is the room for tiles in the scratch.
inline void convolve_block(const Convolution& c, const Finish& finishing, const float* x,
                           const float* weights, float* y, Index from, Index count,
                           ConvolutionScratch& scratch) {
  const Index block = block_tiles(c), chunks = c.in_channels / kChunk;
  const Index weight_frequency = c.out_channels * c.in_channels;
  for (Index t = 0; t < count; ++t)
    transform_tile(c, x, tile_at(c, from + t), t, block, scratch);
  for (Index o = 0; o < c.out_channels; o += kColumns) {
    for (int f = 0; f < kFrequencies; ++f)
      for (Index chunk = 0; chunk < chunks; ++chunk)
        for (Index t = 0; t < count; t += kRows)
          multiply_chunk(
              scratch.patches.data + ((chunk * kFrequencies + f) * block + t) * kChunk,
              weights + f * weight_frequency + o * c.in_channels + chunk * kChunk * kColumns,
              scratch.partial.data + (f * block + t) * kColumns, chunk == 0);
    for (Index t = 0; t < count; ++t)
      write_tile(c, finishing, tile_at(c, from + t), o, scratch.partial.data + t * kColumns,
                 block, y);
  }
}

inline int convolve(const Convolution& c, const Finish& finishing, const float* x,
                    const float* weight, float* y) {
  Buffer<float> weights(kFrequencies * c.out_channels * c.in_channels);
  if (!weights.data) return kOutOfMemory;
  transform_weights(c, weight, weights.data);
  const Index tiles =
      c.batch * ceil_div(c.out_height, kTile) * ceil_div(c.out_width, kTile);
  const Index block = block_tiles(c);
  int status = kDone;
#pragma omp parallel num_threads(static_cast<int>(c.threads))
  {
    ConvolutionScratch scratch(c);
    // A last, smaller block multiplies whatever fills its register tiles, but writes none of it.
    if (scratch.complete())
      std::memset(scratch.patches.data, 0,
                  kFrequencies * block * c.in_channels * sizeof(float));
#pragma omp for schedule(dynamic)
    for (Index from = 0; from < tiles; from += block) {
      if (scratch.complete())
        convolve_block(c, finishing, x, weights.data, y, from, min(block, tiles - from), scratch);
      else
        status = kOutOfMemory;
    }
  }
  return status;
}

}  // namespace
