// Products of matrices in GGUF's blocks, which are widened in registers. Lanes are rows; sums are float32.
//
// Blocks are laid out anew when a model is loaded, in tiles of 32 rows: all that the rows have of some columns lies
// together, so that one load gives a word of each of several rows, and no sum goes across lanes. A word holds eight
// 4-bit or four 8-bit numbers of one row. What masks cut out of it is the number times a power of two; that is exact,
// and is taken back by inputs that are scaled once (nibbles) or by the block's scale (bytes).
//
// The sum of an output: the even and the odd columns of a block in turn, their sum times the block's scale, block after
// block. It is the same whatever stands beside it, so a row of a pass has its bits whatever the other rows are.
#pragma once

#include <algorithm>
#include <cstring>

#include "inputs.h"
#include "matrix.h"

namespace orthrus {

constexpr int GROUPS = TILE / LANES;  // vectors that the rows of a tile are
constexpr float BYTE_FACTOR = 0x1p-24f;

// A number from 0 to 15 less CENTRE, times 16^AT. Numbers of both signs keep sums small, and with them their rounding.
template <int AT> INLINE Floats centred_nibble(Words words) {
    constexpr float TIMES = AT == 7 ? 1 : float(1 << 4 * (AT % 7));
    return add(as_floats(nibble<AT>(words)), broadcast(-CENTRE * TIMES));
}

// One column of ROWS rows with all tokens, added to sums[row][token].
template <bool FROM_BYTES, int AT, int ROWS, int TOKENS>
INLINE void add_column(const Words (&words)[ROWS], const float* const (&x)[TOKENS], int64_t column,
                       Floats (&sums)[ROWS][TOKENS]) {
    Floats weights[ROWS];
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row++)
        weights[row] = FROM_BYTES ? as_floats(signed_byte<AT & 3>(words[row])) : centred_nibble<AT>(words[row]);
#pragma GCC unroll 8
    for (int token = 0; token < TOKENS; token++) {
        Floats input = broadcast(x[token][column + AT]);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) sums[row][token] = multiply_add(weights[row], input, sums[row][token]);
    }
}

// The columns of one word of each row, the even ones, the odd ones or both in turn.
template <bool FROM_BYTES, bool EVEN, bool ODD, int ROWS, int TOKENS>
INLINE void add_word(const uint32_t* data, const float* const (&x)[TOKENS], int64_t column, Floats (&even)[ROWS][TOKENS],
                     Floats (&odd)[ROWS][TOKENS]) {
    Words words[ROWS];
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row++) words[row] = load_words(data + row * LANES);
    if constexpr (EVEN) add_column<FROM_BYTES, 0>(words, x, column, even);
    if constexpr (ODD) add_column<FROM_BYTES, 1>(words, x, column, odd);
    if constexpr (EVEN) add_column<FROM_BYTES, 2>(words, x, column, even);
    if constexpr (ODD) add_column<FROM_BYTES, 3>(words, x, column, odd);
    if constexpr (!FROM_BYTES) {
        if constexpr (EVEN) add_column<FROM_BYTES, 4>(words, x, column, even);
        if constexpr (ODD) add_column<FROM_BYTES, 5>(words, x, column, odd);
        if constexpr (EVEN) add_column<FROM_BYTES, 6>(words, x, column, even);
        if constexpr (ODD) add_column<FROM_BYTES, 7>(words, x, column, odd);
    }
}

template <int ROWS, int TOKENS> INLINE void clear(Floats (&sums)[ROWS][TOKENS]) {
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 8
        for (int token = 0; token < TOKENS; token++) sums[row][token] = zeros();
}

