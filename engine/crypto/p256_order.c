#include "crypto/p256_order.h"

#include "base/bytes.h"

/* gcc -O2 keeps short loops, and with them their numbers in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

/* n, SEC 2 v2 section 2.4.2 */
static const struct p256_scalar order = {
    {0xf3b9cac2fc632551, 0xbce6faada7179e84, 0xffffffffffffffff, 0xffffffff00000000}};
/* 2^512 mod n */
static const struct p256_scalar mont_square = {
    {0x83244c95be79eea2, 0x4699799c49bd6fa6, 0x2845b2392b6bec59, 0x66e12d94f3d95620}};
/* -1/n mod 2^64 */
static const uint64_t mont_factor = 0xccd1c8aaee00bc4f;

/* value + carry * 2^256, below 2n, minus n if it is not below n. */
static struct p256_scalar reduce_once(const struct p256_scalar *value, uint64_t carry)
{
    struct p256_scalar less;
    unsigned char borrow = 0;
    UNROLL
    for (int i = 0; i < 4; i++) {
        unsigned __int128 t = (unsigned __int128)value->limb[i] - order.limb[i] - borrow;
        less.limb[i] = (uint64_t)t;
        borrow = (t >> 64) != 0;
    }
    return carry >= borrow ? less : *value;
}

struct p256_scalar p256_scalar_load(const uint8_t in[P256_LEN])
{
    struct p256_scalar value;
    UNROLL
    for (int i = 0; i < 4; i++)
        value.limb[i] = load_be64(in + 8 * (3 - i));
    return reduce_once(&value, 0); /* 2^256 < 2n */
}

void p256_scalar_store(const struct p256_scalar *value, uint8_t out[P256_LEN])
{
    UNROLL
    for (int i = 0; i < 4; i++)
        store_be64(out + 8 * (3 - i), value->limb[i]);
}

bool p256_scalar_is_zero(const struct p256_scalar *value)
{
    return (value->limb[0] | value->limb[1] | value->limb[2] | value->limb[3]) == 0;
}

struct p256_scalar p256_scalar_add(const struct p256_scalar *a, const struct p256_scalar *b)
{
    struct p256_scalar sum;
    unsigned __int128 t = 0;
    UNROLL
    for (int i = 0; i < 4; i++) {
        t += (unsigned __int128)a->limb[i] + b->limb[i];
        sum.limb[i] = (uint64_t)t;
        t >>= 64;
    }
    return reduce_once(&sum, (uint64_t)t);
}

/* Coarsely integrated operand scanning (Koc, Acar, Kaliski 1996). */
struct p256_scalar p256_scalar_mont_mul(const struct p256_scalar *a, const struct p256_scalar *b)
{
    uint64_t t[6] = {0};
    UNROLL
    for (int i = 0; i < 4; i++) {
        unsigned __int128 acc = 0;
        UNROLL
        for (int j = 0; j < 4; j++) {
            acc += (unsigned __int128)a->limb[j] * b->limb[i] + t[j];
            t[j] = (uint64_t)acc;
            acc >>= 64;
        }
        acc += t[4];
        t[4] = (uint64_t)acc;
        t[5] = (uint64_t)(acc >> 64);
        uint64_t m = t[0] * mont_factor;
        acc = ((unsigned __int128)m * order.limb[0] + t[0]) >> 64;
        UNROLL
        for (int j = 1; j < 4; j++) {
            acc += (unsigned __int128)m * order.limb[j] + t[j];
            t[j - 1] = (uint64_t)acc;
            acc >>= 64;
        }
        acc += t[4];
        t[3] = (uint64_t)acc;
        t[4] = t[5] + (uint64_t)(acc >> 64);
    }
    struct p256_scalar value = {{t[0], t[1], t[2], t[3]}};
    return reduce_once(&value, t[4]);
}

struct p256_scalar p256_scalar_to_mont(const struct p256_scalar *a)
{
    return p256_scalar_mont_mul(a, &mont_square);
}

struct p256_scalar p256_scalar_of_digest(const uint8_t *digest, size_t len)
{
    uint8_t leftmost[P256_LEN] = {0};
    size_t used = len < P256_LEN ? len : P256_LEN;
    memcpy(leftmost + P256_LEN - used, digest, used);
    return p256_scalar_load(leftmost);
}

