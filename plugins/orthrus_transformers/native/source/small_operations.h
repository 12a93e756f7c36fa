// The small operations of a layer: RMS norms, rotary positions, the gate of the MLP.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace orthrus {

// out = x / sqrt(mean(x^2) + epsilon) * weight, [size] each; out may be x.
inline void rms_norm(const float* x, const float* weight, int64_t size, float epsilon, float* out) {
    Floats squares = zeros();
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) squares = multiply_add(load(x + i), load(x + i), squares);
    float total = sum(squares);
    for (; i < size; i++) total = std::fma(x[i], x[i], total);
    float factor = 1.0f / std::sqrt(total / float(size) + epsilon);
    for (i = 0; i < size; i++) out[i] = x[i] * factor * weight[i];
}

// Turn the pairs (i, i + size / 2) of a head by the angles of its position, cosine and sine [size / 2].
inline void rotate(float* head, const float* cosine, const float* sine, int64_t size) {
    int64_t half = size / 2;
    for (int64_t i = 0; i < half; i++) {
        float first = head[i], second = head[i + half];
        head[i] = first * cosine[i] - second * sine[i];
        head[i + half] = second * cosine[i] + first * sine[i];
    }
}

// out = gate * sigmoid(gate) * up for LANES values.
INLINE Floats gated(Floats gate, Floats up) {
    Floats denominator = add(broadcast(1.0f), exponential(multiply(gate, broadcast(-1.0f))));
    return multiply(divide(gate, denominator), up);
}

}  // namespace orthrus
