// Attention of one head over the keys and values of its row, as the cache has them: [slots, size] each.
//
// A query's result depends on the slots that it sees and on nothing else: scores are dot products whose lanes are
// columns, and weights and values are added up slot after slot.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace orthrus {

INLINE float dot(const float* a, const float* b, int64_t size) {
    Floats total = zeros();
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) total = multiply_add(load(a + i), load(b + i), total);
    float rest = sum(total);
    for (; i < size; i++) rest = std::fma(a[i], b[i], rest);
    return rest;
}

// The dot products of a query with so many keys, one after the other: four at a time share what is read of the query.
inline void dots(const float* query, const float* keys, int64_t count, int64_t size, float* out) {
    int64_t slot = 0;
    for (; size % LANES == 0 && slot + 4 <= count; slot += 4) {
        const float* key = keys + slot * size;
        Floats totals[4] = {zeros(), zeros(), zeros(), zeros()};
        for (int64_t i = 0; i < size; i += LANES) {
            Floats part = load(query + i);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) totals[j] = multiply_add(part, load(key + j * size + i), totals[j]);
        }
        four_sums(totals[0], totals[1], totals[2], totals[3], out + slot);
    }
    for (; slot < count; slot++) out[slot] = dot(query, keys + slot * size, size);
}

// Turn scores [count] into e^(scale * score - largest), and return their sum. There is room for LANES more.
inline float exponentials(float* scores, int64_t count, float scale) {
    for (int64_t i = 0; i < count; i++) scores[i] *= scale;
    for (int64_t i = count; i % LANES; i++) scores[i] = -INFINITY;
    Floats most = broadcast(-INFINITY), total = zeros();
    for (int64_t i = 0; i < count; i += LANES) most = maximum(most, load(scores + i));
    Floats top = broadcast(-largest(most));
    for (int64_t i = 0; i < count; i += LANES) {
        Floats shifted = add(load(scores + i), top);
        store(scores + i, exponential(shifted));
    }
    for (int64_t i = count; i % LANES; i++) scores[i] = 0;
    for (int64_t i = 0; i < count; i += LANES) total = add(total, load(scores + i));
    return sum(total);
}

template <int VECTORS>
INLINE void weigh(const float* weights, const float* values, int64_t count, int64_t size, float* out) {
    Floats totals[VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < VECTORS; i++) totals[i] = zeros();
    for (int64_t slot = 0; slot < count; slot++) {
        Floats weight = broadcast(weights[slot]);
#pragma GCC unroll 8
        for (int i = 0; i < VECTORS; i++)
            totals[i] = multiply_add(weight, load(values + slot * size + i * LANES), totals[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < VECTORS; i++) store(out + i * LANES, totals[i]);
}

// out [size] = softmax(scale * query . keys) . values over the slots from `first` up to `end`; scores: room for them.
inline void attend(const float* query, const float* keys, const float* values, int64_t first, int64_t end,
                   int64_t size, float scale, float* scores, float* out) {
    int64_t count = end - first;
    dots(query, keys + first * size, count, size, scores);
    float total = exponentials(scores, count, scale);
    const float* from = values + first * size;
    int64_t i = 0;
    for (; i + 8 * LANES <= size; i += 8 * LANES) weigh<8>(scores, from + i, count, size, out + i);
    for (; i + LANES <= size; i += LANES) weigh<1>(scores, from + i, count, size, out + i);
    for (; i < size; i++) {
        out[i] = 0;
        for (int64_t slot = 0; slot < count; slot++) out[i] = std::fma(scores[slot], from[slot * size + i], out[i]);
    }
    for (i = 0; i < size; i++) out[i] /= total;
}

}  // namespace orthrus
