/* p256_field.h: eight numbers modulo the prime of P-256, side by side in AVX-512 registers.
 *
 * A number is in Montgomery form for R = 2^260, as five limbs of 52 bits: the width that the IFMA
 * instructions multiply. Limbs are below 2^52 between operations; the number itself need not be
 * below p: bounds, as multiples of p, stand beside the operations, and 16 p is the end.
 *
 * p = 2^256 - 2^224 + 2^192 + 2^96 - 1, so p = -1 modulo 2^52: a reduction's multiplier is the limb
 * itself.
 */
#ifndef CERTMILL_CRYPTO_P256_FIELD_H
#define CERTMILL_CRYPTO_P256_FIELD_H

#include <immintrin.h>
#include <stdint.h>

#include "base/bytes.h"

#define LANES __attribute__((target("avx512f,avx512dq,avx512vl,avx512ifma")))

/* Sanitizers look at every access: with everything in line, a compiler takes minutes over that. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LANES_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LANES_SANITIZED
#endif

/* gcc -O2 keeps short loops, and with them their numbers in memory. */
#if defined(LANES_SANITIZED)
#define LANES_INLINE static __attribute__((noinline, unused)) LANES
#define UNROLL
#elif defined(__clang__)
#define LANES_INLINE static inline __attribute__((always_inline)) LANES
#define UNROLL       _Pragma("unroll")
#else
#define LANES_INLINE static inline __attribute__((always_inline)) LANES
#define UNROLL       _Pragma("GCC unroll 32")
#endif

enum { FE_LIMBS = 5 };

struct fe {
    __m512i limb[FE_LIMBS];
};

#define FE_MASK 0xfffffffffffffull

static const uint64_t fe_p[FE_LIMBS] = {0xfffffffffffff, 0x00fffffffffff, 0, 0x1000000000,
                                        0x0ffffffff0000};
static const uint64_t fe_2p[FE_LIMBS] = {0xffffffffffffe, 0x01fffffffffff, 0, 0x2000000000,
                                         0x1fffffffe0000};

LANES_INLINE __m512i fe_word(uint64_t value)
{
    return _mm512_set1_epi64((long long)value);
}

LANES_INLINE void fe_set(struct fe *out, const uint64_t limbs[FE_LIMBS])
{
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        out->limb[i] = fe_word(limbs[i]);
}

/* Carries up: limbs of up to 63 bits and a sign, of a number that is not negative and below 16 p.
 */
LANES_INLINE void fe_carry(struct fe *a)
{
    const __m512i mask = fe_word(FE_MASK);
    UNROLL
    for (int i = 0; i < FE_LIMBS - 1; i++) {
        a->limb[i + 1] = _mm512_add_epi64(a->limb[i + 1], _mm512_srai_epi64(a->limb[i], 52));
        a->limb[i] = _mm512_and_si512(a->limb[i], mask);
    }
}

/* Carries, and brings a number between -16 p and 16 p to between 0.99 p and 2.01 p: subtracts
 * q * p with q = floor(number / 2^256) - 1. */
LANES_INLINE void fe_reduce(struct fe *a)
{
    __m512i *t = a->limb;
    __m512i q = _mm512_sub_epi64(_mm512_srai_epi64(t[4], 48), fe_word(1));
    t[4] = _mm512_sub_epi64(t[4], _mm512_slli_epi64(q, 48)); /* q * 2^256 */
    t[4] = _mm512_add_epi64(t[4], _mm512_slli_epi64(q, 16)); /* -q * 2^224 */
    t[3] = _mm512_sub_epi64(t[3], _mm512_slli_epi64(q, 36)); /* q * 2^192 */
    t[1] = _mm512_sub_epi64(t[1], _mm512_slli_epi64(q, 44)); /* q * 2^96 */
    t[0] = _mm512_add_epi64(t[0], q);                        /* -q */
    fe_carry(a);
}

/* t / 2^260 modulo p, t of ten limbs; below t / 2^260 + p. */
LANES_INLINE void fe_mont(struct fe *out, __m512i t[2 * FE_LIMBS])
{
    const __m512i mask = fe_word(FE_MASK);
    const __m512i p_44 = fe_word(1ull << 44), p_36 = fe_word(1ull << 36);
    const __m512i p_4 = fe_word(0xffffffff0000);
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        __m512i m = _mm512_and_si512(t[i], mask);
        /* + m * p: -m clears the limb, m * 2^96 from 52 + 44 on, m * 2^192 from 156 + 36 on,
         * m * (2^256 - 2^224) from 208 on */
        t[i + 1] = _mm512_add_epi64(t[i + 1], _mm512_srli_epi64(t[i], 52));
        t[i + 1] = _mm512_madd52lo_epu64(t[i + 1], m, p_44);
        t[i + 2] = _mm512_madd52hi_epu64(t[i + 2], m, p_44);
        t[i + 3] = _mm512_madd52lo_epu64(t[i + 3], m, p_36);
        t[i + 4] = _mm512_madd52hi_epu64(t[i + 4], m, p_36);
        t[i + 4] = _mm512_madd52lo_epu64(t[i + 4], m, p_4);
        t[i + 5] = _mm512_madd52hi_epu64(t[i + 5], m, p_4);
    }
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        out->limb[i] = t[FE_LIMBS + i];
    fe_carry(out);
}

