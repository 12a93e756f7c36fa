// Vectors of floats and of 32-bit words: AVX-512, AVX2 with FMA and F16C, or what the compiler makes of portable ones.
//
// A word may hold four bytes: `add_pairs` adds the products of two neighbouring ones to each of the two 16-bit sums of a
// word, and `pair_sums` adds the two up.
//
// Products and sums are written out as fused multiply-adds where the CPU has them, and the compiler may contract none
// by itself (-ffp-contract=off): else a sum would round differently in loops of different shapes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define INLINE inline __attribute__((always_inline))

namespace orthrus {

inline float half_to_float(uint16_t half) {
    uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 1023, bits;
    if (exponent == 31) {
        bits = sign | 0x7F800000 | fraction << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {  // a subnormal number: fraction times 2^-24, exactly
        float value = float(fraction) * 0x1p-24f;
        return sign ? -value : value;
    }
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float brain_to_float(uint16_t brain) {
    uint32_t bits = uint32_t(brain) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#if defined(__AVX512F__) && defined(__AVX512BW__)

constexpr int LANES = 16;
typedef __m512 Floats;
typedef __m512i Words;

INLINE Floats zeros() { return _mm512_setzero_ps(); }
INLINE Floats broadcast(float value) { return _mm512_set1_ps(value); }
INLINE Floats load(const float* from) { return _mm512_loadu_ps(from); }
INLINE void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
INLINE Floats minimum(Floats a, Floats b) { return _mm512_min_ps(a, b); }
INLINE Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
INLINE Floats nearest(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Floats load_halves(const uint16_t* from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from)); }
INLINE Floats load_brains(const uint16_t* from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16));
}
INLINE Floats load_bytes(const uint8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from)));
}
INLINE Floats load_signed_bytes(const int8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
}
INLINE Words load_words(const uint32_t* from) { return _mm512_loadu_si512(from); }
INLINE Floats as_floats(Words words) { return _mm512_cvtepi32_ps(words); }
template <int AT> INLINE Words nibble(Words words) {  // times 16^AT; the last one as it is
    if constexpr (AT == 7) return _mm512_srli_epi32(words, 28);
    else return _mm512_and_si512(words, _mm512_set1_epi32(0xF << (4 * AT)));
}
template <int AT> INLINE Words signed_byte(Words words) {  // times 2^24
    if constexpr (AT == 3) return _mm512_and_si512(words, _mm512_set1_epi32(0xFF000000));
    else return _mm512_and_si512(_mm512_slli_epi32(words, 24 - 8 * AT), _mm512_set1_epi32(0xFF000000));
}
INLINE Words lower_nibbles(Words words) { return _mm512_and_si512(words, _mm512_set1_epi32(0x0F0F0F0F)); }
INLINE Words upper_nibbles(Words words) { return lower_nibbles(_mm512_srli_epi32(words, 4)); }
INLINE Words broadcast_word(const int8_t* from) {
    int word;
    std::memcpy(&word, from, sizeof word);
    return _mm512_set1_epi32(word);
}
INLINE Words no_pairs() { return _mm512_setzero_si512(); }
INLINE Words add_pairs(Words sums, Words bytes, Words signed_bytes) {
    return _mm512_add_epi16(sums, _mm512_maddubs_epi16(bytes, signed_bytes));
}
INLINE Floats pair_sums(Words sums) {
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(sums, _mm512_set1_epi16(1)));
}
INLINE Floats power_of_two(Floats whole) {
    Words exponent = _mm512_add_epi32(_mm512_cvtps_epi32(whole), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

constexpr int LANES = 8;
typedef __m256 Floats;
typedef __m256i Words;

INLINE Floats zeros() { return _mm256_setzero_ps(); }
INLINE Floats broadcast(float value) { return _mm256_set1_ps(value); }
INLINE Floats load(const float* from) { return _mm256_loadu_ps(from); }
INLINE void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
INLINE Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
INLINE Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Floats maximum(Floats a, Floats b) { return _mm256_max_ps(a, b); }
INLINE Floats minimum(Floats a, Floats b) { return _mm256_min_ps(a, b); }
INLINE Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
INLINE Floats nearest(Floats a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Floats load_halves(const uint16_t* from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)); }
INLINE Floats load_brains(const uint16_t* from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from)), 16));
}
INLINE Floats load_bytes(const uint8_t* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from)));
}
INLINE Floats load_signed_bytes(const int8_t* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
}
INLINE Words load_words(const uint32_t* from) { return _mm256_loadu_si256((const __m256i*)from); }
INLINE Floats as_floats(Words words) { return _mm256_cvtepi32_ps(words); }
template <int AT> INLINE Words nibble(Words words) {  // times 16^AT; the last one as it is
    if constexpr (AT == 7) return _mm256_srli_epi32(words, 28);
    else return _mm256_and_si256(words, _mm256_set1_epi32(0xF << (4 * AT)));
}
template <int AT> INLINE Words signed_byte(Words words) {  // times 2^24
    if constexpr (AT == 3) return _mm256_and_si256(words, _mm256_set1_epi32(0xFF000000));
    const __m128i top = _mm_set_epi8(12 + AT, -1, -1, -1, 8 + AT, -1, -1, -1, 4 + AT, -1, -1, -1, AT, -1, -1, -1);
    return _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(top));
}
INLINE Words lower_nibbles(Words words) { return _mm256_and_si256(words, _mm256_set1_epi32(0x0F0F0F0F)); }
INLINE Words upper_nibbles(Words words) { return lower_nibbles(_mm256_srli_epi32(words, 4)); }
INLINE Words broadcast_word(const int8_t* from) { return _mm256_castps_si256(_mm256_broadcast_ss((const float*)from)); }
INLINE Words no_pairs() { return _mm256_setzero_si256(); }
INLINE Words add_pairs(Words sums, Words bytes, Words signed_bytes) {
    return _mm256_add_epi16(sums, _mm256_maddubs_epi16(bytes, signed_bytes));
}
INLINE Floats pair_sums(Words sums) {
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
}
INLINE Floats power_of_two(Floats whole) {
    Words exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

#else

constexpr int LANES = 8;
typedef float Floats __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
typedef int32_t SignedWords __attribute__((vector_size(32)));
typedef int16_t Pairs __attribute__((vector_size(32)));

INLINE Floats zeros() { return Floats{}; }
INLINE Floats broadcast(float value) { return Floats{} + value; }
INLINE Floats load(const float* from) { Floats values; std::memcpy(&values, from, sizeof values); return values; }
INLINE void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }
INLINE Floats multiply(Floats a, Floats b) { return a * b; }
INLINE Floats add(Floats a, Floats b) { return a + b; }
INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__ARM_NEON) && defined(__aarch64__)
    float32x4_t x[2], y[2], z[2];
    std::memcpy(x, &a, sizeof x); std::memcpy(y, &b, sizeof y); std::memcpy(z, &c, sizeof z);
    z[0] = vfmaq_f32(z[0], x[0], y[0]);
    z[1] = vfmaq_f32(z[1], x[1], y[1]);
    std::memcpy(&c, z, sizeof z);
    return c;
