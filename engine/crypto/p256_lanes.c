#include "crypto/p256_lanes.h"

#include <stdlib.h>

#if defined(__x86_64__)

#include <pthread.h>

#include "crypto/p256_field.h"

static const uint64_t fe_one[FE_LIMBS] = {0x0000000000010, 0xf000000000000, 0xfffffffffffff,
                                          0xffeffffffffff, 0x00000000fffff};
/* 2^520 mod p: into Montgomery form */
static const uint64_t fe_square[FE_LIMBS] = {0x0000000000300, 0xffffffff00000, 0xffffefffffffb,
                                             0xfdfffffffffff, 0x0000004ffffff};
/* the curve's b, in Montgomery form */
static const uint64_t fe_b[FE_LIMBS] = {0xdf6229c4bddfd, 0xca8843090d89c, 0x212ed6acf005c,
                                        0x83415a220abf7, 0x0c30061dd4874};
/* SEC 2 v2 section 2.4.2: G */
static const uint8_t base_point[2 * P256_LEN] = {
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
    0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

/* Jacobian coordinates: the point (x / z^2, y / z^3). Each is below 2.7 p. */
struct jacobian {
    struct fe x, y, z;
};

/* A sum in the making. The formulas have no infinity, and none of their exceptions is handled:
 * adding a point to itself or to its negative makes z 0, and it then stays 0, since every formula
 * multiplies z; so one look at the end finds them all. */
struct sum {
    struct jacobian point;
    __mmask8 infinite; /* lanes where nothing has been added yet */
};

/* --- formulas --- */

/* 4M + 4S; for z below 2.7 p gives z below 2.7 p. */
LANES static __attribute__((noinline)) void point_double(struct jacobian *a)
{
    struct fe delta, gamma, beta, alpha, t, u;
    fe_sqr(&delta, &a->z);
    fe_sqr(&gamma, &a->y);
    fe_mul(&beta, &a->x, &gamma);
    fe_sub(&t, &a->x, &delta);
    fe_add(&u, &a->x, &delta); /* < 3.5 p */
    fe_mul(&t, &t, &u);        /* < 1.5 p */
    fe_add(&alpha, &t, &t);
    fe_add(&alpha, &alpha, &t); /* 3 (x^2 - z^4), < 4.4 p */
    fe_mul(&t, &a->y, &a->z);
    fe_add(&a->z, &t, &t); /* 2 y z */
    fe_sqr(&t, &alpha);
    fe_sub_shifted(&a->x, &t, 0, &beta, 3);
    fe_sub_shifted(&t, &beta, 2, &a->x, 0);
    fe_mul(&t, &t, &alpha);
    fe_sqr(&u, &gamma);
    fe_sub_shifted(&a->y, &t, 0, &u, 3);
}

/* The end of both additions: from h, r and, of the first point scaled to the common z, x and y. */
LANES_INLINE void finish_addition(struct jacobian *out, const struct fe *h, const struct fe *r,
                                  const struct fe *x1, const struct fe *y1)
{
    struct fe hh, hhh, v, t;
    fe_sqr(&hh, h);
    fe_mul(&hhh, h, &hh);
    fe_mul(&v, x1, &hh);
    fe_sqr(&t, r);
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) /* r^2 - h^3 - 2 v */
        t.limb[i] = _mm512_sub_epi64(_mm512_sub_epi64(t.limb[i], hhh.limb[i]),
                                     _mm512_add_epi64(v.limb[i], v.limb[i]));
    fe_reduce(&t);
    out->x = t;
    fe_sub(&t, &v, &t);
    fe_mul(&t, r, &t);
    fe_mul(&v, y1, &hhh);
    fe_sub(&out->y, &t, &v);
}

LANES_INLINE void keep(struct sum *sum, __mmask8 skip, const struct jacobian *added,
                       const struct jacobian *first)
{
    struct jacobian *old = &sum->point;
    fe_select(&old->x, skip, &added->x, &old->x);
    fe_select(&old->y, skip, &added->y, &old->y);
    fe_select(&old->z, skip, &added->z, &old->z);
    __mmask8 start = sum->infinite & (__mmask8)~skip;
    if (start) {
        fe_select(&old->x, start, &old->x, &first->x);
        fe_select(&old->y, start, &old->y, &first->y);
        fe_select(&old->z, start, &old->z, &first->z);
        sum->infinite &= skip;
    }
}