// Sums of COUNT words of each row, from `column` of the inputs on: sums[row][token]. Even and odd columns are added up
// apart: side by side, or where registers do not hold both (SPLIT) one after the other.
template <bool FROM_BYTES, bool SPLIT, int COUNT, int ROWS, int TOKENS>
INLINE void block_sums(const uint32_t* data, const float* const (&x)[TOKENS], int64_t column,
                       Floats (&sums)[ROWS][TOKENS]) {
    constexpr int EACH = FROM_BYTES ? 4 : 8;
    Floats even[ROWS][TOKENS], odd[ROWS][TOKENS];
    clear(even);
    if constexpr (!SPLIT) {
        clear(odd);
#pragma GCC unroll 8
        for (int index = 0; index < COUNT; index++)
            add_word<FROM_BYTES, true, true>(data + index * TILE, x, column + index * EACH, even, odd);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 8
            for (int token = 0; token < TOKENS; token++) sums[row][token] = add(even[row][token], odd[row][token]);
    } else {
        alignas(64) float kept[ROWS][TOKENS][LANES];
#pragma GCC unroll 8
        for (int index = 0; index < COUNT; index++)
            add_word<FROM_BYTES, true, false>(data + index * TILE, x, column + index * EACH, even, odd);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 8
            for (int token = 0; token < TOKENS; token++) store(kept[row][token], even[row][token]);
        asm volatile("" ::: "memory");  // the registers are needed for the odd columns
        clear(odd);
#pragma GCC unroll 8
        for (int index = 0; index < COUNT; index++)
            add_word<FROM_BYTES, false, true>(data + index * TILE, x, column + index * EACH, even, odd);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 8
            for (int token = 0; token < TOKENS; token++) sums[row][token] = add(load(kept[row][token]), odd[row][token]);
    }
}

// Each layout below describes one format. COLUMNS share a scale and are WORDS words a row; SUPER blocks share a header.
// `words` and the scales of block i of a tile are at an address that `tile` begins; `pack_row` puts one row of one
// header's blocks, as the file has it in FILE_BYTES, into its place of the tile.

struct LayoutQ4_1 {
    static constexpr bool FROM_BYTES = false, HAS_MINIMUM = true;
    static constexpr int COLUMNS = 32, WORDS = 4, SUPER = 1, FILE_BYTES = 20;
    static constexpr int64_t BYTES = WORDS * TILE * 4 + 2 * TILE * 2;  // of a tile's rows
    static INLINE const uint8_t* block(const uint8_t* tile, int64_t index) { return tile + index * BYTES; }
    static INLINE const uint32_t* words(const uint8_t* tile, int64_t index) {
        return (const uint32_t*)(block(tile, index) + 2 * TILE * 2);
    }
    static INLINE Floats scale(const uint8_t* tile, int64_t index, int lane) {
        return load_halves((const uint16_t*)block(tile, index) + lane);
    }
    static INLINE Floats minimum(const uint8_t* tile, int64_t index, int lane) {
        Floats least = load_halves((const uint16_t*)block(tile, index) + TILE + lane);
        return multiply_add(scale(tile, index, lane), broadcast(CENTRE), least);
    }
    static void pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row);
};

struct LayoutQ4_0 {
    static constexpr bool FROM_BYTES = false, HAS_MINIMUM = false;
    static constexpr int COLUMNS = 32, WORDS = 4, SUPER = 1, FILE_BYTES = 18;
    static constexpr int64_t BYTES = WORDS * TILE * 4 + TILE * 2;
    static INLINE const uint8_t* block(const uint8_t* tile, int64_t index) { return tile + index * BYTES; }
    static INLINE const uint32_t* words(const uint8_t* tile, int64_t index) {
        return (const uint32_t*)(block(tile, index) + TILE * 2);
    }
    static INLINE Floats scale(const uint8_t* tile, int64_t index, int lane) {
        return load_halves((const uint16_t*)block(tile, index) + lane);
    }
    static INLINE Floats minimum(const uint8_t*, int64_t, int) { return zeros(); }
    static void pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row);
};

struct LayoutQ8_0 {
    static constexpr bool FROM_BYTES = true, HAS_MINIMUM = false;
    static constexpr int COLUMNS = 32, WORDS = 8, SUPER = 1, FILE_BYTES = 34;
    static constexpr int64_t BYTES = WORDS * TILE * 4 + TILE * 2;
    static INLINE const uint8_t* block(const uint8_t* tile, int64_t index) { return tile + index * BYTES; }
    static INLINE const uint32_t* words(const uint8_t* tile, int64_t index) {
        return (const uint32_t*)(block(tile, index) + TILE * 2);
    }
    static INLINE Floats scale(const uint8_t* tile, int64_t index, int lane) {
        return multiply(load_halves((const uint16_t*)block(tile, index) + lane), broadcast(BYTE_FACTOR));
    }
    static INLINE Floats minimum(const uint8_t*, int64_t, int) { return zeros(); }
    static void pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row);
};

