// Products of float32, float16 and bfloat16 matrices, read in place. Lanes are columns; sums are float32.
//
// The sum of an output: lane i adds up columns i, i + LANES, ... in turn; then the lanes are added up. It is the same
// whatever stands beside it, so a row of a pass has its bits whatever the other rows are.
#pragma once

#include <algorithm>

#include "inputs.h"
#include "matrix.h"

namespace orthrus {

struct SinglePrecision {
    typedef float Number;
    static INLINE Floats read(const Number* from) { return load(from); }
    static INLINE float widen(Number value) { return value; }
};

struct HalfPrecision {
    typedef uint16_t Number;
    static INLINE Floats read(const Number* from) { return load_halves(from); }
    static INLINE float widen(Number value) { return half_to_float(value); }
};

struct BrainFloat {
    typedef uint16_t Number;
    static INLINE Floats read(const Number* from) { return load_brains(from); }
    static INLINE float widen(Number value) { return brain_to_float(value); }
};

// Products of ROWS rows from `weights` on with TOKENS tokens: out[token * stride + row].
template <class Format, int ROWS, int TOKENS>
void dense_piece(const typename Format::Number* weights, const float* x, int64_t columns, float* out, int64_t stride) {
    Floats sums[ROWS][TOKENS];
    for (int row = 0; row < ROWS; row++)
        for (int token = 0; token < TOKENS; token++) sums[row][token] = zeros();
    int64_t whole = columns / LANES * LANES;
    for (int64_t column = 0; column < whole; column += LANES) {
        Floats inputs[TOKENS];
#pragma GCC unroll 8
        for (int token = 0; token < TOKENS; token++) inputs[token] = load(x + token * columns + column);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            Floats weight = Format::read(weights + row * columns + column);
#pragma GCC unroll 8
            for (int token = 0; token < TOKENS; token++)
                sums[row][token] = multiply_add(weight, inputs[token], sums[row][token]);
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int token = 0; token < TOKENS; token++) {
            float total = sum(sums[row][token]);
            for (int64_t column = whole; column < columns; column++)
                total = std::fma(Format::widen(weights[row * columns + column]), x[token * columns + column], total);
            out[token * stride + row] = total;
        }
}

// Products of the rows from `first` up to `last`, ROWS at a time, with TOKENS tokens at a time.
template <class Format, int ROWS, int TOKENS>
void dense_rows(const Matrix& matrix, int64_t first, int64_t last, const Inputs& inputs, int64_t token, int64_t end,
                float* out, int64_t stride) {
    const auto* weights = (const typename Format::Number*)matrix.data;
    int64_t columns = matrix.columns, row = first;
    for (; row + ROWS <= last; row += ROWS)
        for (int64_t i = token; i < end; i += TOKENS)
            dense_piece<Format, ROWS, TOKENS>(weights + row * columns, inputs.token(i), columns, out + i * stride + row, stride);
    if constexpr (ROWS > 1) {
        constexpr int FEWER = ROWS == 3 ? 2 : ROWS / 2;
        dense_rows<Format, FEWER, TOKENS>(matrix, row, last, inputs, token, end, out, stride);
    }
}

constexpr int64_t NEAR_BYTES = 20 << 10;  // of inputs, which stay near the CPU while they meet all rows of a tile

// A tile's products with all tokens: out[token * stride + row].
template <class Format>
void dense_tile(const Matrix& matrix, int64_t tile, const Inputs& inputs, int64_t tokens, float* out, int64_t stride) {
    int64_t first = tile * TILE, last = std::min(first + TILE, matrix.rows), token = 0, fours = tokens / 4 * 4;
    int64_t near = std::max<int64_t>(1, NEAR_BYTES / (4 * matrix.columns * int64_t(sizeof(float)))) * 4;
    for (; token < fours; token += near)
        dense_rows<Format, 3, 4>(matrix, first, last, inputs, token, std::min(token + near, fours), out, stride);
    if (tokens - fours == 3) dense_rows<Format, 4, 3>(matrix, first, last, inputs, fours, tokens, out, stride);
    if (tokens - fours == 2) dense_rows<Format, 4, 2>(matrix, first, last, inputs, fours, tokens, out, stride);
    if (tokens - fours == 1) dense_rows<Format, 8, 1>(matrix, first, last, inputs, fours, tokens, out, stride);
}

template <class Format> void dense_row(const Matrix& matrix, int64_t row, float* out) {
    const auto* from = (const typename Format::Number*)matrix.data + row * matrix.columns;
    for (int64_t column = 0; column < matrix.columns; column++) out[column] = Format::widen(from[column]);
}

}  // namespace orthrus