/* Adds the affine point (x, y), negated where told, nothing where skipped. 8M + 3S. */
LANES static __attribute__((noinline)) void add_affine(struct sum *sum, __mmask8 skip,
                                                       __mmask8 negative, const struct fe *x,
                                                       const struct fe *y)
{
    const struct jacobian *a = &sum->point;
    struct jacobian added, first = {.x = *x};
    struct fe t, h, r;
    fe_sqr(&t, &a->z);
    fe_mul(&h, x, &t);
    fe_mul(&t, &a->z, &t);
    fe_mul(&r, y, &t);
    fe_sub(&h, &h, &a->x);
    fe_signed_sub(&r, negative, &r, &a->y);
    fe_mul(&added.z, &a->z, &h);
    finish_addition(&added, &h, &r, &a->x, &a->y);
    if (sum->infinite) {
        const struct fe zero = {0};
        fe_signed_sub(&first.y, negative, y, &zero);
        fe_set(&first.z, fe_one);
    }
    keep(sum, skip, &added, &first);
}

/* A small multiple of a lane's own point, with powers of z at hand. */
struct multiple {
    struct jacobian point;
    struct fe zz, zzz;
};
enum { MULTIPLE_WORDS = 5 * FE_LIMBS * P256_LANES };

/* The same for a Jacobian point. 11M + 3S. */
LANES static __attribute__((noinline)) void
add_multiple(struct sum *sum, __mmask8 skip, __mmask8 negative, const struct multiple *b)
{
    const struct jacobian *a = &sum->point;
    struct jacobian added, first = b->point;
    struct fe x1, y1, t, h, r;
    fe_mul(&x1, &a->x, &b->zz);
    fe_mul(&y1, &a->y, &b->zzz);
    fe_sqr(&t, &a->z);
    fe_mul(&h, &b->point.x, &t);
    fe_mul(&t, &a->z, &t);
    fe_mul(&r, &b->point.y, &t);
    fe_sub(&h, &h, &x1);
    fe_signed_sub(&r, negative, &r, &y1);
    fe_mul(&t, &a->z, &b->point.z);
    fe_mul(&added.z, &t, &h);
    finish_addition(&added, &h, &r, &x1, &y1);
    if (sum->infinite) {
        const struct fe zero = {0};
        fe_signed_sub(&first.y, negative, &b->point.y, &zero);
    }
    keep(sum, skip, &added, &first);
}

/* --- scalars as signed digits --- */

enum {
    TABLE_BITS = 6,
    TABLE_WINDOWS = 43, /* 258 bits: no carry leaves the last one */
    TABLE_ENTRIES = 1 << (TABLE_BITS - 1),
    LADDER_BITS = 5,
    LADDER_WINDOWS = 52, /* 260 bits */
    LADDER_MULTIPLES = 1 << (LADDER_BITS - 1),
};

struct digits {
    int8_t digit[LADDER_WINDOWS][P256_LANES];
};

/* Digits from -(2^(bits - 1) - 1) to 2^(bits - 1), least significant first. */
static void recode(struct digits *out, size_t lane, const struct p256_scalar *k, unsigned bits,
                   unsigned windows)
{
    unsigned carry = 0;
    for (unsigned i = 0; i < windows; i++) {
        unsigned at = i * bits, word = at / 64, shift = at % 64;
        uint64_t value = k->limb[word] >> shift;
        if (shift + bits > 64 && word < 3)
            value |= k->limb[word + 1] << (64 - shift);
        unsigned digit = ((unsigned)value & ((1u << bits) - 1)) + carry;
        carry = digit > 1u << (bits - 1);
        out->digit[i][lane] = (int8_t)((int)digit - (carry ? 1 << bits : 0));
    }
}

/* What the digits of one window choose in each lane. */
struct choice {
    __m512i index; /* |digit| - 1, 0 when skipped */
    __mmask8 skip, negative;
};

LANES_INLINE struct choice choose(const int8_t digit[P256_LANES])
{
    const __m512i zero = _mm512_setzero_si512();
    int64_t packed;
    memcpy(&packed, digit, sizeof packed);
    __m512i value = _mm512_cvtepi8_epi64(_mm_cvtsi64_si128(packed));
    struct choice out = {
        .skip = _mm512_cmpeq_epi64_mask(value, zero),
        .negative = _mm512_cmplt_epi64_mask(value, zero),
    };
    out.index = _mm512_sub_epi64(_mm512_abs_epi64(value), fe_word(1));
    out.index = _mm512_mask_mov_epi64(out.index, out.skip, zero);
    return out;
}

/* --- tables: for each window w and 1 <= k <= 32, the affine point k * 2^(6 w) * P --- */