struct LayoutQ4_K {
    static constexpr bool FROM_BYTES = false, HAS_MINIMUM = true;
    static constexpr int COLUMNS = 32, WORDS = 4, SUPER = 8, FILE_BYTES = 144;
    static constexpr int64_t HEADER = 2 * TILE * 2, PART = 2 * TILE + WORDS * TILE * 4;
    static constexpr int64_t BYTES = HEADER + SUPER * PART;
    static INLINE const uint8_t* header(const uint8_t* tile, int64_t index) { return tile + index / SUPER * BYTES; }
    static INLINE const uint8_t* part(const uint8_t* tile, int64_t index) {
        return header(tile, index) + HEADER + index % SUPER * PART;
    }
    static INLINE const uint32_t* words(const uint8_t* tile, int64_t index) {
        return (const uint32_t*)(part(tile, index) + 2 * TILE);
    }
    static INLINE Floats scale(const uint8_t* tile, int64_t index, int lane) {
        return multiply(load_halves((const uint16_t*)header(tile, index) + lane), load_bytes(part(tile, index) + lane));
    }
    static INLINE Floats minimum(const uint8_t* tile, int64_t index, int lane) {
        Floats negative = multiply(load_bytes(part(tile, index) + TILE + lane), broadcast(-1.0f));
        Floats least = multiply(load_halves((const uint16_t*)header(tile, index) + TILE + lane), negative);
        return multiply_add(scale(tile, index, lane), broadcast(CENTRE), least);
    }
    static void pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row);
};

struct LayoutQ6_K {  // its 6-bit numbers as bytes
    static constexpr bool FROM_BYTES = true, HAS_MINIMUM = false;
    static constexpr int COLUMNS = 16, WORDS = 4, SUPER = 16, FILE_BYTES = 210;
    static constexpr int64_t HEADER = TILE * 2, PART = TILE + WORDS * TILE * 4;
    static constexpr int64_t BYTES = HEADER + SUPER * PART;
    static INLINE const uint8_t* header(const uint8_t* tile, int64_t index) { return tile + index / SUPER * BYTES; }
    static INLINE const uint8_t* part(const uint8_t* tile, int64_t index) {
        return header(tile, index) + HEADER + index % SUPER * PART;
    }
    static INLINE const uint32_t* words(const uint8_t* tile, int64_t index) {
        return (const uint32_t*)(part(tile, index) + TILE);
    }
    static INLINE Floats scale(const uint8_t* tile, int64_t index, int lane) {
        Floats factor = multiply(load_signed_bytes((const int8_t*)part(tile, index) + lane), broadcast(BYTE_FACTOR));
        return multiply(load_halves((const uint16_t*)header(tile, index) + lane), factor);
    }
    static INLINE Floats minimum(const uint8_t*, int64_t, int) { return zeros(); }
    static void pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row);
};

template <class Layout> int64_t tile_bytes(int64_t columns) {
    return columns / (Layout::COLUMNS * Layout::SUPER) * Layout::BYTES;
}

constexpr int64_t AHEAD = 4096;  // bytes: what is fetched from memory while others are multiplied

// Fetch from memory what follows while block `index` is multiplied: the next bytes where all of a tile's vectors of rows
// are, else this piece's share of the next tile, so that all of them wait for memory alike.
template <class Layout, int ROWS> INLINE void fetch_next(const uint8_t* tile, int64_t columns, int64_t index, int group) {
    constexpr int64_t BYTES = Layout::BYTES / Layout::SUPER, SHARE = BYTES * ROWS / GROUPS;
    int64_t distance = ROWS == GROUPS ? AHEAD : tile_bytes<Layout>(columns);
    const uint8_t* from = tile + distance + index * BYTES + group * (BYTES / GROUPS);
#pragma GCC unroll 20
    for (int64_t at = 0; at < SHARE; at += 64) __builtin_prefetch(from + at);
}

// A total with one more block: its scale times the sum of its products, and its minimum times the sum of its inputs.
template <class Layout>
INLINE Floats with_block(Floats total, Floats scale, Floats sum, Floats minimum, const float* input_sums, int64_t block) {
    if constexpr (Layout::HAS_MINIMUM)
        return add(total, multiply_add(scale, sum, multiply(minimum, broadcast(input_sums[block]))));
    else
        return multiply_add(scale, sum, total);
}