/* --- inversion: Bernstein and Yang, "Fast constant-time gcd computation and modular inversion",
 * 2019, in the form that takes variable time: 62 division steps at a time on the lowest limbs
 * alone, whose effect is a 2x2 matrix that is then applied to the whole numbers. --- */

enum { GCD_BITS = 62, GCD_LIMBS = 5 };
#define GCD_MASK (UINT64_MAX >> 2)

/* Sum of limb[i] * 2^(62 i); all but the highest limb in 0..2^62-1. */
struct gcd_number {
    int64_t limb[GCD_LIMBS];
};

/* 2^62 times a product of division steps: new f = (u f + v g) / 2^62, new g = (q f + r g) / 2^62.
 */
struct gcd_matrix {
    int64_t u, v, q, r;
};

static const struct gcd_number gcd_order = {
    {0x33b9cac2fc632551, 0x339beab69c5e7a13, 0x3ffffffffffffffb, 0x3fffffc00000003f, 0xff}};
/* 1/n mod 2^62 */
static const uint64_t gcd_order_inverse = 0x332e375511ff43b1;

/* eta: minus delta of the paper. */
static int64_t divide_steps(int64_t eta, uint64_t f, uint64_t g, struct gcd_matrix *out)
{
    uint64_t u = 1, v = 0, q = 0, r = 1;
    for (unsigned left = GCD_BITS;;) {
        unsigned zeros = (unsigned)__builtin_ctzll(g | (UINT64_MAX << left));
        g >>= zeros;
        u <<= zeros;
        v <<= zeros;
        eta -= zeros;
        left -= zeros;
        if (left == 0)
            break;
        if (eta < 0) { /* swap, so that f is the one with fewer steps behind it */
            uint64_t t = f;
            f = g;
            g = -t;
            t = u;
            u = q;
            q = -t;
            t = v;
            v = r;
            r = -t;
            eta = -eta;
        }
        /* g += w f clears as many low bits of g as may be cleared before the next swap; f is odd,
         * and f (2 - f^2) is 1/f modulo 2^6. */
        unsigned most = (uint64_t)eta + 1 < left ? (unsigned)eta + 1 : left;
        uint64_t mask = most < 6 ? (1ull << most) - 1 : 63;
        uint64_t w = (f * g * (f * f - 2)) & mask;
        g += f * w;
        q += u * w;
        r += v * w;
    }
    *out = (struct gcd_matrix){(int64_t)u, (int64_t)v, (int64_t)q, (int64_t)r};
    return eta;
}

/* (d, e) <- matrix (d, e) / 2^62 modulo n, both kept between -2n and n. */
static void update_inverses(struct gcd_number *d, struct gcd_number *e, const struct gcd_matrix *m)
{
    int64_t d_sign = d->limb[4] >> 63, e_sign = e->limb[4] >> 63;
    int64_t md = (m->u & d_sign) + (m->v & e_sign), me = (m->q & d_sign) + (m->r & e_sign);
    __int128 cd = (__int128)m->u * d->limb[0] + (__int128)m->v * e->limb[0];
    __int128 ce = (__int128)m->q * d->limb[0] + (__int128)m->r * e->limb[0];
    /* the multiples of n that make the lowest 62 bits zero */
    md -= (int64_t)((gcd_order_inverse * (uint64_t)cd + (uint64_t)md) & GCD_MASK);
    me -= (int64_t)((gcd_order_inverse * (uint64_t)ce + (uint64_t)me) & GCD_MASK);
    cd += (__int128)gcd_order.limb[0] * md;
    ce += (__int128)gcd_order.limb[0] * me;
    for (int i = 1; i < GCD_LIMBS; i++) {
        cd >>= GCD_BITS;
        ce >>= GCD_BITS;
        cd += (__int128)m->u * d->limb[i] + (__int128)m->v * e->limb[i];
        ce += (__int128)m->q * d->limb[i] + (__int128)m->r * e->limb[i];
        cd += (__int128)gcd_order.limb[i] * md;
        ce += (__int128)gcd_order.limb[i] * me;
        d->limb[i - 1] = (int64_t)((uint64_t)cd & GCD_MASK);
        e->limb[i - 1] = (int64_t)((uint64_t)ce & GCD_MASK);
    }
    d->limb[4] = (int64_t)(cd >> GCD_BITS);
    e->limb[4] = (int64_t)(ce >> GCD_BITS);
}

