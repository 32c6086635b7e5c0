// Copies one sample into pixel-major order (channels contiguous), whatever its strides.
#pragma once

#include "vector.h"

namespace {

// Channels [0, channels) of a height x width image; strides in floats.
struct Image {
  const float* data;
  Index channels, height, width;
  Index channel_stride, row_stride, pixel_stride;
};

// Strides of a pixel-major image, whose channels are contiguous.
struct Plane {
  Index row_stride, pixel_stride;
};

template <int... kLane>
struct Lanes {};
template <int kCount, int... kLane>
struct LanesUpTo : LanesUpTo<kCount - 1, kCount - 1, kLane...> {};
template <int... kLane>
struct LanesUpTo<0, kLane...> {
  using Type = Lanes<kLane...>;
};

template <int kHalf, int... kLane>
inline Vector interleave(Vector a, Vector b, Lanes<kLane...>) {
  return __builtin_shufflevector(a, b, (kHalf + kLane / 2 + (kLane % 2) * kLanes)...);
}

// Transposes a square of kLanes x kLanes: log2(kLanes) rounds of interleaving both halves.
inline void transpose(const float* source, Index source_stride, float* target,
                      Index target_stride) {
  using All = typename LanesUpTo<kLanes>::Type;
  Vector rows[kLanes], mixed[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = load(source + i * source_stride);
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      mixed[2 * i] = interleave<0>(rows[i], rows[i + kLanes / 2], All{});
      mixed[2 * i + 1] = interleave<kLanes / 2>(rows[i], rows[i + kLanes / 2], All{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = mixed[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(target + i * target_stride, rows[i]);
}

// target[p * target_pixel + c] = source[c * channel_stride + p * pixel_stride] for one image row.
inline void stage_row(const Image& image, const float* source, float* target,
                      Index target_pixel) {
  const Index channels = image.channels, width = image.width;
  if (image.channel_stride == 1 && image.pixel_stride == target_pixel &&
      channels == target_pixel) {
    std::memcpy(target, source, width * target_pixel * sizeof(float));
    return;
  }
  if (image.channel_stride == 1) {
    for (Index p = 0; p < width; ++p)
      std::memcpy(target + p * target_pixel, source + p * image.pixel_stride,
                  channels * sizeof(float));
    return;
  }
  const bool squares = image.pixel_stride == 1;
  const Index whole_channels = squares ? channels / kLanes * kLanes : 0;
  const Index whole_pixels = squares ? width / kLanes * kLanes : 0;
  for (Index c = 0; c < whole_channels; c += kLanes)
    for (Index p = 0; p < whole_pixels; p += kLanes)
      transpose(source + c * image.channel_stride + p, image.channel_stride,
                target + p * target_pixel + c, target_pixel);
  for (Index p = 0; p < width; ++p)
    for (Index c = p < whole_pixels ? whole_channels : 0; c < channels; ++c)
      target[p * target_pixel + c] = source[c * image.channel_stride + p * image.pixel_stride];
}

// Lets an image whose rows follow each other without a gap pass as one long row, so that small
// maps still fill the squares of `transpose`.
inline Image flattened(Image image) {
  if (image.row_stride == image.width * image.pixel_stride) {
    image.width *= image.height;
    image.height = 1;
  }
  return image;
}

// Floats that `stage` needs for an image with this border, a vector's slack at the end included.
inline Index staged_size(const Image& image, Index pad_height, Index pad_width) {
  return (image.height + 2 * pad_height) * (image.width + 2 * pad_width) * image.channels +
         kLanes;
}

// Copies an image into the middle of a larger one, `pad_height` and `pad_width` from its corner.
inline void stage_inside(const Image& image, Index pad_height, Index pad_width, Index target_row,
                         float* target) {
  target += pad_height * target_row + pad_width * image.channels;
  for (Index y = 0; y < image.height; ++y)
    stage_row(image, image.data + y * image.row_stride, target + y * target_row, image.channels);
}

// Copies an image with a border of zeros into `scratch` (staged_size floats), which it returns.
inline const float* stage(const Image& image, Index pad_height, Index pad_width, float* scratch) {
  if (pad_height || pad_width) {
    std::memset(scratch, 0, staged_size(image, pad_height, pad_width) * sizeof(float));
    const Index row = (image.width + 2 * pad_width) * image.channels;
    stage_inside(image, pad_height, pad_width, row, scratch);
  } else {
    const Image flat = flattened(image);
    stage_inside(flat, 0, 0, image.width * image.channels, scratch);
  }
  return scratch;
}

}  // namespace
