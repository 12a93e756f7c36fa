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

template <class Format, int ROWS, int TOKENS>
void dense_rows(const Matrix& matrix, int64_t first, int64_t last, const float* x, float* out, int64_t stride) {
    const auto* weights = (const typename Format::Number*)matrix.data;
    int64_t columns = matrix.columns, row = first;
    for (; row + ROWS <= last; row += ROWS)
        dense_piece<Format, ROWS, TOKENS>(weights + row * columns, x, columns, out + row, stride);
    for (; row < last; row++)
        dense_piece<Format, 1, TOKENS>(weights + row * columns, x, columns, out + row, stride);
}

// A tile's products with all tokens: out[token * stride + row].
template <class Format>
void dense_tile(const Matrix& matrix, int64_t tile, const Inputs& inputs, int64_t tokens, float* out, int64_t stride) {
    int64_t first = tile * TILE, last = std::min(first + TILE, matrix.rows), token = 0;
    for (; token + 4 <= tokens; token += 4)
        dense_rows<Format, 3, 4>(matrix, first, last, inputs.token(token), out + token * stride, stride);
    const float* x = inputs.token(token);
    float* to = out + token * stride;
    if (tokens - token == 3) dense_rows<Format, 4, 3>(matrix, first, last, x, to, stride);
    if (tokens - token == 2) dense_rows<Format, 4, 2>(matrix, first, last, x, to, stride);
    if (tokens - token == 1) dense_rows<Format, 8, 1>(matrix, first, last, x, to, stride);
}

template <class Format> void dense_row(const Matrix& matrix, int64_t row, float* out) {
    const auto* from = (const typename Format::Number*)matrix.data + row * matrix.columns;
    for (int64_t column = 0; column < matrix.columns; column++) out[column] = Format::widen(from[column]);
}

}  // namespace orthrus
