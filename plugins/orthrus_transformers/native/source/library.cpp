// What Python calls: plain functions and plain structures.

#include "decoder.h"

using namespace orthrus;

extern "C" {

int64_t orthrus_lanes() { return LANES; }

// Bytes that a matrix of blocks takes as it is laid out; 0: its kind is read in place or unknown.
int64_t orthrus_packed_bytes(int64_t kind, int64_t rows, int64_t columns) {
    int64_t bytes = 0, tiles = (rows + TILE - 1) / TILE;
    with_layout(kind, [&](auto layout) { bytes = tiles * tile_bytes<decltype(layout)>(columns); });
    return bytes;
}

void orthrus_pack(int64_t kind, int64_t rows, int64_t columns, const uint8_t* file, const int64_t* order, uint8_t* out) {
    with_layout(kind, [&](auto layout) { pack<decltype(layout)>(file, rows, columns, order, out); });
}

void orthrus_widen_row(const Matrix* matrix, int64_t row, float* out) { widen_row(*matrix, row, out); }

// out [tokens, rows] = x [tokens, columns] times the matrix transposed: for tests and measurements.
void orthrus_multiply(const Matrix* matrix, const float* x, int64_t tokens, int64_t rounded, float* out) {
    Room room, products_room;
    float* products = products_room.hold(tokens * TILE);
    Inputs inputs = inputs_in(room, tokens, matrix->columns);
    inputs.rounded = rounded;
    std::memcpy(inputs.values, x, tokens * matrix->columns * sizeof(float));
    for (int64_t token = 0; token < tokens; token++) inputs.prepare(token);
    for (int64_t tile = 0; tile < matrix->tiles(); tile++) {
        multiply_tile(*matrix, tile, inputs, tokens, products);
        int64_t first = tile * TILE, rows = std::min(TILE, matrix->rows - first);
        for (int64_t token = 0; token < tokens; token++)
            std::memcpy(out + token * matrix->rows + first, &products[token * TILE], rows * sizeof(float));
    }
}

void* orthrus_new_decoder(const Model* model, int64_t threads) { return new Decoder(*model, int(threads)); }

void orthrus_delete_decoder(void* decoder) { delete static_cast<Decoder*>(decoder); }

void orthrus_run(void* decoder, const Pass* pass) { static_cast<Decoder*>(decoder)->run(*pass); }

}  // extern "C"
