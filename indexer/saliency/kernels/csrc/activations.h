// Activations x w(x) and their derivatives w(x) + x w'(x) at once, which share what is expensive.
#pragma once

#include "finish.h"

namespace {

typedef std::int32_t Integers __attribute__((vector_size(kLanes * 4)));

inline Vector constant(float value) { return Vector{} + value; }

// The polynomial with these coefficients, the constant one first.
template <int count>
inline Vector polynomial(const float (&coefficients)[count], Vector t) {
  Vector sum = constant(coefficients[count - 1]);
#pragma GCC unroll 16
  for (int i = count - 2; i >= 0; --i) sum = sum * t + coefficients[i];
  return sum;
}

// exp(x) for x <= 0, to two units in the last place; below -87 as at -87, which is 1e-38.
inline Vector exponential(Vector x) {
  constexpr float kTaylor[] = {1.0f, 1.0f, 1 / 2.0f, 1 / 6.0f, 1 / 24.0f, 1 / 120.0f, 1 / 720.0f};
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no room for a fraction
  constexpr float kLeast = -87.0f;
  x = x < kLeast ? constant(kLeast) : x;
  const Vector n = (x * kLog2e + kRound) - kRound;
  const Vector rest = (x - n * kLn2High) - n * kLn2Low;
  const Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
  return polynomial(kTaylor, rest) * reinterpret_cast<Vector>(power);
}

struct Activation {
  Vector value, derivative;
};

// w is the normal distribution Phi. Phi and its density need one exponential: the tail is
// 1 - Phi(a) = exp(-a^2/2) t R(t) for a >= 0, with t = 1 / (1 + kSlope a) and a polynomial R, and
// the density exp(-a^2/2) / sqrt(2 pi).
inline Activation gelu(Vector x) {
  // Fitted for the least error of Phi in the maximum: 7e-9.
  constexpr float kTail[] = {0.109709168f,  0.109701265f, 0.101657801f,  0.0819109435f, 0.078828512f,
                             -0.0187700643f, 0.11331374f, -0.101415079f, 0.0250637101f};
  constexpr float kSlope = 0.275f, kDensity = 0.398942280f;
  const Vector one = constant(1.0f), a = absolute(x);
  const Vector bell = exponential(x * x * -0.5f), t = one / (one + a * kSlope);
  const Vector tail = bell * (t * polynomial(kTail, t));
  const Vector phi = x < 0.0f ? tail : one - tail;
  return {x * phi, phi + x * bell * kDensity};
}

// w is the logistic function.
inline Activation silu(Vector x) {
  const Vector one = constant(1.0f), e = exponential(-absolute(x));
  const Vector smaller = e / (one + e), w = x < 0.0f ? smaller : one - smaller;
  return {x * w, w + x * w * (one - w)};
}

// w rises from 0 at -3 to 1 at 3.
inline Activation hardswish(Vector x) {
  const Vector zero = {}, one = constant(1.0f), ramp = (x + 3.0f) * (1 / 6.0f);
  const Vector w = ramp <= 0.0f ? zero : ramp >= 1.0f ? one : ramp;
  const Vector slope = x * (1 / 3.0f) + 0.5f;
  return {x * w, x <= -3.0f ? zero : x >= 3.0f ? one : slope};
}

// y = activation(x) and its derivative, for `length` values; either may overwrite x.
template <Activation (*activation)(Vector)>
void activate(const float* x, Index length, Index threads, float* y, float* derivative) {
#pragma omp parallel for num_threads(static_cast<int>(threads))
  for (Index from = 0; from < length; from += kStretch)
    for (Index i = from; i < min(from + kStretch, length); i += kLanes) {
      const Index lanes = min(kLanes, length - i);
      const Activation result = activation(load_part(x + i, lanes));
      store_part(y + i, result.value, lanes);
      store_part(derivative + i, result.derivative, lanes);
    }
}

inline void activate(Curve curve, const float* x, Index length, Index threads, float* y,
                     float* derivative) {
  const auto run = curve == kGelu ? activate<gelu> : curve == kSilu ? activate<silu>
                                                                    : activate<hardswish>;
  run(x, length, threads, y, derivative);
}

}  // namespace