#else
    return a * b + c;
#endif
}
INLINE Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
INLINE Floats minimum(Floats a, Floats b) { return a < b ? a : b; }
INLINE Floats divide(Floats a, Floats b) { return a / b; }
INLINE Floats nearest(Floats a) {  // below 2^22, where adding this number leaves no fraction
    const Floats large = broadcast(12582912.0f);
    return (a + large) - large;
}
INLINE Floats load_halves(const uint16_t* from) {
    Floats values;
    for (int i = 0; i < LANES; i++) values[i] = half_to_float(from[i]);
    return values;
}
INLINE Floats load_brains(const uint16_t* from) {
    Floats values;
    for (int i = 0; i < LANES; i++) values[i] = brain_to_float(from[i]);
    return values;
}
INLINE Floats load_bytes(const uint8_t* from) {
    Floats values;
    for (int i = 0; i < LANES; i++) values[i] = float(from[i]);
    return values;
}
INLINE Floats load_signed_bytes(const int8_t* from) {
    Floats values;
    for (int i = 0; i < LANES; i++) values[i] = float(from[i]);
    return values;
}
INLINE Words load_words(const uint32_t* from) { Words words; std::memcpy(&words, from, sizeof words); return words; }
INLINE Floats as_floats(Words words) { return __builtin_convertvector((SignedWords)words, Floats); }
template <int AT> INLINE Words nibble(Words words) {  // times 16^AT; the last one as it is
    if constexpr (AT == 7) return words >> 28;
    else return words & (0xFu << (4 * AT));
}
template <int AT> INLINE Words signed_byte(Words words) {  // times 2^24
    return (words << (24 - 8 * AT)) & 0xFF000000u;
}
INLINE Words lower_nibbles(Words words) { return words & 0x0F0F0F0Fu; }
INLINE Words upper_nibbles(Words words) { return lower_nibbles(words >> 4); }
INLINE Words broadcast_word(const int8_t* from) {
    uint32_t word;
    std::memcpy(&word, from, sizeof word);
    return Words{} + word;
}
INLINE Words no_pairs() { return Words{}; }
INLINE Words add_pairs(Words sums, Words bytes, Words signed_bytes) {
    Pairs a = (Pairs)sums, x = (Pairs)bytes, y = (Pairs)signed_bytes;
    return (Words)(a + (x & 255) * (Pairs)((y << 8) >> 8) + (x >> 8) * (y >> 8));  // bytes are below 128
}
INLINE Floats pair_sums(Words sums) {
    SignedWords both = (SignedWords)sums;
    return __builtin_convertvector(((both << 16) >> 16) + (both >> 16), Floats);
}
INLINE Floats power_of_two(Floats whole) {
    SignedWords exponent = __builtin_convertvector(whole, SignedWords) + 127;
    return (Floats)(exponent << 23);
}

