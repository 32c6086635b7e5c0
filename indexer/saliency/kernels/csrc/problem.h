// The C interface shared by the dispatcher, the compiled paths and the Python side (cpu.py).
#pragma once

#include <cstdint>

using Index = std::int64_t;

// Counts changes of the structures and functions below; library.py takes no other library.
constexpr int kInterface = 4;

// A convolution's input and output gradient: sizes in elements, strides in floats.
// cpu.py mirrors this structure field by field.
struct Problem {
  Index batch, in_channels, height, width;
  Index out_channels, out_height, out_width;
  Index kernel_height, kernel_width;
  Index stride_height, stride_width;
  Index pad_height, pad_width;
  Index dilation_height, dilation_width;
  Index groups;
  Index x_sample, x_channel, x_row, x_pixel;
  Index g_sample, g_channel, g_row, g_pixel;
  Index threads;
};

// A 3x3 convolution of stride 1 whose images are pixel-major (channels contiguous); any strides of
// the weight, negative ones too. y is dense. Mirrored by cpu.py.
struct Convolution {
  Index batch, in_channels, height, width;
  Index out_channels, out_height, out_width;
  Index pad_height, pad_width;
  Index x_sample, x_row, x_pixel;
  Index w_out, w_in, w_row, w_column;
  Index y_sample, y_row;
  Index threads;
};

// Where the pixels of a batch of images lie; the channels of a pixel are contiguous.
struct Grid {
  Index sample, row, pixel;
};

// y[pixel] = weight x[pixel] over height x width pixels of each image. Mirrored by pixelwise.py.
struct Pixelwise {
  Index batch, height, width, in_channels, out_channels;
  Grid x, y;
  Index w_out, w_in;
  Index threads;
};

// How the values of `factor` gate a gradient: not at all, where they are positive, or as factors.
enum Gate : Index { kOpen = 0, kPositive = 1, kFactor = 2 };

// What is done to each output before it is written; pointers may be null. `residual` and `factor`
// lie as y does. Mirrored by finish.py.
struct Finish {
  const float *bias, *residual, *factor;
  Index gate;
};

// Activations. Mirrored by activations.py.
enum Curve : Index { kGelu = 0, kSilu = 1, kHardswish = 2 };

enum Status : int { kDone = 0, kOutOfMemory = 1 };

// Writes out[b * out_channels + o] = sum over the weights w of filter o of |d loss_b / d w|.
using RowSum = int (*)(const Problem&, const float* x, const float* g, float* out);

// Writes y = finish(conv2d(x, weight)).
using Convolve = int (*)(const Convolution&, const Finish&, const float* x, const float* weight,
                         float* y);
// Writes y = finish(weight x) for every pixel.
using MultiplyPixels = int (*)(const Pixelwise&, const Finish&, const float* x,
                               const float* weight, float* y);
// Finishes `length` values in place.
using FinishAll = void (*)(const Finish&, Index length, Index threads, float* y);
// Writes an activation of x and its derivative.
using Activate = void (*)(Curve curve, const float* x, Index length, Index threads, float* y,
                          float* derivative);
