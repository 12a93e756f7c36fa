// The inputs of a product, x [tokens, columns], and what the kernels of blocks want beside them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "simd.h"

namespace orthrus {

// Memory for floats that begins where a line of the CPU's cache does, so that no vector lies in two lines.
class Room {
  public:
    Room() = default;
    ~Room() { std::free(floats_); }
    Room(const Room&) = delete;

    // Return room for so many floats; what was in it is lost when it grows.
    float* hold(int64_t count) {
        if (count > held_) {
            std::free(floats_);
            held_ = (count + LINE - 1) / LINE * LINE;
            floats_ = static_cast<float*>(std::aligned_alloc(LINE * sizeof(float), held_ * sizeof(float)));
            if (!floats_) throw std::bad_alloc();
        }
        return floats_;
    }

  private:
    static constexpr int64_t LINE = 16;  // floats
    float* floats_ = nullptr;
    int64_t held_ = 0;
};

constexpr int64_t BLOCK = 32;  // columns that share a scale in most block formats

// The factor that takes back the power of 16 by which a nibble of a word comes too large out of it.
inline float nibble_factor(int64_t column) {
    constexpr float FACTORS[8] = {1, 0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 1};
    return FACTORS[column % 8];
}

// A block of inputs in 8 bits: `scale` times the numbers. Those of eight columns lie as a word's nibbles come out of it,
// the even columns in front of the odd ones.
struct RoundedBlock {
    int8_t numbers[BLOCK];
    float scale, centre;  // centre: what is to be added to the products of numbers that are CENTRE too large
};

constexpr float CENTRE = 8;  // what is taken from a number from 0 to 15, see blocks.h
constexpr float MOST = 127;  // of a rounded input

inline void round_block(const float* x, RoundedBlock& out) {
    Floats largest_sizes = zeros();
    for (int64_t i = 0; i < BLOCK; i += LANES) {
        Floats values = load(x + i);
        largest_sizes = maximum(largest_sizes, maximum(values, multiply(values, broadcast(-1.0f))));
    }
    float size = largest(largest_sizes), numbers[BLOCK], factor = size > 1e-30f ? MOST / size : 0;
    int total = 0;
    for (int64_t i = 0; i < BLOCK; i += LANES) store(numbers + i, nearest(multiply(load(x + i), broadcast(factor))));
    for (int64_t i = 0; i < BLOCK; i++) {
        int number = int(numbers[i]);
        out.numbers[i / 8 * 8 + i % 2 * 4 + i % 8 / 2] = int8_t(number);
        total += number;
    }
    out.scale = size / MOST;
    out.centre = -CENTRE * out.scale * float(total);
}

struct Inputs {
    float* values;   // [tokens, columns]
    float* scaled;   // [tokens, columns], by nibble_factor; or, where they are rounded, the rounded blocks
    float* sums;     // [tokens, columns / BLOCK], of each block's values
    int64_t columns;
    bool rounded;    // whether products by 4-bit blocks take inputs in 8 bits: see rounded.h

    const float* token(int64_t index) const { return values + index * columns; }
    const float* scaled_token(int64_t index) const { return scaled + index * columns; }
    const float* token_sums(int64_t index) const { return sums + index * (columns / BLOCK); }
    const RoundedBlock* rounded_token(int64_t index) const { return (const RoundedBlock*)scaled_token(index); }

    // Work out the rest from one token's values.
    void prepare(int64_t index) const {
        const float* x = token(index);
        float* out = scaled + index * columns;
        float* out_sums = sums + index * (columns / BLOCK);
        if (!rounded)
            for (int64_t column = 0; column < columns; column++) out[column] = x[column] * nibble_factor(column);
        for (int64_t block = 0; block < columns / BLOCK; block++) {
            Floats total = zeros();
            for (int64_t i = 0; i < BLOCK; i += LANES) total = add(total, load(x + block * BLOCK + i));
            out_sums[block] = sum(total);
            if (rounded) round_block(x + block * BLOCK, ((RoundedBlock*)out)[block]);
        }
    }
};

}  // namespace orthrus