/* x p times y p: below (x y / 16 + 1) p. */
LANES_INLINE void fe_mul(struct fe *out, const struct fe *a, const struct fe *b)
{
    __m512i t[2 * FE_LIMBS];
    UNROLL
    for (int i = 0; i < 2 * FE_LIMBS; i++)
        t[i] = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        UNROLL
        for (int j = 0; j < FE_LIMBS; j++) {
            t[i + j] = _mm512_madd52lo_epu64(t[i + j], a->limb[i], b->limb[j]);
            t[i + j + 1] = _mm512_madd52hi_epu64(t[i + j + 1], a->limb[i], b->limb[j]);
        }
    }
    fe_mont(out, t);
}

LANES_INLINE void fe_sqr(struct fe *out, const struct fe *a)
{
    __m512i t[2 * FE_LIMBS];
    UNROLL
    for (int i = 0; i < 2 * FE_LIMBS; i++)
        t[i] = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        UNROLL
        for (int j = i + 1; j < FE_LIMBS; j++) {
            t[i + j] = _mm512_madd52lo_epu64(t[i + j], a->limb[i], a->limb[j]);
            t[i + j + 1] = _mm512_madd52hi_epu64(t[i + j + 1], a->limb[i], a->limb[j]);
        }
    }
    UNROLL
    for (int i = 1; i < 2 * FE_LIMBS - 1; i++)
        t[i] = _mm512_add_epi64(t[i], t[i]);
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        t[2 * i] = _mm512_madd52lo_epu64(t[2 * i], a->limb[i], a->limb[i]);
        t[2 * i + 1] = _mm512_madd52hi_epu64(t[2 * i + 1], a->limb[i], a->limb[i]);
    }
    fe_mont(out, t);
}

/* Sums below 16 p, carried but not reduced. */
LANES_INLINE void fe_add(struct fe *out, const struct fe *a, const struct fe *b)
{
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        out->limb[i] = _mm512_add_epi64(a->limb[i], b->limb[i]);
    fe_carry(out);
}

/* Reduced. */
LANES_INLINE void fe_sub(struct fe *out, const struct fe *a, const struct fe *b)
{
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        out->limb[i] = _mm512_sub_epi64(a->limb[i], b->limb[i]);
    fe_reduce(out);
}

/* a << shift, minus b << less, reduced. */
LANES_INLINE void fe_sub_shifted(struct fe *out, const struct fe *a, unsigned shift,
                                 const struct fe *b, unsigned less)
{
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        out->limb[i] = _mm512_sub_epi64(_mm512_slli_epi64(a->limb[i], shift),
                                        _mm512_slli_epi64(b->limb[i], less));
    fe_reduce(out);
}

/* (negative ? -a : a) - b, reduced. */
LANES_INLINE void fe_signed_sub(struct fe *out, __mmask8 negative, const struct fe *a,
                                const struct fe *b)
{
    const __m512i zero = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        __m512i value = _mm512_mask_sub_epi64(a->limb[i], negative, zero, a->limb[i]);
        out->limb[i] = _mm512_sub_epi64(value, b->limb[i]);
    }
    fe_reduce(out);
}

/* which ? b : a */
LANES_INLINE void fe_select(struct fe *out, __mmask8 which, const struct fe *a, const struct fe *b)
{
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        out->limb[i] = _mm512_mask_blend_epi64(which, a->limb[i], b->limb[i]);
}

/* Of a reduced number: 0.99 p to 2.01 p has the multiples p and 2 p. */
LANES_INLINE __mmask8 fe_is_zero(const struct fe *a)
{
    __mmask8 one = 0xff, two = 0xff;
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        one &= _mm512_cmpeq_epi64_mask(a->limb[i], fe_word(fe_p[i]));
        two &= _mm512_cmpeq_epi64_mask(a->limb[i], fe_word(fe_2p[i]));
    }
    return one | two;
}

/* 32 big-endian bytes as limbs, of one lane. */
static inline void fe_load_lane(uint64_t out[FE_LIMBS], const uint8_t in[32])
{
    uint64_t w[4];
    for (int i = 0; i < 4; i++)
        w[i] = load_be64(in + 8 * (3 - i));
    out[0] = w[0] & FE_MASK;
    out[1] = (w[0] >> 52 | w[1] << 12) & FE_MASK;
    out[2] = (w[1] >> 40 | w[2] << 24) & FE_MASK;
    out[3] = (w[2] >> 28 | w[3] << 36) & FE_MASK;
    out[4] = w[3] >> 16;
}

#endif
