// Depthwise convolutions (and narrow groups): a vector holds kLanes output channels, each with its
// own taps in registers.
#pragma once

#include "dense.h"

namespace {

// Taps that are summed in registers at once: some kernel rows, up to kTapsAtOnce of each.
constexpr Index kTapsAtOnce = 7;
constexpr Index kRowsAtOnce = 4;
#if defined(__AVX512F__)
constexpr Index kAccumulators = kRowsAtOnce * kTapsAtOnce;
#else
constexpr Index kAccumulators = 12;
#endif

// kLanes output channels: x pixel by pixel and bordered by zeros, g as it is or pixel by pixel.
struct Chunk {
  const float* x;
  Index x_row;
  const float* g;
  Plane g_strides;
};

// Where the lanes of a chunk find their channel: offsets in floats; unused lanes repeat the last.
struct LaneOffsets {
  Index offset[kLanes];
  Index consecutive;  // that many channels can be copied as they lie; 0 where they are scattered
};

// Lane l reads channel (first + l) / repeat * step.
inline LaneOffsets lane_offsets(Index first, Index lanes, Index repeat, Index step, Index stride) {
  LaneOffsets result;
  for (Index lane = 0; lane < kLanes; ++lane)
    result.offset[lane] = (first + min(lane, lanes - 1)) / repeat * step * stride;
  result.consecutive = repeat == 1 && step == 1 && stride == 1 ? lanes : 0;
  return result;
}

// Gathers the lanes' channels of an image, pixel by pixel.
inline void spread(const Image& image, const LaneOffsets& lanes, float* target, Index target_row) {
  const Index pixel = image.pixel_stride;
  for (Index y = 0; y < image.height; ++y, target += target_row) {
    const float* source = image.data + y * image.row_stride;
    if (lanes.consecutive == kLanes)
      for (Index c = 0; c < image.width; ++c)
        store(target + c * kLanes, load(source + c * pixel + lanes.offset[0]));
    else if (lanes.consecutive)
      for (Index c = 0; c < image.width; ++c)
        copy<false>(target + c * kLanes, source + c * pixel + lanes.offset[0], lanes.consecutive);
    else
      for (Index c = 0; c < image.width; ++c)
        for (int lane = 0; lane < kLanes; ++lane)
          target[c * kLanes + lane] = source[c * pixel + lanes.offset[lane]];
  }
}

// Sum of |sum over positions of g * x| over some rows of taps, the first at `x_taps`. The distance
// of neighbouring taps is an argument so that the common one is a constant of the loop.
template <int rows, int taps>
inline __attribute__((always_inline)) Vector tap_sums(const Problem& p, const Chunk& chunk,
                                                      const float* x_taps, Index tap_step) {
  Vector sum[rows][taps] = {};
  const Index row_step = p.dilation_height * chunk.x_row, x_step = p.stride_width * kLanes;
  for (Index y = 0; y < p.out_height; ++y) {
    const float* x = x_taps + y * p.stride_height * chunk.x_row;
    const float* g = chunk.g + y * chunk.g_strides.row_stride;
    for (Index c = 0; c < p.out_width; ++c, x += x_step, g += chunk.g_strides.pixel_stride) {
      const Vector gradient = load(g);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r)
#pragma GCC unroll 7
        for (int t = 0; t < taps; ++t) sum[r][t] += gradient * load(x + r * row_step + t * tap_step);
    }
  }
  Vector magnitude = {};
  for (int r = 0; r < rows; ++r)
    for (int t = 0; t < taps; ++t) magnitude += absolute(sum[r][t]);
  return magnitude;
}

template <int rows, int taps>
Vector tap_block(const Problem& p, const Chunk& chunk, const float* x_taps) {
  if (p.dilation_width == 1) return tap_sums<rows, taps>(p, chunk, x_taps, kLanes);
  return tap_sums<rows, taps>(p, chunk, x_taps, p.dilation_width * kLanes);
}

template <int taps>
inline Vector tap_block(const Problem& p, const Chunk& chunk, const float* x, Index rows) {
  switch (rows) {
    case 1: return tap_block<1, taps>(p, chunk, x);
    case 2: return tap_block<2, taps>(p, chunk, x);
    case 3: return tap_block<3, taps>(p, chunk, x);
    default: return tap_block<kRowsAtOnce, taps>(p, chunk, x);
  }
}

