// A pass of a decoder of the Llama kind over some rows, from token ids to logits.
//
// All members of the team run `run`; the tokens, heads and tiles of each step are shared among them. Nothing is
// allocated within a pass: `make_room` does it before, where a pass is larger than all before it.
#pragma once

#include "attention.h"
#include "products.h"
#include "small_operations.h"
#include "team.h"

namespace orthrus {

struct Layer {
    Matrix query, key, value, output, gate, up, down;
    Matrix attention_norm, mlp_norm;         // [1, hidden]
    Matrix query_norm, key_norm;             // [1, head_size], or without data
    int64_t window;                          // keys that a query sees, its own among them; 0: all
};

struct Model {
    int64_t hidden, inner, heads, key_heads, head_size, vocabulary;
    float epsilon, scale;
    Matrix embedding, head, norm;
};

struct Pass {
    const Layer* layers;
    int64_t layer_count, rows, width;
    const int64_t *tokens, *slots, *positions;  // [rows, width]
    const int64_t *row_numbers, *lengths;       // [rows]: of the cache; committed before the pass, of a tree
    const int64_t* paths;                       // [rows, width, width] of a tree: each token's path of slots; else null
    const int64_t* ends;                        // [rows, width] of blocks with paths: the last position that each sees
    int64_t block;                              // whether queries see all of their block
    int64_t first_projected, projected;         // columns
    float* logits;                              // [rows, projected, vocabulary]
    float *const *keys, *const *values;         // of each layer [row, head, slot, head_size]
    int64_t row_stride, head_stride, slots_held;
    const float *cosine, *sine;  // [angles, head_size / 2]
    int64_t angles;
    float* const* taps;  // of each boundary of layers, and of the last norm: where states [tokens, tap_stride] go, or null
    int64_t tap_stride;
    int64_t rounded;     // whether products by 4-bit blocks may round their inputs: of passes that only propose
    const Matrix* head;  // of this pass; null: the model's
};

class Decoder {
  public:
    Decoder(const Model& model, int threads) : model_(model), team_(threads) {}

    void run(const Pass& pass) {
        make_room(pass.rows * pass.width, pass.slots_held);
        normed_.rounded = seen_.rounded = gated_.rounded = pass.rounded;
        team_.run([&] { run_together(pass); });
    }

  private:
    void make_room(int64_t tokens, int64_t slots);
    void run_together(const Pass& pass);
    void tap(const Pass& pass, int64_t boundary, const float* states, int64_t index);
    void attend_layer(const Pass& pass, const Layer& layer, int64_t index);
    void gate_layer(const Pass& pass, const Layer& layer);
    void project(const Pass& pass);
    void norm(const Pass& pass, const Matrix& weight, int64_t boundary);
    void prepare(const Inputs& inputs, int64_t tokens);
    void place(const Pass& pass, const Layer& layer, int64_t index, int64_t token);
    void attend_head(const Pass& pass, const Layer& layer, int64_t index, int64_t task);
    template <class Use> void products(const Matrix* const (&matrices)[3], const Inputs& inputs, int64_t tokens, Use&& use);

    int64_t query_size() const { return model_.heads * model_.head_size; }
    int64_t key_size() const { return model_.key_heads * model_.head_size; }
    int64_t joined_size() const { return query_size() + 2 * key_size(); }
    int64_t piece(int64_t tiles) const { return tiles / (8 * team_.size()) + 1; }