/* (f, g) <- matrix (f, g) / 2^62, which is exact. */
static void update_numbers(struct gcd_number *f, struct gcd_number *g, const struct gcd_matrix *m)
{
    __int128 cf = (__int128)m->u * f->limb[0] + (__int128)m->v * g->limb[0];
    __int128 cg = (__int128)m->q * f->limb[0] + (__int128)m->r * g->limb[0];
    for (int i = 1; i < GCD_LIMBS; i++) {
        cf >>= GCD_BITS;
        cg >>= GCD_BITS;
        cf += (__int128)m->u * f->limb[i] + (__int128)m->v * g->limb[i];
        cg += (__int128)m->q * f->limb[i] + (__int128)m->r * g->limb[i];
        f->limb[i - 1] = (int64_t)((uint64_t)cf & GCD_MASK);
        g->limb[i - 1] = (int64_t)((uint64_t)cg & GCD_MASK);
    }
    f->limb[4] = (int64_t)(cf >> GCD_BITS);
    g->limb[4] = (int64_t)(cg >> GCD_BITS);
}

static bool gcd_is_zero(const struct gcd_number *a)
{
    return (a->limb[0] | a->limb[1] | a->limb[2] | a->limb[3] | a->limb[4]) == 0;
}

/* value, between -2n and n, or its negative, brought to 0..n-1. */
static struct p256_scalar gcd_result(const struct gcd_number *value, bool negate)
{
    struct gcd_number v = *value;
    for (int round = 0; round < 3; round++) {
        /* a number below 0 gains n; then, once, the sign is applied; and again */
        int64_t add = v.limb[4] >> 63, carry = 0;
        for (int i = 0; i < GCD_LIMBS; i++) {
            v.limb[i] += gcd_order.limb[i] & add;
            if (round == 1 && negate)
                v.limb[i] = -v.limb[i];
        }
        for (int i = 0; i < GCD_LIMBS - 1; i++) {
            v.limb[i] += carry;
            carry = v.limb[i] >> GCD_BITS;
            v.limb[i] = (int64_t)((uint64_t)v.limb[i] & GCD_MASK);
        }
        v.limb[4] += carry;
    }
    const uint64_t l[GCD_LIMBS] = {(uint64_t)v.limb[0], (uint64_t)v.limb[1], (uint64_t)v.limb[2],
                                   (uint64_t)v.limb[3], (uint64_t)v.limb[4]};
    struct p256_scalar out = {{l[0] | l[1] << 62, l[1] >> 2 | l[2] << 60, l[2] >> 4 | l[3] << 58,
                               l[3] >> 6 | l[4] << 56}};
    return reduce_once(&out, 0);
}

struct p256_scalar p256_scalar_inverse(const struct p256_scalar *a)
{
    const uint64_t *w = a->limb;
    struct gcd_number f = gcd_order, d = {{0}}, e = {{1}};
    struct gcd_number g = {{
        (int64_t)(w[0] & GCD_MASK),
        (int64_t)((w[0] >> 62 | w[1] << 2) & GCD_MASK),
        (int64_t)((w[1] >> 60 | w[2] << 4) & GCD_MASK),
        (int64_t)((w[2] >> 58 | w[3] << 6) & GCD_MASK),
        (int64_t)(w[3] >> 56),
    }};
    struct gcd_matrix matrix;
    /* 724 division steps are enough for 256 bits: 12 rounds. A bound, in case this is wrong. */
    int64_t eta = -1;
    for (int round = 0; round < 12 && !gcd_is_zero(&g); round++) {
        eta = divide_steps(eta, (uint64_t)f.limb[0], (uint64_t)g.limb[0], &matrix);
        update_inverses(&d, &e, &matrix);
        update_numbers(&f, &g, &matrix);
    }
    return gcd_result(&d, f.limb[4] < 0); /* f is 1 or -1 */
}

struct p256_scalar p256_scalar_mont_inverse(const struct p256_scalar *a)
{
    struct p256_scalar inverse = p256_scalar_inverse(a); /* of a R: 1 / (a R) */
    inverse = p256_scalar_to_mont(&inverse);
    return p256_scalar_to_mont(&inverse);
}