struct p256_table {
    uint64_t entry[TABLE_WINDOWS][TABLE_ENTRIES][2 * FE_LIMBS]; /* x, y; below p */
};
enum {
    ENTRY_SIZE = 2 * FE_LIMBS * sizeof(uint64_t),
    WINDOW_SIZE = TABLE_ENTRIES * ENTRY_SIZE,
};

/* The sum of a lane's entries for all windows of its scalar; address: of each lane's table. */
LANES static void add_from_tables(struct sum *sum, __m512i address, const struct digits *digits)
{
    for (unsigned w = 0; w < TABLE_WINDOWS; w++) {
        struct choice choice = choose(digits->digit[w]);
        __m512i at = _mm512_mullo_epi64(choice.index, fe_word(ENTRY_SIZE));
        at = _mm512_add_epi64(at, address);
        struct fe x, y;
        UNROLL
        for (int i = 0; i < FE_LIMBS; i++) {
            x.limb[i] = _mm512_i64gather_epi64(at, NULL, 1);
            at = _mm512_add_epi64(at, fe_word(sizeof(uint64_t)));
        }
        UNROLL
        for (int i = 0; i < FE_LIMBS; i++) {
            y.limb[i] = _mm512_i64gather_epi64(at, NULL, 1);
            at = _mm512_add_epi64(at, fe_word(sizeof(uint64_t)));
        }
        add_affine(sum, choice.skip, choice.negative, &x, &y);
        address = _mm512_add_epi64(address, fe_word(WINDOW_SIZE));
    }
}

/* a^(p - 2), p being prime (Fermat). */
LANES static void fe_inverse(struct fe *out, const struct fe *a)
{
    static const uint64_t exponent[4] = {0xfffffffffffffffd, 0x00000000ffffffff, 0,
                                         0xffffffff00000001};
    struct fe result = *a;
    for (int bit = 254; bit >= 0; bit--) {
        fe_sqr(&result, &result);
        if (exponent[bit / 64] >> (bit % 64) & 1)
            fe_mul(&result, &result, a);
    }
    *out = result;
}

/* One lane of a number below 2 p, below p. */
LANES static void store_lane(uint64_t out[FE_LIMBS], const struct fe *a, unsigned lane)
{
    uint64_t limb[FE_LIMBS], less[FE_LIMBS];
    int64_t borrow = 0;
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        uint64_t all[P256_LANES];
        _mm512_storeu_si512(all, a->limb[i]);
        limb[i] = all[lane];
        int64_t t = (int64_t)(limb[i] - fe_p[i]) + borrow;
        less[i] = (uint64_t)t & FE_MASK;
        borrow = t >> 52;
    }
    memcpy(out, borrow < 0 ? limb : less, sizeof limb);
}

LANES static void load_point(struct fe *x, struct fe *y, const uint8_t *const point[P256_LANES])
{
    uint64_t limbs[2][FE_LIMBS], all[2][FE_LIMBS][P256_LANES];
    for (int lane = 0; lane < P256_LANES; lane++) {
        fe_load_lane(limbs[0], point[lane]);
        fe_load_lane(limbs[1], point[lane] + P256_LEN);
        UNROLL
        for (int i = 0; i < FE_LIMBS; i++) {
            all[0][i][lane] = limbs[0][i];
            all[1][i][lane] = limbs[1][i];
        }
    }
    struct fe square;
    fe_set(&square, fe_square);
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) {
        x->limb[i] = _mm512_loadu_si512(all[0][i]);
        y->limb[i] = _mm512_loadu_si512(all[1][i]);
    }
    fe_mul(x, x, &square);
    fe_mul(y, y, &square);
}

/* All entries of eight windows, whose points 2^(6 w) * P are in the lanes. */
LANES static void fill_windows(struct p256_table *table, unsigned first_window,
                               const struct jacobian *point)
{
    struct jacobian entry[TABLE_ENTRIES];
    struct fe product[TABLE_ENTRIES], inverse, z, zz, x, y;
    struct multiple one = {.point = *point};
    fe_sqr(&one.zz, &point->z);
    fe_mul(&one.zzz, &one.zz, &point->z);
    struct sum sum = {.point = *point};
    for (unsigned k = 0; k < TABLE_ENTRIES; k++) {
        if (k == 1)
            point_double(&sum.point);
        else if (k > 1)
            add_multiple(&sum, 0, 0, &one);
        entry[k] = sum.point;
        if (k == 0)
            product[0] = entry[0].z;
        else
            fe_mul(&product[k], &product[k - 1], &entry[k].z);
    }
    fe_inverse(&inverse, &product[TABLE_ENTRIES - 1]);
    for (unsigned k = TABLE_ENTRIES; k-- > 0;) {
        z = inverse; /* of z_0 ... z_k */
        if (k > 0) {
            fe_mul(&z, &inverse, &product[k - 1]);
            fe_mul(&inverse, &inverse, &entry[k].z);
        }
        fe_sqr(&zz, &z);
        fe_mul(&x, &entry[k].x, &zz);
        fe_mul(&zz, &zz, &z);
        fe_mul(&y, &entry[k].y, &zz);
        for (unsigned lane = 0; lane < P256_LANES && first_window + lane < TABLE_WINDOWS; lane++) {
            uint64_t *out = table->entry[first_window + lane][k];
            store_lane(out, &x, lane);
            store_lane(out + FE_LIMBS, &y, lane);
        }
    }
}

