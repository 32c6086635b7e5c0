// What still happens to an output while it is in a register or in the cache: a bias and another
// tensor are added, and where the tensor is a gradient, the derivative of the activation behind it
// is multiplied on. Done apart, each of these would read and write the whole tensor once more.
#pragma once

#include "vector.h"

namespace {

// Loads the first `lanes` values, zeros after them.
inline Vector load_part(const float* p, Index lanes) {
  if (lanes >= kLanes) return load(p);
  Vector v = {};
  std::memcpy(&v, p, lanes * sizeof(float));
  return v;
}

inline void store_part(float* p, Vector v, Index lanes) {
  if (lanes >= kLanes)
    store(p, v);
  else
    std::memcpy(p, &v, lanes * sizeof(float));
}

// Finishes `lanes` outputs that lie `offset` floats into y, the first being of `channel`.
inline Vector finish(const Finish& f, Vector value, Index offset, Index channel, Index lanes) {
  if (f.bias) value += load_part(f.bias + channel, lanes);
  if (f.residual) value += load_part(f.residual + offset, lanes);
  if (f.gate == kFactor) value *= load_part(f.factor + offset, lanes);
  // As threshold_backward: a gradient passes wherever the output is not <= 0, so where it is NaN.
  if (f.gate == kPositive) value = load_part(f.factor + offset, lanes) <= 0.0f ? Vector{} : value;
  return value;
}

// Floats that a thread takes at a time.
constexpr Index kStretch = 1 << 14;

// Finishes `length` values in place.
inline void finish_all(const Finish& f, Index length, Index threads, float* y) {
#pragma omp parallel for num_threads(static_cast<int>(threads))
  for (Index from = 0; from < length; from += kStretch)
    for (Index i = from; i < min(from + kStretch, length); i += kLanes) {
      const Index lanes = min(kLanes, length - i);
      store_part(y + i, finish(f, load_part(y + i, lanes), i, 0, lanes), lanes);
    }
}

}  // namespace
