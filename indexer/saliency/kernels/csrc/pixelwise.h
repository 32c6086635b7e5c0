// The product of every pixel with one matrix: a 1x1 convolution, a linear layer over tokens, or the
// input gradient of either. Blocks of pixels and panels of outputs meet in register tiles.
#pragma once

#include "finish.h"
#include "panels.h"

namespace {

// Channels that are multiplied at once: a panel of that many lines stays in the L1 cache.
constexpr Index kDeep = 192;
// Floats of a block of pixels, which stays in the L2 cache.
constexpr Index kBlockFloats = 1 << 17;
// Register tiles of a block at most, and at least where there are enough pixels; between, there are
// kBlocksPerThread of them, so that no thread waits long for the last.
constexpr Index kMostTiles = 24, kFewestTiles = 4, kBlocksPerThread = 8;

inline Index pixel_count(const Pixelwise& p) { return p.batch * p.height * p.width; }

// Pixels of a block, whole register tiles.
inline Index block_pixels(const Pixelwise& p) {
  const Index most = kBlockFloats / (round_up(p.in_channels, kDeep) * kRows);
  const Index fair = ceil_div(pixel_count(p), kRows * p.threads * kBlocksPerThread);
  return max(1, min(most, min(kMostTiles, max(fair, kFewestTiles)))) * kRows;
}

// Outputs from `first` on that share a panel: two vectors, or one where that holds the rest.
inline Index panel_width(Index channels, Index first) {
  return min(kColumns, round_up(channels - first, kLanes));
}

// Packs the weights of a panel, [in_channels][width], with zeros for missing outputs.
inline void pack_weights(const Pixelwise& p, const float* weight, Index first, float* panel) {
  const Index width = panel_width(p.out_channels, first);
  const Index outputs = min(width, p.out_channels - first);
  if (outputs < width) std::memset(panel, 0, p.in_channels * width * sizeof(float));
  const Image image = {weight, outputs, 1, p.in_channels, p.w_out, 0, p.w_in};
  stage_row(image, weight + first * p.w_out, panel, width);
}

// Where a pixel begins in an image of the batch.
inline Index pixel_offset(const Pixelwise& p, Index pixel, const Grid& grid) {
  const Index row = pixel / p.width;
  return row / p.height * grid.sample + row % p.height * grid.row + pixel % p.width * grid.pixel;
}

// Scratch of one thread: a block of pixels, its unfinished sums, and where its outputs go.
struct PixelScratch {
  Buffer<float> rows, partial;
  Buffer<Index> where;

  PixelScratch(const Pixelwise& p, Index block)
      : rows(round_up(p.in_channels, kDeep) * block), partial(block * kColumns), where(block) {
    // A last, smaller block multiplies whatever fills its register tiles, but writes none of it.
    if (complete())
      std::memset(rows.data, 0, round_up(p.in_channels, kDeep) * block * sizeof(float));
  }
  bool complete() const { return rows.data && partial.data && where.data; }
};

// Copies pixels into rows[chunk of kDeep channels][pixel][kDeep].
inline void pack_pixels(const Pixelwise& p, const float* x, Index from, Index count, Index block,
                        PixelScratch& scratch) {
  for (Index t = 0; t < count; ++t) {
    scratch.where[t] = pixel_offset(p, from + t, p.y);
    const float* pixel = x + pixel_offset(p, from + t, p.x);
    for (Index i = 0; i < p.in_channels; i += kDeep)
      std::memcpy(scratch.rows.data + (i * block + t * kDeep), pixel + i,
                  min(kDeep, p.in_channels - i) * sizeof(float));
  }
}

// Lines of the next block of pixels, asked for one by one; with a step of 0 once all have been.
struct Upcoming {
  const float *next, *end;
  Index step;

  void skip(Index lines) {
    next += lines * step;
    if (next >= end) step = 0;
  }
};

inline Upcoming upcoming(const Pixelwise& p, const float* x, Index from, Index count) {
  if (count <= 0) return {x, x, 0};
  const float* first = x + pixel_offset(p, from, p.x);
  return {first, first + count * p.in_channels, kLineFloats};
}

// The pixels of one register tile: where each begins in y, how many exist, their outputs
// [first, first + lanes), and the bias of all outputs, or null.
struct Target {
  float* y;
  const Index* where;
  Index pixels, first, lanes;
  const float* bias;
};

// Asks for the lines from `channel` on that will be written, so that the multiplication gives them
// time to arrive.
inline void prefetch_target(const Target& target, Index channel) {
  for (int m = 0; m < kRows && m < target.pixels; ++m)
    __builtin_prefetch(target.y + target.where[m] + channel, 1);
}

// Vector `v` of the target's bias.
inline Vector bias_of(const Target& target, int v) {
  const Index lanes = target.lanes - v * kLanes;
  if (!target.bias || lanes <= 0) return Vector{};
  return load_part(target.bias + target.first + v * kLanes, lanes);
}

// Writes the sums of one pixel and the bias.
template <int vectors>
inline void write_pixel(const Target& target, int m, const Vector* sum, const Vector* bias) {
  float* y = target.y + target.where[m] + target.first;
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v)
    if (target.lanes > v * kLanes)
      store_part(y + v * kLanes, sum[v] + bias[v], target.lanes - v * kLanes);
}

