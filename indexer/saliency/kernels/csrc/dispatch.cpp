// Chooses a compiled path by name and says which ones this processor can run.
#include "problem.h"

#define ROWSUM_DECLARE(path)                                                                    \
  int dense_##path(const Problem&, const float*, const float*, float*);                         \
  int depthwise_##path(const Problem&, const float*, const float*, float*);                     \
  int convolve_##path(const Convolution&, const Finish&, const float*, const float*, float*);   \
  int pixelwise_##path(const Pixelwise&, const Finish&, const float*, const float*, float*);    \
  void finish_##path(const Finish&, Index, Index, float*);                                      \
  void activate_##path(Curve, const float*, Index, Index, float*, float*);

#define ROWSUM_FUNCTIONS(path) \
  dense_##path, depthwise_##path, convolve_##path, pixelwise_##path, finish_##path, \
      activate_##path

ROWSUM_DECLARE(portable)
#ifdef ROWSUM_X86
ROWSUM_DECLARE(avx2)
ROWSUM_DECLARE(avx512)
#endif

namespace {

bool runs_anywhere() { return true; }
#ifdef ROWSUM_X86
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

struct Path {
  const char* name;
  bool (*runs)();
  RowSum dense, depthwise;
  Convolve convolve;
  MultiplyPixels pixelwise;
  FinishAll finish;
  Activate activate;
};

// Fastest first: the order in which cpu.py tries them.
constexpr Path kPaths[] = {
#ifdef ROWSUM_X86
    {"avx512", runs_avx512, ROWSUM_FUNCTIONS(avx512)},
    {"avx2", runs_avx2, ROWSUM_FUNCTIONS(avx2)},
#endif
    {"portable", runs_anywhere, ROWSUM_FUNCTIONS(portable)},
};
constexpr int kPathCount = sizeof(kPaths) / sizeof(kPaths[0]);

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int rowsum_interface() { return kInterface; }

__attribute__((visibility("default"))) int rowsum_path_count() { return kPathCount; }

__attribute__((visibility("default"))) const char* rowsum_path_name(int path) {
  return kPaths[path].name;
}

__attribute__((visibility("default"))) int rowsum_path_runs(int path) {
  return kPaths[path].runs();
}

__attribute__((visibility("default"))) int rowsum_dense(int path, const Problem* problem,
                                                        const float* x, const float* g,
                                                        float* out) {
  return kPaths[path].dense(*problem, x, g, out);
}

__attribute__((visibility("default"))) int rowsum_depthwise(int path, const Problem* problem,
                                                            const float* x, const float* g,
                                                            float* out) {
  return kPaths[path].depthwise(*problem, x, g, out);
}

__attribute__((visibility("default"))) int convolve_3x3(int path, const Convolution* convolution,
                                                        const Finish* finish, const float* x,
                                                        const float* weight, float* y) {
  return kPaths[path].convolve(*convolution, *finish, x, weight, y);
}

__attribute__((visibility("default"))) int multiply_pixels(int path, const Pixelwise* pixelwise,
                                                           const Finish* finish, const float* x,
                                                           const float* weight, float* y) {
  return kPaths[path].pixelwise(*pixelwise, *finish, x, weight, y);
}

__attribute__((visibility("default"))) void finish_values(int path, const Finish* finish,
                                                          Index length, Index threads, float* y) {
  kPaths[path].finish(*finish, length, threads, y);
}

__attribute__((visibility("default"))) void activate_values(int path, Index curve,
                                                            const float* x, Index length,
                                                            Index threads, float* y,
                                                            float* derivative) {
  kPaths[path].activate(static_cast<Curve>(curve), x, length, threads, y, derivative);
}
}
