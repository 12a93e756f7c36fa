// A weight matrix [rows, columns] as it lies in memory, and the products of it that a pass is made of.
#pragma once

#include <cstdint>

namespace orthrus {

// As the GGUF format numbers its types of tensors.
enum Kind : int64_t { F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q8_0 = 8, Q4_K = 12, Q6_K = 14, BF16 = 30 };

constexpr int64_t TILE = 32;  // rows that are laid out together, and that a thread works on at a time

struct Matrix {
    int64_t kind;
    int64_t rows, columns;
    const uint8_t* data;  // rows as they are of F32, F16 and BF16; of blocks as `pack` lays them out
    const uint8_t* bias;  // [rows] or null
    int64_t bias_kind;    // F32, F16 or BF16

    int64_t tiles() const { return data ? (rows + TILE - 1) / TILE : 0; }
};

}  // namespace orthrus