#endif

// The sum of all lanes: halves are added to each other until one is left, so in one order for each width.
INLINE float sum(Floats values) {
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#if defined(__AVX512F__) && defined(__AVX512BW__)
    __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(values), 1));
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(values), upper);
#else
    __m256 eight = values;
#endif
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float lanes[LANES];
    store(lanes, values);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
#endif
}

// The sums of four vectors' lanes, each as `sum` gives it.
INLINE void four_sums(Floats a, Floats b, Floats c, Floats d, float* out) {
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512F__)
    auto four = [](Floats v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); };
    auto two = [](__m128 x, __m128 y) { return _mm_add_ps(_mm_unpacklo_ps(x, y), _mm_unpackhi_ps(x, y)); };
    __m128 first = two(four(a), four(b)), second = two(four(c), four(d));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(first, second), _mm_movehl_ps(second, first)));
#else
    out[0] = sum(a), out[1] = sum(b), out[2] = sum(c), out[3] = sum(d);
#endif
}

INLINE float largest(Floats values) {
    float lanes[LANES];
    store(lanes, values);
    float most = lanes[0];
    for (int i = 1; i < LANES; i++) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

// e to the power of each lane, within 2 units in the last place: a power of two times a polynomial on [-ln 2 / 2, ln 2 / 2].
INLINE Floats exponential(Floats x) {
    x = maximum(minimum(x, broadcast(88.0f)), broadcast(-87.0f));
    Floats whole = nearest(multiply(x, broadcast(1.44269504088896341f)));
    Floats rest = multiply_add(whole, broadcast(-0.693359375f), x);
    rest = multiply_add(whole, broadcast(2.12194440e-4f), rest);  // ln 2 in two parts, the first of few digits
    Floats series = broadcast(1.0f / 5040);
    for (float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
        series = multiply_add(series, rest, broadcast(term));
    return multiply(series, power_of_two(whole));
}

}  // namespace orthrus
