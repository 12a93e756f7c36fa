// Rows of blocks as GGUF files have them, put where the products want them.
//
// The formats: Q4_0, Q4_1 and Q8_0 have 32 columns in a block; of a block's 16 bytes of nibbles, byte i holds column i
// below and column i + 16 above. Q4_K and Q6_K have 256 columns in a block, whose parts have scales of their own.
#pragma once

#include "blocks.h"

namespace orthrus {

inline void put_half(uint8_t* to, int64_t row, const uint8_t* half) { std::memcpy(to + row * 2, half, 2); }

// Put one number of a row into its word; bits: 4 or 8.
inline void put_number(uint32_t* words, int64_t row, int column, int bits, uint32_t number) {
    int each = 32 / bits;
    words[column / each * TILE + row] |= number << column % each * bits;
}

inline void put_nibbles(uint32_t* words, int64_t row, const uint8_t* bytes) {
    for (int i = 0; i < 16; i++) {
        put_number(words, row, i, 4, bytes[i] & 15);
        put_number(words, row, i + 16, 4, bytes[i] >> 4);
    }
}

inline void LayoutQ4_1::pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row) {
    put_half(tile + index * BYTES, row, file);
    put_half(tile + index * BYTES + TILE * 2, row, file + 2);
    put_nibbles((uint32_t*)words(tile, index), row, file + 4);
}

inline void LayoutQ4_0::pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row) {
    put_half(tile + index * BYTES, row, file);
    put_nibbles((uint32_t*)words(tile, index), row, file + 2);
}

inline void LayoutQ8_0::pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row) {
    put_half(tile + index * BYTES, row, file);
    for (int i = 0; i < 32; i++) put_number((uint32_t*)words(tile, index), row, i, 8, file[2 + i]);
}

// d, dmin, 12 bytes of eight 6-bit scales and minima, 128 bytes of nibbles: 32 bytes for two parts, one below the other.
inline void LayoutQ4_K::pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row) {
    uint8_t* base = tile + index * BYTES;
    put_half(base, row, file);
    put_half(base + TILE * 2, row, file + 2);
    const uint8_t* packed = file + 4;
    for (int part = 0; part < SUPER; part++) {
        uint8_t scale = packed[part & 3] & 63, least = packed[4 + (part & 3)] & 63;
        if (part >= 4) {
            scale = (packed[4 + part] & 15) | (packed[part - 4] >> 6) << 4;
            least = packed[4 + part] >> 4 | (packed[part] >> 6) << 4;
        }
        uint8_t* to = base + HEADER + part * PART;
        to[row] = scale;
        to[TILE + row] = least;
        for (int i = 0; i < 32; i++) {
            uint8_t both = file[16 + part / 2 * 32 + i];
            put_number((uint32_t*)(to + 2 * TILE), row, i, 4, part % 2 ? both >> 4 : both & 15);
        }
    }
}

// 128 bytes of lower nibbles, 64 of the two bits above them, 16 signed scales, d; 128 columns are laid out alike.
inline void LayoutQ6_K::pack_row(const uint8_t* file, uint8_t* tile, int64_t index, int64_t row) {
    uint8_t* base = tile + index * BYTES;
    put_half(base, row, file + 208);
    for (int column = 0; column < 256; column++) {
        int half = column / 128, quarter = column % 128 / 32, i = column % 32;
        uint8_t low = file[half * 64 + quarter % 2 * 32 + i];
        uint8_t high = file[128 + half * 32 + i] >> quarter * 2 & 3;
        int number = ((quarter / 2 ? low >> 4 : low & 15) | high << 4) - 32;
        uint8_t* to = base + HEADER + column / COLUMNS * PART;
        put_number((uint32_t*)(to + TILE), row, column % COLUMNS, 8, uint8_t(int8_t(number)));
    }
    for (int part = 0; part < SUPER; part++) base[HEADER + part * PART + row] = file[192 + part];
}

// Lay out all rows of a matrix; order [rows] (or null): which row of the file each is. out is zeros before.
template <class Layout>
void pack(const uint8_t* file, int64_t rows, int64_t columns, const int64_t* order, uint8_t* out) {
    int64_t count = columns / (Layout::COLUMNS * Layout::SUPER);  // headers a row
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t* from = file + (order ? order[row] : row) * count * Layout::FILE_BYTES;
        uint8_t* tile = out + row / TILE * tile_bytes<Layout>(columns);
        for (int64_t index = 0; index < count; index++)
            Layout::pack_row(from + index * Layout::FILE_BYTES, tile, index, row % TILE);
    }
}

}  // namespace orthrus