inline Vector tap_block(const Problem& p, const Chunk& chunk, const float* x, Index rows,
                        Index taps) {
  switch (taps) {
    case 1: return tap_block<1>(p, chunk, x, rows);
    case 2: return tap_block<2>(p, chunk, x, rows);
    case 3: return tap_block<3>(p, chunk, x, rows);
    case 4: return tap_block<4>(p, chunk, x, rows);
    case 5: return tap_block<5>(p, chunk, x, rows);
    case 6: return tap_block<6>(p, chunk, x, rows);
    default: return tap_block<kTapsAtOnce>(p, chunk, x, rows);
  }
}

// Rows of taps at once, as equal as they can be.
inline Index rows_at_once(const Problem& p) {
  const Index taps = min(kTapsAtOnce, p.kernel_width);
  const Index most = min(kRowsAtOnce, max(1, kAccumulators / taps));
  return ceil_div(p.kernel_height, ceil_div(p.kernel_height, most));
}

// Sum over all taps of |sum over positions of g * x|, one value per lane.
inline Vector chunk_rowsum(const Problem& p, const Chunk& chunk) {
  Vector sum = {};
  const Index step = rows_at_once(p);
  for (Index ty = 0; ty < p.kernel_height; ty += step) {
    const float* row = chunk.x + ty * p.dilation_height * chunk.x_row;
    for (Index tx = 0; tx < p.kernel_width; tx += kTapsAtOnce)
      sum += tap_block(p, chunk, row + tx * p.dilation_width * kLanes,
                       min(step, p.kernel_height - ty), min(kTapsAtOnce, p.kernel_width - tx));
  }
  return sum;
}

inline Index bordered_row(const Problem& p) { return (p.width + 2 * p.pad_width) * kLanes; }

inline Index bordered_size(const Problem& p) {
  return (p.height + 2 * p.pad_height) * bordered_row(p);
}

// The lanes' channels of g: as they lie where they fill a vector, else from a copy.
inline Chunk gradient_chunk(const Problem& p, const float* g, const LaneOffsets& lanes,
                            float* scratch) {
  if (lanes.consecutive == kLanes)
    return {nullptr, 0, g + lanes.offset[0], {p.g_row, p.g_pixel}};
  spread(gradient_image(p, g), lanes, scratch, p.out_width * kLanes);
  return {nullptr, 0, scratch, {p.out_width * kLanes, kLanes}};
}

// One sample; `x_scratch` has a border of zeros that stays as it is.
inline void depthwise_sample(const Problem& p, const float* x, const float* g, float* out,
                             float* x_scratch, float* g_scratch) {
  const Index group_in = p.in_channels / p.groups, group_out = p.out_channels / p.groups;
  const Index row = bordered_row(p);
  float* inner = x_scratch + p.pad_height * row + p.pad_width * kLanes;
  for (Index next = 0; next < p.out_channels; next += kLanes) {
    // The last chunk reaches back, so that its vectors are full: those channels come out twice.
    const Index first = max(0, min(next, p.out_channels - kLanes));
    const Index lanes = min(kLanes, p.out_channels - first);
    Chunk chunk = gradient_chunk(p, g, lane_offsets(first, lanes, 1, 1, p.g_channel), g_scratch);
    chunk.x = x_scratch;
    chunk.x_row = row;
    const LaneOffsets sources = lane_offsets(first, lanes, group_out, group_in, p.x_channel);
    Vector sum = {};
    for (Index i = 0; i < group_in; ++i) {
      spread(input_image(p, x + i * p.x_channel), sources, inner, row);
      sum += chunk_rowsum(p, chunk);
    }
    for (Index lane = 0; lane < lanes; ++lane) out[first + lane] = sum[lane];
  }
}

inline int depthwise(const Problem& p, const float* x, const float* g, float* out) {
  int status = kDone;
#pragma omp parallel num_threads(static_cast<int>(p.threads))
  {
    Buffer<float> x_scratch(bordered_size(p)), g_scratch(p.out_height * p.out_width * kLanes);
    const bool complete = x_scratch.data && g_scratch.data;
    // The border stays zero, and lanes without a channel hold numbers that cost no time.
    if (complete) {
      std::memset(x_scratch.data, 0, bordered_size(p) * sizeof(float));
      std::memset(g_scratch.data, 0, p.out_height * p.out_width * kLanes * sizeof(float));
    }
#pragma omp for schedule(dynamic)
    for (Index b = 0; b < p.batch; ++b) {
      if (complete)
        depthwise_sample(p, x + b * p.x_sample, g + b * p.g_sample, out + b * p.out_channels,
                         x_scratch.data, g_scratch.data);
      else
        status = kOutOfMemory;
    }
  }
  return status;
}

}  // namespace
