// One instruction set's path. Compiled once per set, ROWSUM_PATH naming it (see setup.py).
#include "activations.h"
#include "convolution.h"
#include "depthwise.h"
#include "pixelwise.h"

#define ROWSUM_JOIN(a, b) a##b
#define ROWSUM_NAME(kind, path) ROWSUM_JOIN(kind, path)

int ROWSUM_NAME(dense_, ROWSUM_PATH)(const Problem& p, const float* x, const float* g, float* out) {
  return uses_winograd(p) ? winograd(p, x, g, out) : dense(p, x, g, out);
}

int ROWSUM_NAME(depthwise_, ROWSUM_PATH)(const Problem& p, const float* x, const float* g,
                                         float* out) {
  return depthwise(p, x, g, out);
}

int ROWSUM_NAME(convolve_, ROWSUM_PATH)(const Convolution& c, const Finish& f, const float* x,
                                        const float* weight, float* y) {
  return convolve(c, f, x, weight, y);
}

int ROWSUM_NAME(pixelwise_, ROWSUM_PATH)(const Pixelwise& p, const Finish& f, const float* x,
                                         const float* weight, float* y) {
  return multiply_pixelwise(p, f, x, weight, y);
}

void ROWSUM_NAME(finish_, ROWSUM_PATH)(const Finish& f, Index length, Index threads, float* y) {
  finish_all(f, length, threads, y);
}

void ROWSUM_NAME(activate_, ROWSUM_PATH)(Curve curve, const float* x, Index length, Index threads,
                                         float* y, float* derivative) {
  activate(curve, x, length, threads, y, derivative);
}
