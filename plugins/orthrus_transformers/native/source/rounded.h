// Products of 4-bit blocks with inputs that are rounded to 8 bits, in whole numbers: for passes whose logits only propose
// tokens. They take a fraction of the operations that float32 does, and their sums are of the rounded inputs.
//
// A block's products are exact; blocks are added up in float32, in their order. So here, too, a row's bits do not depend
// on what stands beside it.
#pragma once

#include "blocks.h"

namespace orthrus {

// Products of all rows of a tile with TOKENS tokens: out[token * stride + row]. What is read of an input meets all rows.
template <class Layout, int TOKENS>
void rounded_groups(const uint8_t* tile, const Inputs& inputs, int64_t token, float* out, int64_t stride) {
    constexpr int ROWS = GROUPS;
    static_assert(!Layout::FROM_BYTES && Layout::COLUMNS == BLOCK);  // 32 products of 15 times 127 fit 16 bits in pairs
    Floats totals[ROWS][TOKENS];
    const RoundedBlock* x[TOKENS];
    const float* x_sums[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        x[i] = inputs.rounded_token(token + i);
        x_sums[i] = inputs.token_sums(token + i);
        for (int row = 0; row < ROWS; row++) totals[row][i] = zeros();
    }
    for (int64_t block = 0; block < inputs.columns / BLOCK; block++) {
        Words sums[ROWS][TOKENS];
        const uint32_t* words = Layout::words(tile, block);
        if (token == 0) fetch_next<Layout, ROWS>(tile, inputs.columns, block, 0);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 8
            for (int i = 0; i < TOKENS; i++) sums[row][i] = no_pairs();
#pragma GCC unroll 1  // else the compiler multiplies everything first, for which there are no registers
        for (int word = 0; word < Layout::WORDS; word++) {
            Words lower[ROWS], upper[ROWS];
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; row++) {
                Words both = load_words(words + word * TILE + row * LANES);
                lower[row] = lower_nibbles(both);
                upper[row] = upper_nibbles(both);
            }
#pragma GCC unroll 8
            for (int i = 0; i < TOKENS; i++) {
                const int8_t* columns = x[i][block].numbers + word * 8;
                Words even = broadcast_word(columns), odd = broadcast_word(columns + 4);
#pragma GCC unroll 8
                for (int row = 0; row < ROWS; row++)
                    sums[row][i] = add_pairs(add_pairs(sums[row][i], lower[row], even), upper[row], odd);
            }
        }
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            Floats scale = Layout::scale(tile, block, row * LANES);
            Floats minimum = Layout::minimum(tile, block, row * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < TOKENS; i++) {
                const RoundedBlock& inputs_here = x[i][block];
                Floats sum = multiply_add(pair_sums(sums[row][i]), broadcast(inputs_here.scale), broadcast(inputs_here.centre));
                totals[row][i] = with_block<Layout>(totals[row][i], scale, sum, minimum, x_sums[i], block);
            }
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < TOKENS; i++) store(out + i * stride + row * LANES, totals[row][i]);
}

// A whole tile's products with all tokens: out[token * stride + row of the tile].
template <class Layout>
void rounded_tile(const uint8_t* tile, const Inputs& inputs, int64_t tokens, float* out, int64_t stride) {
    int64_t token = 0;
    for (; token + 4 <= tokens; token += 4) rounded_groups<Layout, 4>(tile, inputs, token, out + token * stride, stride);
    float* to = out + token * stride;
    if (tokens - token == 3) rounded_groups<Layout, 3>(tile, inputs, token, to, stride);
    if (tokens - token == 2) rounded_groups<Layout, 2>(tile, inputs, token, to, stride);
    if (tokens - token == 1) rounded_groups<Layout, 1>(tile, inputs, token, to, stride);
}

}  // namespace orthrus
