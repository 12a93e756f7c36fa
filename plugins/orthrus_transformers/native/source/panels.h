// Products of blocks with many tokens: a tile's rows are widened once into a panel, which all tokens meet.
//
// A number is multiplied by the same input, in the same order, as by the kernels for few tokens, so that a row of a pass
// has the same bits by either.
#pragma once

#include "blocks.h"

namespace orthrus {

constexpr int STRIP = 2;        // vectors of rows that a panel has side by side
constexpr int STRIP_TOKENS = 6;  // that meet a strip at a time: STRIP times as many sums stay in registers
constexpr int STRIP_ROWS = STRIP * LANES;
constexpr int CHUNK = 512;  // columns of a strip that stay nearest to the CPU while all tokens meet them

// One block of a strip: its even columns, then its odd ones, as the products take them; scales and minima.
template <class Layout> struct PanelBlock {
    float columns[2][Layout::COLUMNS / 2][STRIP_ROWS];
    float scales[STRIP_ROWS], minima[STRIP_ROWS];
};

template <class Layout, int AT> INLINE void widen_column(const Words (&words)[STRIP], PanelBlock<Layout>& block, int first) {
    for (int row = 0; row < STRIP; row++) {
        Floats weight = Layout::FROM_BYTES ? as_floats(signed_byte<AT & 3>(words[row])) : centred_nibble<AT>(words[row]);
        store(&block.columns[AT & 1][(first + AT) / 2][row * LANES], weight);
    }
}

template <class Layout> void widen_block(const uint8_t* tile, int64_t index, int strip, PanelBlock<Layout>& block) {
    constexpr int EACH = Layout::COLUMNS / Layout::WORDS;
    for (int word = 0; word < Layout::WORDS; word++) {
        Words words[STRIP];
        for (int row = 0; row < STRIP; row++)
            words[row] = load_words(Layout::words(tile, index) + word * TILE + strip * STRIP_ROWS + row * LANES);
        widen_column<Layout, 0>(words, block, word * EACH);
        widen_column<Layout, 1>(words, block, word * EACH);
        widen_column<Layout, 2>(words, block, word * EACH);
        widen_column<Layout, 3>(words, block, word * EACH);
        if constexpr (!Layout::FROM_BYTES) {
            widen_column<Layout, 4>(words, block, word * EACH);
            widen_column<Layout, 5>(words, block, word * EACH);
            widen_column<Layout, 6>(words, block, word * EACH);
            widen_column<Layout, 7>(words, block, word * EACH);
        }
    }
    for (int row = 0; row < STRIP_ROWS; row += LANES) {
        store(block.scales + row, Layout::scale(tile, index, strip * STRIP_ROWS + row));
        store(block.minima + row, Layout::minimum(tile, index, strip * STRIP_ROWS + row));
    }
}

// Sums of a block's even (PARITY 0) or odd columns with TOKENS tokens.
template <class Layout, int PARITY, int TOKENS>
INLINE void panel_sums(const PanelBlock<Layout>& block, const float* const (&x)[TOKENS], Floats (&sums)[STRIP][TOKENS]) {
#pragma GCC unroll 2
    for (int row = 0; row < STRIP; row++)
#pragma GCC unroll 8
        for (int token = 0; token < TOKENS; token++) sums[row][token] = zeros();
#pragma GCC unroll 4
    for (int column = 0; column < Layout::COLUMNS / 2; column++) {
        Floats weights[STRIP];
#pragma GCC unroll 2
        for (int row = 0; row < STRIP; row++) weights[row] = load(&block.columns[PARITY][column][row * LANES]);
#pragma GCC unroll 8
        for (int token = 0; token < TOKENS; token++) {
            Floats input = broadcast(x[token][2 * column + PARITY]);
#pragma GCC unroll 2
            for (int row = 0; row < STRIP; row++) sums[row][token] = multiply_add(weights[row], input, sums[row][token]);
        }
    }
}

// Add the products of so many blocks of a strip, from block `first` of the columns on, to totals out[token * stride + row].
template <class Layout, int TOKENS>
void panel_piece(const PanelBlock<Layout>* blocks, int64_t first, int64_t count, const Inputs& inputs, int64_t token,
                 float* out, int64_t stride) {
    const float *x[TOKENS], *x_sums[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        x[i] = (Layout::FROM_BYTES ? inputs.token(token + i) : inputs.scaled_token(token + i)) + first * Layout::COLUMNS;
        x_sums[i] = inputs.token_sums(token + i);
    }
    for (int64_t index = 0; index < count; index++) {
        const PanelBlock<Layout>& block = blocks[index];
        Floats even[STRIP][TOKENS], odd[STRIP][TOKENS];
        alignas(64) float kept[STRIP][TOKENS][LANES];
        panel_sums<Layout, 0>(block, x, even);
#pragma GCC unroll 2
        for (int row = 0; row < STRIP; row++)
#pragma GCC unroll 8
            for (int i = 0; i < TOKENS; i++) store(kept[row][i], even[row][i]);
        asm volatile("" ::: "memory");  // the registers are needed for the odd columns
        panel_sums<Layout, 1>(block, x, odd);
        bool begins = first + index == 0;
#pragma GCC unroll 2
        for (int row = 0; row < STRIP; row++) {
            Floats scale = load(block.scales + row * LANES), minimum = load(block.minima + row * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < TOKENS; i++) {
                float* total = out + i * stride + row * LANES;
                Floats sum = add(load(kept[row][i]), odd[row][i]);
                store(total, with_block<Layout>(begins ? zeros() : load(total), scale, sum, minimum, x_sums[i], first + index));
            }
        }
        for (int i = 0; i < TOKENS; i++) x[i] += Layout::COLUMNS;
    }
}

// Add the products of a chunk of a strip to the totals of all tokens.
template <class Layout>
void panel_chunk(const PanelBlock<Layout>* blocks, int64_t first, int64_t count, const Inputs& inputs, int64_t tokens,
                 float* out, int64_t stride) {
    int64_t token = 0;
    for (; token + STRIP_TOKENS <= tokens; token += STRIP_TOKENS)
        panel_piece<Layout, STRIP_TOKENS>(blocks, first, count, inputs, token, out + token * stride, stride);
    if (tokens - token >= 4) {
        panel_piece<Layout, 4>(blocks, first, count, inputs, token, out + token * stride, stride);
        token += 4;
    }
    if (tokens - token >= 2) {
        panel_piece<Layout, 2>(blocks, first, count, inputs, token, out + token * stride, stride);
        token += 2;
    }
    if (token < tokens) panel_piece<Layout, 1>(blocks, first, count, inputs, token, out + token * stride, stride);
}

// A whole tile's products with all tokens: out[token * stride + row of the tile].
template <class Layout>
void panel_tile(const uint8_t* tile, const Inputs& inputs, int64_t tokens, float* out, int64_t stride) {
    constexpr int64_t BLOCKS = CHUNK / Layout::COLUMNS;
    alignas(64) PanelBlock<Layout> panel[BLOCKS];
    int64_t blocks = inputs.columns / Layout::COLUMNS;
    for (int strip = 0; strip < TILE / STRIP_ROWS; strip++)
        for (int64_t first = 0; first < blocks; first += BLOCKS) {
            int64_t count = std::min(BLOCKS, blocks - first);
            for (int64_t index = 0; index < count; index++) widen_block<Layout>(tile, first + index, strip, panel[index]);
            panel_chunk<Layout>(panel, first, count, inputs, tokens, out + strip * STRIP_ROWS, stride);
        }
}

}  // namespace orthrus
