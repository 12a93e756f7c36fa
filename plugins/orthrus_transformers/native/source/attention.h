// Attention of one head over the keys and values of its row, as the cache has them: [slots, size] each.
//
// What a query sees is one stretch of slots or, in a tree of drafts, a stretch and then a path: `At` tells where each is.
// A query's result depends on the slots that it sees and on nothing else: scores are dot products whose lanes are
// columns, and weights and values are added up slot after slot.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace orthrus {

// A stretch of slots, one after the other.
struct Stretch {
    const float* first;
    int64_t size;

    const float* operator()(int64_t index) const { return first + index * size; }
};

// The text that leads to a token of a tree: slot t for the text's token t < committed, then those of its path.
struct PathOfSlots {
    const float* slots;
    int64_t size, first, committed;
    const int64_t* path;  // slots, by how far behind `committed` they are in the text

    const float* operator()(int64_t index) const {
        int64_t at = first + index;
        return slots + (at < committed ? at : path[at - committed]) * size;
    }
};

INLINE float dot(const float* a, const float* b, int64_t size) {
    Floats total = zeros();
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) total = multiply_add(load(a + i), load(b + i), total);
    float rest = sum(total);
    for (; i < size; i++) rest = std::fma(a[i], b[i], rest);
    return rest;
}

// The dot products of a query with so many keys, one after the other: four at a time share what is read of the query.
template <class At> inline void dots(const float* query, At keys, int64_t count, int64_t size, float* out) {
    int64_t slot = 0;
    for (; size % LANES == 0 && slot + 4 <= count; slot += 4) {
        const float* four[4] = {keys(slot), keys(slot + 1), keys(slot + 2), keys(slot + 3)};
        Floats totals[4] = {zeros(), zeros(), zeros(), zeros()};
        for (int64_t i = 0; i < size; i += LANES) {
            Floats part = load(query + i);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) totals[j] = multiply_add(part, load(four[j] + i), totals[j]);
        }
        four_sums(totals[0], totals[1], totals[2], totals[3], out + slot);
    }
    for (; slot < count; slot++) out[slot] = dot(query, keys(slot), size);
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

template <int VECTORS, class At>
INLINE void weigh(const float* weights, At values, int64_t count, int64_t column, float* out) {
    Floats totals[VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < VECTORS; i++) totals[i] = zeros();
    for (int64_t slot = 0; slot < count; slot++) {
        Floats weight = broadcast(weights[slot]);
        const float* value = values(slot) + column;
#pragma GCC unroll 8
        for (int i = 0; i < VECTORS; i++)
            totals[i] = multiply_add(weight, load(value + i * LANES), totals[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < VECTORS; i++) store(out + column + i * LANES, totals[i]);
}

// out [size] = softmax(scale * query . keys) . values over so many slots; scores: room for them.
template <class At>
inline void attend(const float* query, At keys, At values, int64_t count, int64_t size, float scale, float* scores,
                   float* out) {
    dots(query, keys, count, size, scores);
    float total = exponentials(scores, count, scale);
    int64_t i = 0;
    for (; i + 8 * LANES <= size; i += 8 * LANES) weigh<8>(scores, values, count, i, out);
    for (; i + LANES <= size; i += LANES) weigh<1>(scores, values, count, i, out);
    for (; i < size; i++) {
        out[i] = 0;
        for (int64_t slot = 0; slot < count; slot++) out[i] = std::fma(scores[slot], values(slot)[i], out[i]);
    }
    for (i = 0; i < size; i++) out[i] /= total;
}

}  // namespace orthrus
