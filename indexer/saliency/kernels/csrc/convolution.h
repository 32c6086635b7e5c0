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

// Channels that are multiplied at once. Fixed, so that tiles lie at constant distances.
constexpr Index kChunk = 64;
// Up to that many tiles, panels of filters are transformed one by one as they meet all tiles, and
// their weights never leave the L2 cache.
constexpr Index kFewTiles = 24 * kRows;
// With more, blocks of tiles are transformed one by one and meet all filters, whose weights were
// transformed beforehand: this many floats of patches stay in the L2 cache.
constexpr Index kBlockSize = 1 << 17;

// Frequencies lie a cache line further apart than they need: at a distance of 4 KiB, all sixteen
// would compete for the same lines of the L1 cache.
constexpr Index kWeightStep = kChunk * kColumns + kLineFloats;
// Transformed weights of a panel of filters for one chunk: [frequency][kChunk][kColumns].
constexpr Index kChunkWeights = kFrequencies * kWeightStep;
inline Index patch_step(Index group) { return group * kChunk + kLineFloats; }
inline Index partial_step(Index group) { return group * kColumns + kLineFloats; }

inline Index patches_floats(const Convolution& c, Index group) {
  return c.in_channels / kChunk * kFrequencies * patch_step(group);
}

// Tiles that are multiplied together: where their patches [chunk][frequency][tile][kChunk] lie, the
// number of the first one, how many there are, and for how many there is room.
struct Group {
  float* patches;
  Index first, count, room;
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

// Transforms the weights of one panel of filters for one chunk of channels, both from `weight` on.
inline void transform_weights(const Convolution& c, const float* weight, float* transformed) {
  const auto transform = c.w_out == 1  ? transform_square_by_filter
                         : c.w_in == 1 ? transform_square_by_channel
                                       : transform_square_scattered;
  for (Index o = 0; o < kColumns; o += kLanes)
    for (Index i = 0; i < kChunk; i += kLanes)
      transform(c, weight + o * c.w_out + i * c.w_in, transformed + i * kColumns + o,
                kWeightStep);
}

// Asks for one of kFrequencies shares of the weights that are transformed next.
inline void prefetch_weights(const Convolution& c, const float* weight, int share) {
  const bool by_filter = c.w_out == 1;
  const Index rows = by_filter ? kChunk : kColumns, length = by_filter ? kColumns : kChunk;
  const Index row_stride = by_filter ? c.w_in : c.w_out;
  for (Index row = share * rows / kFrequencies; row < (share + 1) * rows / kFrequencies; ++row)
    for (int tap = 0; tap < kTaps * kTaps; ++tap)
      for (Index i = 0; i < length; i += kLineFloats)
        __builtin_prefetch(weight + row * row_stride + tap / kTaps * c.w_row +
                               tap % kTaps * c.w_column + i,
                           0, kPrefetchLocality);
}

// One tile of 2x2 outputs of one sample.
struct Tile {
  Index sample, row, column;
};

inline Tile tile_at(const Convolution& c, Index index) {
  const Index down = ceil_div(c.out_height, kTile), across = ceil_div(c.out_width, kTile);
  return {index / (down * across), index / across % down * kTile, index % across * kTile};
}

// Transforms the patch of tile number `t` of a group.
inline void transform_tile(const Convolution& c, const float* x, const float* zeros,
                           const Group& group, Index t) {
  const Tile tile = tile_at(c, group.first + t);
  const Bordered image = {x + tile.sample * c.x_sample, c.height, c.width, {c.x_row, c.x_pixel},
                          zeros};
  const Patch patch(image, tile.row - c.pad_height, tile.column - c.pad_width);
  const Index step = patch_step(group.room);
  for (Index i = 0; i < c.in_channels; i += kLanes)
    patch.transform(i, group.patches + i / kChunk * kFrequencies * step + t * kChunk + i % kChunk,
                    step);
}

// partial[tile][column] (+)= sum over a chunk of channels of patches[tile][channel] times
// weights[channel][column], for some tiles and kColumns columns.
template <int rows>
void multiply_chunk(const float* patches, const float* weights, float* partial, bool first) {
  Vector sum[rows][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sum[m][v] = first ? Vector{} : load(partial + m * kColumns + v * kLanes);
  for (Index i = 0; i < kChunk; ++i, ++patches, weights += kColumns) {
    Vector column[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) column[v] = load(weights + v * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[m][v] += patches[m * kChunk] * column[v];
  }
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(partial + m * kColumns + v * kLanes, sum[m][v]);
}

using MultiplyChunk = void (*)(const float*, const float*, float*, bool);

inline MultiplyChunk multiply_chunk_of(int rows) {
  if (rows == kRows) return multiply_chunk<kRows>;
  return rows == kRowStep ? multiply_chunk<kRowStep> : multiply_chunk<2 * kRowStep>;
}

// A^T m along one direction, in place: two results at 0 and step.
inline void transform_output(Vector* m, int step) {
  const Vector both = m[step] + m[2 * step], difference = m[step] - m[2 * step];
  m[0] += both;
  m[step] = difference - m[3 * step];
}

// Writes the outputs of one tile for the panel of filters from `o` on.
inline void write_tile(const Convolution& c, const Finish& finishing, const Tile& tile, Index o,
                       const float* partial, Index step, float* y) {
  const Index corner =
      tile.sample * c.y_sample + tile.row * c.y_row + tile.column * c.out_channels + o;
  const Index height = min(kTile, c.out_height - tile.row);
  const Index width = min(kTile, c.out_width - tile.column);
  for (int v = 0; v < kVectors; ++v) {
    Vector m[kFrequencies];
#pragma GCC unroll 16
    for (int f = 0; f < kFrequencies; ++f)
      m[f] = load(partial + f * step + v * kLanes);
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

// Adds a chunk of channels to the sums of all tiles of a group, [frequency][tile][kColumns], and
// asks for the `next` weights, if any, meanwhile.
inline void multiply_tiles(const Convolution& c, const Group& group, Index chunk,
                           const float* weights, const float* next, float* partial) {
  const float* patches = group.patches + chunk * kFrequencies * patch_step(group.room);
  for (int f = 0; f < kFrequencies; ++f) {
    if (next) prefetch_weights(c, next, f);
    for (Index t = 0; t < group.count; t += kRows)
      multiply_chunk_of(tile_rows(group.count, t))(
          patches + f * patch_step(group.room) + t * kChunk, weights + f * kWeightStep,
          partial + f * partial_step(group.room) + t * kColumns, chunk == 0);
  }
}

inline void write_tiles(const Convolution& c, const Finish& finishing, const Group& group, Index o,
                        const float* partial, float* y) {
  for (Index t = 0; t < group.count; ++t)
    write_tile(c, finishing, tile_at(c, group.first + t), o, partial + t * kColumns,
               partial_step(group.room), y);
}

inline Index tile_count(const Convolution& c) {
  return c.batch * ceil_div(c.out_height, kTile) * ceil_div(c.out_width, kTile);
}

// All tiles at once: each thread takes panels of filters.
inline int convolve_panels(const Convolution& c, const Finish& finishing, const float* x,
                           const float* weight, const float* zeros, float* y) {
  const Index tiles = tile_count(c), room = round_up(tiles, kRowStep);
  Buffer<float> patches(patches_floats(c, room));
  if (!patches.data) return kOutOfMemory;
  const Group group = {patches.data, 0, tiles, room};
  int status = kDone;
#pragma omp parallel num_threads(static_cast<int>(c.threads))
  {
    Buffer<float> weights(kChunkWeights);
    Buffer<float> partial(kFrequencies * partial_step(room));
#pragma omp for
    for (Index t = 0; t < tiles; ++t) transform_tile(c, x, zeros, group, t);
#pragma omp for schedule(dynamic)
    for (Index o = 0; o < c.out_channels; o += kColumns) {
      if (!weights.data || !partial.data) {
        status = kOutOfMemory;
        continue;
      }
      const float *panel = weight + o * c.w_out, *following = panel + kColumns * c.w_out;
      for (Index i = 0; i < c.in_channels; i += kChunk) {
        const bool last = i + kChunk == c.in_channels;
        transform_weights(c, panel + i * c.w_in, weights.data);
        multiply_tiles(c, group, i / kChunk, weights.data,
                       last ? following : panel + (i + kChunk) * c.w_in, partial.data);
      }
      write_tiles(c, finishing, group, o, partial.data, y);
    }
  }
  return status;
}

// Block by block: each thread takes tiles and all filters.
inline int convolve_blocks(const Convolution& c, const Finish& finishing, const float* x,
                           const float* weight, const float* zeros, float* y) {
  const Index tiles = tile_count(c), chunks = c.in_channels / kChunk;
  const Index parts = c.out_channels / kColumns * chunks;
  const Index room =
      max(1, min(8, kBlockSize / (kFrequencies * c.in_channels * kRows))) * kRows;
  Buffer<float> weights(parts * kChunkWeights);
  if (!weights.data) return kOutOfMemory;
  int status = kDone;
#pragma omp parallel num_threads(static_cast<int>(c.threads))
  {
    Buffer<float> patches(patches_floats(c, room));
    Buffer<float> partial(kFrequencies * partial_step(room));
#pragma omp for
    for (Index part = 0; part < parts; ++part)
      transform_weights(
          c, weight + part / chunks * kColumns * c.w_out + part % chunks * kChunk * c.w_in,
          weights.data + part * kChunkWeights);
#pragma omp for schedule(dynamic)
    for (Index first = 0; first < tiles; first += room) {
      if (!patches.data || !partial.data) {
        status = kOutOfMemory;
        continue;
      }
      const Group group = {patches.data, first, min(room, tiles - first), room};
      for (Index t = 0; t < group.count; ++t) transform_tile(c, x, zeros, group, t);
      for (Index o = 0; o < c.out_channels; o += kColumns) {
        const float* panel = weights.data + o / kColumns * chunks * kChunkWeights;
        for (Index chunk = 0; chunk < chunks; ++chunk)
          multiply_tiles(c, group, chunk, panel + chunk * kChunkWeights, nullptr, partial.data);
        write_tiles(c, finishing, group, o, partial.data, y);
      }
    }
  }
  return status;
}

inline int convolve(const Convolution& c, const Finish& finishing, const float* x,
                    const float* weight, float* y) {
  Buffer<float> zeros(c.in_channels);
  if (!zeros.data) return kOutOfMemory;
  std::memset(zeros.data, 0, c.in_channels * sizeof(float));
  const auto run = tile_count(c) <= kFewTiles ? convolve_panels : convolve_blocks;
  return run(c, finishing, x, weight, zeros.data, y);
}

}  // namespace