// Products of ROWS vectors of rows, from vector `group` of a tile on, with TOKENS tokens: out[token * stride + row].
template <class Layout, bool SPLIT, int ROWS, int TOKENS>
void block_piece(const uint8_t* tile, int group, const Inputs& inputs, int64_t token, float* out, int64_t stride) {
    Floats totals[ROWS][TOKENS];
    const float *x[TOKENS], *x_sums[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        x[i] = Layout::FROM_BYTES ? inputs.token(token + i) : inputs.scaled_token(token + i);
        x_sums[i] = inputs.token_sums(token + i);
        for (int row = 0; row < ROWS; row++) totals[row][i] = zeros();
    }
    for (int64_t block = 0; block < inputs.columns / Layout::COLUMNS; block++) {
        Floats sums[ROWS][TOKENS];
        const uint32_t* words = Layout::words(tile, block) + group * LANES;
        if (token == 0) fetch_next<Layout, ROWS>(tile, inputs.columns, block, group);
        block_sums<Layout::FROM_BYTES, SPLIT, Layout::WORDS>(words, x, block * Layout::COLUMNS, sums);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; row++) {
            Floats scale = Layout::scale(tile, block, (group + row) * LANES);
            Floats minimum = Layout::minimum(tile, block, (group + row) * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < TOKENS; i++)
                totals[row][i] = with_block<Layout>(totals[row][i], scale, sums[row][i], minimum, x_sums[i], block);
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < TOKENS; i++) store(out + i * stride + row * LANES, totals[row][i]);
}

template <class Layout, bool SPLIT, int ROWS, int TOKENS>
void block_groups(const uint8_t* tile, const Inputs& inputs, int64_t token, float* out, int64_t stride) {
    for (int group = 0; group < GROUPS; group += ROWS)
        block_piece<Layout, SPLIT, ROWS, TOKENS>(tile, group, inputs, token, out + group * LANES, stride);
}

constexpr int64_t PREFILL = 20;  // tokens from which on a tile is widened once for all of them: see panels.h

// How many of so many tokens meet a tile's rows first. What is left over should not be few: sums that wait for each
// other take as long as more of them would.
inline int64_t tokens_at_once(int64_t tokens) { return tokens == 7 || tokens == 8 || tokens == 10 ? 5 : std::min<int64_t>(tokens, 6); }

// A whole tile's products with all tokens: out[token * stride + row of the tile].
template <class Layout>
void block_tile(const uint8_t* tile, const Inputs& inputs, int64_t tokens, float* out, int64_t stride) {
    constexpr bool SPLIT = LANES == 8;  // of the narrow kinds there are 16 registers, of the wide one 32
    for (int64_t token = 0, count; token < tokens; token += count, out += count * stride) {
        count = tokens_at_once(tokens - token);
        if (count == 6) block_groups<Layout, SPLIT, 2, 6>(tile, inputs, token, out, stride);
        if (count == 5) block_groups<Layout, SPLIT, 2, 5>(tile, inputs, token, out, stride);
        if (count == 4) block_groups<Layout, SPLIT, 2, 4>(tile, inputs, token, out, stride);
        if (count == 3) block_groups<Layout, false, 2, 3>(tile, inputs, token, out, stride);
        if (count == 2) block_groups<Layout, SPLIT, GROUPS, 2>(tile, inputs, token, out, stride);
        if (count == 1) block_groups<Layout, false, GROUPS, 1>(tile, inputs, token, out, stride);
    }
}

// One row widened, out [columns]: each number once as its format defines it, rounded once to float32.
template <class Layout> void block_row(const Matrix& matrix, int64_t row, float* out) {
    const uint8_t* tile = matrix.data + row / TILE * tile_bytes<Layout>(matrix.columns);
    int64_t lane = row % TILE, vector = lane / LANES * LANES;
    for (int64_t block = 0; block < matrix.columns / Layout::COLUMNS; block++) {
        float scales[LANES], minima[LANES];
        store(scales, Layout::scale(tile, block, vector));
        store(minima, Layout::minimum(tile, block, vector));
        const uint32_t* words = Layout::words(tile, block) + lane;
        for (int column = 0; column < Layout::COLUMNS; column++) {
            constexpr int EACH = Layout::FROM_BYTES ? 4 : 8;
            uint32_t word = words[column / EACH * TILE];
            float number = Layout::FROM_BYTES ? float(int32_t(int8_t(word >> column % EACH * 8))) / BYTE_FACTOR
                                              : float(word >> column % EACH * 4 & 15) - CENTRE;
            out[block * Layout::COLUMNS + column] = number * scales[lane % LANES] + minima[lane % LANES];
        }
    }
}

}  // namespace orthrus
