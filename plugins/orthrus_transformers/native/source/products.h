// Products by a matrix of any kind: the choice of the kernel.
#pragma once

#include "dense.h"
#include "packing.h"
#include "panels.h"
#include "rounded.h"

namespace orthrus {

// Call `work` with an object of the layout of a kind of blocks; return false for another kind.
template <class Work> bool with_layout(int64_t kind, Work&& work) {
    switch (kind) {
        case Q4_0: work(LayoutQ4_0()); return true;
        case Q4_1: work(LayoutQ4_1()); return true;
        case Q8_0: work(LayoutQ8_0()); return true;
        case Q4_K: work(LayoutQ4_K()); return true;
        case Q6_K: work(LayoutQ6_K()); return true;
        default: return false;
    }
}

template <class Work> bool with_dense_format(int64_t kind, Work&& work) {
    switch (kind) {
        case F32: work(SinglePrecision()); return true;
        case F16: work(HalfPrecision()); return true;
        case BF16: work(BrainFloat()); return true;
        default: return false;
    }
}

// A tile's products with all tokens, out [tokens, TILE], without the bias. Rows beyond the matrix's last are not set.
inline void multiply_tile(const Matrix& matrix, int64_t tile, const Inputs& inputs, int64_t tokens, float* out) {
    with_layout(matrix.kind, [&](auto layout) {
        using Layout = decltype(layout);
        const uint8_t* data = matrix.data + tile * tile_bytes<Layout>(matrix.columns);
        if constexpr (!Layout::FROM_BYTES)
            if (inputs.rounded) return rounded_tile<Layout>(data, inputs, tokens, out, TILE);
        if (tokens < PREFILL) block_tile<Layout>(data, inputs, tokens, out, TILE);
        else panel_tile<Layout>(data, inputs, tokens, out, TILE);
    });
    with_dense_format(matrix.kind, [&](auto format) {
        dense_tile<decltype(format)>(matrix, tile, inputs, tokens, out - tile * TILE, TILE);
    });
}

// One row of a matrix in float32, out [columns].
inline void widen_row(const Matrix& matrix, int64_t row, float* out) {
    with_layout(matrix.kind, [&](auto layout) { block_row<decltype(layout)>(matrix, row, out); });
    with_dense_format(matrix.kind, [&](auto format) { dense_row<decltype(format)>(matrix, row, out); });
}

}  // namespace orthrus