// Sums over `depth` channels of rows[pixel][channel] times weights[channel][vector], for kRows
// pixels. `first` starts from zero, `last` writes to the target; between, sums wait in `partial`.
// Each channel asks for one line of what is upcoming.
template <int vectors>
void multiply_pixels(const float* rows, const float* weights, Index depth, bool first, bool last,
                     float* partial, const Target& target, const Upcoming& upcoming) {
  const float* ahead = upcoming.next;
  Vector sum[kRows][vectors];
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      sum[m][v] = first ? Vector{} : load(partial + (m * vectors + v) * kLanes);
  const Index stretch = ceil_div(depth, vectors);
  Index i = 0;
  for (int v = 0; v < vectors; ++v) {
    if (last) prefetch_target(target, target.first + v * kLanes);
    for (const Index end = min(depth, i + stretch); i < end; ++i) {
      __builtin_prefetch(ahead, 0, kPrefetchLocality);
      ahead += upcoming.step;
      Vector column[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) column[v] = load(weights + (i * vectors + v) * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[m][v] += rows[m * kDeep + i] * column[v];
    }
  }
  Vector bias[vectors];
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v) bias[v] = bias_of(target, v);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    if (!last)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(partial + (m * vectors + v) * kLanes, sum[m][v]);
    else if (m < target.pixels)
      write_pixel<vectors>(target, m, sum[m], bias);
  }
}

// Finishes a block of pixels, whose outputs are in the L2 cache still. Not register by register:
// those of a tile lie far apart in the other tensors, whose lines then arrive one by one, while
// whole pixels in a row are fetched ahead by the processor itself.
inline void finish_pixels(const Finish f, const Index* where, Index count, Index channels,
                          float* y) {
  const auto finish_at = [&](Index offset, Index channel, Index lanes) {
    store_part(y + offset, finish(f, load_part(y + offset, lanes), offset, channel, lanes), lanes);
  };
  const Index whole = channels / kLanes * kLanes;
  for (Index t = 0; t < count; ++t) {
    for (Index o = 0; o < whole; o += kLanes) finish_at(where[t] + o, o, kLanes);
    if (whole < channels) finish_at(where[t] + whole, whole, channels - whole);
  }
}

// Multiplies a packed block of `count` pixels with the panel of the outputs from `first` on.
inline Upcoming multiply_block(const Pixelwise& p, const float* bias, const float* panel,
                               Index first, Index count, Index block, PixelScratch& scratch,
                               Upcoming ahead, float* y) {
  const Index width = panel_width(p.out_channels, first);
  const auto multiply_tile = width == kColumns ? multiply_pixels<kVectors> : multiply_pixels<1>;
  for (Index i = 0; i < p.in_channels; i += kDeep) {
    const Index depth = min(kDeep, p.in_channels - i);
    for (Index t = 0; t < count; t += kRows, ahead.skip(depth))
      multiply_tile(scratch.rows.data + i * block + t * kDeep, panel + i * width, depth, i == 0,
                    i + kDeep >= p.in_channels, scratch.partial.data + t * width,
                    {y, scratch.where.data + t, count - t, first, p.out_channels - first, bias},
                    ahead);
  }
  return ahead;
}

inline int multiply_pixelwise(const Pixelwise& p, const Finish& f, const float* x,
                              const float* weight, float* y) {
  const Index block = block_pixels(p), pixels = pixel_count(p);
  const Finish rest = {nullptr, f.residual, f.factor, f.gate};
  Buffer<float> panels(round_up(p.out_channels, kLanes) * p.in_channels);
  if (!panels.data) return kOutOfMemory;
  int status = kDone;
#pragma omp parallel num_threads(static_cast<int>(p.threads))
  {
    PixelScratch scratch(p, block);
#pragma omp for
    for (Index first = 0; first < p.out_channels; first += kColumns)
      pack_weights(p, weight, first, panels.data + first * p.in_channels);
#pragma omp for schedule(dynamic)
    for (Index from = 0; from < pixels; from += block) {
      if (!scratch.complete()) {
        status = kOutOfMemory;
        continue;
      }
      const Index count = min(block, pixels - from);
      pack_pixels(p, x, from, count, block, scratch);
      Upcoming ahead = upcoming(p, x, from + block, min(2 * block, pixels - from) - block);
      for (Index first = 0; first < p.out_channels; first += kColumns)
        ahead = multiply_block(p, f.bias, panels.data + first * p.in_channels, first, count, block,
                               scratch, ahead, y);
      if (rest.residual || rest.gate != kOpen)
        finish_pixels(rest, scratch.where.data, count, p.out_channels, y);
    }
  }
  return status;
}

}  // namespace