    Model model_;
    Team team_;
    int64_t tokens_held_ = 0, slots_held_ = 0;
    Room states_room_, joined_room_, normed_room_, seen_room_, gated_room_;
    float *states_ = nullptr, *joined_ = nullptr;  // [tokens, hidden]; [tokens, joined_size]: queries, keys, values
    Inputs normed_{}, seen_{}, gated_{};  // of the products: after a norm, after attention, after the gate
};

// Memory of a member of the team, as it is.
inline float* own_room(int which, int64_t size) {
    static thread_local Room rooms[4];
    return rooms[which].hold(size);
}

// A vector in float32: where it lies, or widened in this member's memory until it asks for another.
inline const float* widened(const Matrix& vector) {
    if (vector.kind == F32) return (const float*)vector.data;
    float* values = own_room(3, vector.columns);
    widen_row(vector, 0, values);
    return values;
}

inline void add_bias(const Matrix& matrix, int64_t first, int64_t rows, int64_t tokens, float* out) {
    if (!matrix.bias) return;
    float bias[TILE];
    with_dense_format(matrix.bias_kind, [&](auto format) {
        using Format = decltype(format);
        const auto* from = (const typename Format::Number*)matrix.bias + first;
        for (int64_t row = 0; row < rows; row++) bias[row] = Format::widen(from[row]);
    });
    for (int64_t token = 0; token < tokens; token++)
        for (int64_t row = 0; row < rows; row++) out[token * TILE + row] += bias[row];
}

inline Inputs inputs_in(Room& room, int64_t tokens, int64_t columns) {
    float* values = room.hold(tokens * (2 * columns + columns / BLOCK));
    return {values, values + tokens * columns, values + 2 * tokens * columns, columns, false};
}

inline void Decoder::make_room(int64_t tokens, int64_t slots) {
    slots_held_ = std::max(slots_held_, slots);
    if (tokens <= tokens_held_) return;
    tokens_held_ = tokens;
    states_ = states_room_.hold(tokens * model_.hidden);
    joined_ = joined_room_.hold(tokens * joined_size());
    normed_ = inputs_in(normed_room_, tokens, model_.hidden);
    seen_ = inputs_in(seen_room_, tokens, query_size());
    gated_ = inputs_in(gated_room_, tokens, model_.inner);
}

inline void Decoder::run_together(const Pass& pass) {
    int64_t tokens = pass.rows * pass.width;
    team_.share(tokens, 1, [&](int64_t token) {
        widen_row(model_.embedding, pass.tokens[token], &states_[token * model_.hidden]);
    });
    for (int64_t index = 0; index < pass.layer_count; index++) {
        norm(pass, pass.layers[index].attention_norm, index);
        attend_layer(pass, pass.layers[index], index);
        norm(pass, pass.layers[index].mlp_norm, -1);
        gate_layer(pass, pass.layers[index]);
    }
    project(pass);
}

inline void Decoder::tap(const Pass& pass, int64_t boundary, const float* states, int64_t index) {
    if (boundary < 0 || !pass.taps || !pass.taps[boundary]) return;
    std::memcpy(pass.taps[boundary] + index * pass.tap_stride, states, model_.hidden * sizeof(float));
}

inline void Decoder::norm(const Pass& pass, const Matrix& weight, int64_t boundary) {
    const float* factors = widened(weight);
    team_.share(pass.rows * pass.width, 1, [&](int64_t token) {
        const float* states = &states_[token * model_.hidden];
        tap(pass, boundary, states, token);
        rms_norm(states, factors, model_.hidden, model_.epsilon, normed_.values + token * model_.hidden);
        normed_.prepare(token);
    });
}

// Let `use` take each tile's products [tokens, TILE] of up to three matrices: use(which, tile, first row, rows, products).
template <class Use>
void Decoder::products(const Matrix* const (&matrices)[3], const Inputs& inputs, int64_t tokens, Use&& use) {
    int64_t ends[3], total = 0;
    for (int i = 0; i < 3; i++) ends[i] = total += matrices[i] ? matrices[i]->tiles() : 0;
    team_.share(total, piece(total), [&](int64_t task) {
        int which = task < ends[0] ? 0 : task < ends[1] ? 1 : 2;
        const Matrix& matrix = *matrices[which];
        int64_t tile = task - (which ? ends[which - 1] : 0), first = tile * TILE;
        int64_t rows = std::min(TILE, matrix.rows - first);
        float* out = own_room(0, tokens * TILE);
        multiply_tile(matrix, tile, inputs, tokens, out);
        add_bias(matrix, first, rows, tokens, out);
        use(which, first, rows, out);
    });
}

inline void Decoder::attend_layer(const Pass& pass, const Layer& layer, int64_t index) {
    int64_t tokens = pass.rows * pass.width;
    const int64_t starts[3] = {0, query_size(), query_size() + key_size()};
    products({&layer.query, &layer.key, &layer.value}, normed_, tokens, [&](int which, int64_t first, int64_t rows, float* out) {
        for (int64_t token = 0; token < tokens; token++)
            std::memcpy(&joined_[token * joined_size() + starts[which] + first], out + token * TILE, rows * sizeof(float));
    });
    team_.share(tokens, 1, [&](int64_t token) { place(pass, layer, index, token); });
    team_.share(tokens * model_.heads, 1, [&](int64_t task) { attend_head(pass, layer, index, task); });
    team_.share(tokens, 1, [&](int64_t token) { seen_.prepare(token); });
    products({&layer.output, nullptr, nullptr}, seen_, tokens, [&](int, int64_t first, int64_t rows, float* out) {
        for (int64_t token = 0; token < tokens; token++)
            for (int64_t row = 0; row < rows; row++)
                states_[token * model_.hidden + first + row] += out[token * TILE + row];
    });
}

// Give a token's heads their positions, and write its keys and values into the cache.
inline void Decoder::place(const Pass& pass, const Layer& layer, int64_t index, int64_t token) {
    int64_t size = model_.head_size, position = std::min(pass.positions[token], pass.angles - 1);
    const float *cosine = pass.cosine + position * size / 2, *sine = pass.sine + position * size / 2;
    float* joined = &joined_[token * joined_size()];
    int64_t at = pass.row_numbers[token / pass.width] * pass.row_stride + pass.slots[token] * size;
    for (int64_t head = 0; head < model_.heads + model_.key_heads; head++) {
        float* values = joined + head * size;
        const Matrix& weight = head < model_.heads ? layer.query_norm : layer.key_norm;
        if (weight.data) rms_norm(values, widened(weight), size, model_.epsilon, values);
        rotate(values, cosine, sine, size);
    }
    for (int64_t head = 0; head < model_.key_heads; head++) {
        const float *key = joined + query_size() + head * size, *value = key + key_size();
        std::memcpy(pass.keys[index] + at + head * pass.head_stride, key, size * sizeof(float));
        std::memcpy(pass.values[index] + at + head * pass.head_stride, value, size * sizeof(float));
    }
}

inline void Decoder::attend_head(const Pass& pass, const Layer& layer, int64_t index, int64_t task) {
    int64_t size = model_.head_size, token = task / model_.heads, head = task % model_.heads;
    int64_t row = token / pass.width, position = pass.positions[token];
    int64_t last = pass.block ? pass.positions[row * pass.width + pass.width - 1] : pass.ends ? pass.ends[token] : position;
    int64_t first = layer.window ? std::max<int64_t>(0, position - layer.window + 1) : 0;
    int64_t key_head = head / (model_.heads / model_.key_heads);
    int64_t at = pass.row_numbers[row] * pass.row_stride + key_head * pass.head_stride;
    const float *query = &joined_[token * joined_size() + head * size], *keys = pass.keys[index] + at, *values = pass.values[index] + at;
    float *scores = own_room(1, slots_held_ + LANES), *out = seen_.values + token * query_size() + head * size;
    if (pass.paths) {
        const int64_t *path = pass.paths + token * pass.width, committed = pass.lengths[row];
        attend(query, PathOfSlots{keys, size, first, committed, path}, PathOfSlots{values, size, first, committed, path},
               last + 1 - first, size, model_.scale, scores, out);
    } else {
        attend(query, Stretch{keys + first * size, size}, Stretch{values + first * size, size}, last + 1 - first, size,
               model_.scale, scores, out);
    }
}

inline void Decoder::gate_layer(const Pass& pass, const Layer& layer) {
    int64_t tokens = pass.rows * pass.width, tiles = layer.gate.tiles();
    team_.share(tiles, piece(tiles), [&](int64_t tile) {
        float *gates = own_room(0, tokens * TILE), *ups = own_room(2, tokens * TILE);
        multiply_tile(layer.gate, tile, normed_, tokens, gates);
        multiply_tile(layer.up, tile, normed_, tokens, ups);
        int64_t first = tile * TILE, rows = std::min(TILE, model_.inner - first);
        for (int64_t token = 0; token < tokens; token++) {
            float *gate = gates + token * TILE, *up = ups + token * TILE;
            for (int64_t row = 0; row < TILE; row += LANES) store(gate + row, gated(load(gate + row), load(up + row)));
            std::memcpy(gated_.values + token * model_.inner + first, gate, rows * sizeof(float));
        }
    });
    team_.share(tokens, 1, [&](int64_t token) { gated_.prepare(token); });
    products({&layer.down, nullptr, nullptr}, gated_, tokens, [&](int, int64_t first, int64_t rows, float* out) {
        for (int64_t token = 0; token < tokens; token++)
            for (int64_t row = 0; row < rows; row++)
                states_[token * model_.hidden + first + row] += out[token * TILE + row];
    });
}

// The last norm and the head, of the projected columns alone; their states move to the front.
inline void Decoder::project(const Pass& pass) {
    int64_t hidden = model_.hidden, final_tap = pass.layer_count + 1, count = pass.rows * pass.projected;
    const float* factors = widened(model_.norm);
    team_.share(pass.rows * pass.width, 1, [&](int64_t token) {
        float* states = &states_[token * hidden];
        tap(pass, pass.layer_count, states, token);
        rms_norm(states, factors, hidden, model_.epsilon, states);
        tap(pass, final_tap, states, token);
        int64_t column = token % pass.width - pass.first_projected;
        if (column < 0 || column >= pass.projected) return;
        int64_t index = token / pass.width * pass.projected + column;
        std::memcpy(normed_.values + index * hidden, states, hidden * sizeof(float));
        normed_.prepare(index);
    });
    products({pass.head ? pass.head : &model_.head, nullptr, nullptr}, normed_, count, [&](int, int64_t first, int64_t rows, float* out) {
        for (int64_t index = 0; index < count; index++)
            std::memcpy(pass.logits + index * model_.vocabulary + first, out + index * TILE, rows * sizeof(float));
    });
}

}  // namespace orthrus