LANES static void fill_table(struct p256_table *table, const uint8_t point[2 * P256_LEN])
{
    const uint8_t *same[P256_LANES];
    for (int lane = 0; lane < P256_LANES; lane++)
        same[lane] = point;
    struct jacobian at, some = {0};
    load_point(&at.x, &at.y, same);
    fe_set(&at.z, fe_one);
    for (unsigned w = 0; w < TABLE_WINDOWS; w++) {
        __mmask8 lane = (__mmask8)(1u << w % P256_LANES);
        fe_select(&some.x, lane, &some.x, &at.x);
        fe_select(&some.y, lane, &some.y, &at.y);
        fe_select(&some.z, lane, &some.z, &at.z);
        if (w % P256_LANES == P256_LANES - 1 || w == TABLE_WINDOWS - 1)
            fill_windows(table, w - w % P256_LANES, &some);
        for (int i = 0; i < TABLE_BITS; i++)
            point_double(&at);
    }
}

/* --- verification --- */

static struct p256_table base_table;
static pthread_once_t base_once = PTHREAD_ONCE_INIT;

static void fill_base_table(void)
{
    fill_table(&base_table, base_point);
}

/* u2 * Q for keys that were never seen before: eight small multiples tables, then five doublings
 * and one addition for each window. */
LANES static void add_by_ladder(struct sum *sum, const struct fe *x, const struct fe *y,
                                const struct digits *digits)
{
    struct multiple multiples[LADDER_MULTIPLES];
    struct sum at = {.point = {.x = *x, .y = *y}};
    fe_set(&at.point.z, fe_one);
    for (unsigned k = 0; k < LADDER_MULTIPLES; k++) { /* k + 1 times the point */
        if (k % 2 == 1) {
            at.point = multiples[k / 2].point;
            point_double(&at.point);
        } else if (k > 0) {
            at.point = multiples[k - 1].point;
            add_affine(&at, 0, 0, x, y);
        }
        multiples[k].point = at.point;
        fe_sqr(&multiples[k].zz, &at.point.z);
        fe_mul(&multiples[k].zzz, &multiples[k].zz, &at.point.z);
    }
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    for (unsigned w = LADDER_WINDOWS; w-- > 0;) {
        for (int i = 0; i < LADDER_BITS && w < LADDER_WINDOWS - 1; i++)
            point_double(&sum->point);
        struct choice choice = choose(digits->digit[w]);
        __m512i at_word = _mm512_mullo_epi64(choice.index, fe_word(MULTIPLE_WORDS));
        at_word = _mm512_add_epi64(at_word, lane);
        struct multiple chosen;
        __m512i *out = (__m512i *)(void *)&chosen;
        const uint64_t *from = (const uint64_t *)(const void *)multiples;
        UNROLL
        for (int i = 0; i < 5 * FE_LIMBS; i++)
            out[i] = _mm512_i64gather_epi64(at_word, from + i * P256_LANES, 8);
        add_multiple(sum, choice.skip, choice.negative, &chosen);
    }
}

/* y^2 = x^3 - 3 x + b (SEC 1 3.2.2.1 step 3) */
LANES static __mmask8 is_on_curve(const struct fe *x, const struct fe *y)
{
    struct fe left, right;
    fe_sqr(&left, y);
    fe_sqr(&right, x);
    fe_mul(&right, &right, x);
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++) { /* y^2 - x^3 + 3 x - b */
        __m512i three = _mm512_add_epi64(x->limb[i], _mm512_add_epi64(x->limb[i], x->limb[i]));
        left.limb[i] = _mm512_add_epi64(_mm512_sub_epi64(left.limb[i], right.limb[i]),
                                        _mm512_sub_epi64(three, fe_word(fe_b[i])));
    }
    fe_reduce(&left);
    return fe_is_zero(&left);
}

/* Is the sum's x, x / z^2, equal to r? */
LANES static void answer(const struct sum *sum, struct p256_lane lanes[], size_t count)
{
    uint64_t all[FE_LIMBS][P256_LANES], limbs[FE_LIMBS];
    for (size_t lane = 0; lane < P256_LANES; lane++) {
        fe_load_lane(limbs, lanes[lane < count ? lane : 0].r);
        UNROLL
        for (int i = 0; i < FE_LIMBS; i++)
            all[i][lane] = limbs[i];
    }
    struct fe r, t, z, square;
    UNROLL
    for (int i = 0; i < FE_LIMBS; i++)
        r.limb[i] = _mm512_loadu_si512(all[i]);
    const struct fe zero = {0};
    fe_set(&square, fe_square);
    fe_mul(&r, &r, &square);
    fe_sqr(&t, &sum->point.z);
    fe_mul(&t, &t, &r);
    fe_sub(&t, &sum->point.x, &t);
    fe_sub(&z, &sum->point.z, &zero);
    __mmask8 equal = fe_is_zero(&t);
    __mmask8 exception = fe_is_zero(&z) | sum->infinite;
    for (size_t lane = 0; lane < count; lane++) {
        /* r + n may be below p, and then also an x: where r < p - n < 2^224 */
        bool small = load_be32(lanes[lane].r) == 0;
        if (exception >> lane & 1 || small)
            lanes[lane].answer = P256_UNSURE;
        else
            lanes[lane].answer = equal >> lane & 1 ? P256_YES : P256_NO;
    }
}

LANES static __m512i base_address(void)
{
    pthread_once(&base_once, fill_base_table);
    return fe_word((uint64_t)(uintptr_t)&base_table);
}

LANES void p256_lanes_by_point(struct p256_lane lanes[], size_t count)
{
    struct digits digits;
    const uint8_t *points[P256_LANES];
    struct fe x, y;
    struct sum sum = {.infinite = 0xff};
    for (size_t lane = 0; lane < P256_LANES; lane++) {
        const struct p256_lane *from = &lanes[lane < count ? lane : 0];
        points[lane] = from->point;
        recode(&digits, lane, &from->u2, LADDER_BITS, LADDER_WINDOWS);
    }
    load_point(&x, &y, points);
    __mmask8 on_curve = is_on_curve(&x, &y);
    add_by_ladder(&sum, &x, &y, &digits);
    for (size_t lane = 0; lane < P256_LANES; lane++)
        recode(&digits, lane, &lanes[lane < count ? lane : 0].u1, TABLE_BITS, TABLE_WINDOWS);
    add_from_tables(&sum, base_address(), &digits);
    answer(&sum, lanes, count);
    for (size_t lane = 0; lane < count; lane++)
        if (!(on_curve >> lane & 1))
            lanes[lane].answer = P256_OFF_CURVE;
}

LANES void p256_lanes_by_table(struct p256_lane lanes[], size_t count)
{
    struct digits digits;
    uint64_t tables[P256_LANES];
    struct sum sum = {.infinite = 0xff};
    for (size_t lane = 0; lane < P256_LANES; lane++) {
        const struct p256_lane *from = &lanes[lane < count ? lane : 0];
        tables[lane] = (uint64_t)(uintptr_t)from->table;
        recode(&digits, lane, &from->u2, TABLE_BITS, TABLE_WINDOWS);
    }
    add_from_tables(&sum, _mm512_loadu_si512(tables), &digits);
    for (size_t lane = 0; lane < P256_LANES; lane++)
        recode(&digits, lane, &lanes[lane < count ? lane : 0].u1, TABLE_BITS, TABLE_WINDOWS);
    add_from_tables(&sum, base_address(), &digits);
    answer(&sum, lanes, count);
}

bool p256_lanes_available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma");
}

struct p256_table *p256_table_new(const uint8_t point[2 * P256_LEN])
{
    if (!p256_lanes_available())
        return NULL;
    struct p256_table *table = malloc(sizeof *table);
    if (table)
        fill_table(table, point);
    return table;
}

#else /* other machines verify one at a time */

bool p256_lanes_available(void)
{
    return false;
}

void p256_lanes_by_point(struct p256_lane lanes[], size_t count)
{
    for (size_t lane = 0; lane < count; lane++)
        lanes[lane].answer = P256_UNSURE;
}

void p256_lanes_by_table(struct p256_lane lanes[], size_t count)
{
    p256_lanes_by_point(lanes, count);
}

struct p256_table *p256_table_new(const uint8_t point[2 * P256_LEN])
{
    (void)point;
    return NULL;
}

#endif

void p256_table_free(struct p256_table *table)
{
    free(table);
}
