#!/usr/bin/python3
"""Writes the vectors of this folder: verify.txt, keys/*.der and path/*.der.

Run from anywhere; needs the openssl command. ECDSA vectors are the same on every run, the rest is
made with fresh keys. Lines of verify.txt:

    name  signature-algorithm  expected-error-code  SPKI  m:message|d:digest  signature

with SPKI, message, digest and signature in hex (- when empty). Elliptic curves are computed here
with schoolbook formulas, so that the vectors share no code with what they test.
"""
import hashlib
import hmac
import os
import random
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LINES = []


def emit(name, alg, expected, spki, signature, message=None, digest=None):
    data = "m:" + message.hex() if message is not None else "d:" + digest.hex()
    assert " " not in name
    LINES.append(" ".join([name, alg, expected, spki.hex() or "-", data, signature.hex() or "-"]))


# --- DER ---

def tlv(tag, body):
    n = len(body)
    if n < 128:
        length = bytes([n])
    else:
        size = (n.bit_length() + 7) // 8
        length = bytes([0x80 | size]) + n.to_bytes(size, "big")
    return bytes([tag]) + length + body


def integer(value):
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def seq(*parts):
    return tlv(0x30, b"".join(parts))


def oid(text):
    arcs = [int(a) for a in text.split(".")]
    out = bytes([arcs[0] * 40 + arcs[1]])
    for arc in arcs[2:]:
        group = [arc & 127]
        while arc > 127:
            arc >>= 7
            group.append(arc & 127 | 128)
        out += bytes(reversed(group))
    return tlv(6, out)


def bits(body):
    return tlv(3, b"\0" + body)


# --- curves ---

class Curve:
    def __init__(self, name, p, b, n, gx, gy, curve_oid):
        self.name, self.p, self.a, self.b, self.n = name, p, p - 3, b, n
        self.g = (gx, gy)
        self.oid = curve_oid
        self.len = (p.bit_length() + 7) // 8

    def add(self, u, v):
        if u is None:
            return v
        if v is None:
            return u
        p = self.p
        if u[0] == v[0]:
            if (u[1] + v[1]) % p == 0:
                return None
            m = (3 * u[0] * u[0] + self.a) * pow(2 * u[1], -1, p) % p
        else:
            m = (v[1] - u[1]) * pow(v[0] - u[0], -1, p) % p
        x = (m * m - u[0] - v[0]) % p
        return x, (m * (u[0] - x) - u[1]) % p

    def mul(self, k, point):
        out = None
        for bit in bin(k % self.n)[2:]:
            out = self.add(out, out)
            if bit == "1":
                out = self.add(out, point)
        return out

    def lift(self, x):
        """A point with this x, or None."""
        p = self.p
        rhs = (x**3 + self.a * x + self.b) % p
        y = pow(rhs, (p + 1) // 4, p)  # p = 3 mod 4
        return (x, y) if y * y % p == rhs else None

    def encode(self, point):
        return b"\4" + point[0].to_bytes(self.len, "big") + point[1].to_bytes(self.len, "big")

    def spki_raw(self, body):
        return seq(seq(oid("1.2.840.10045.2.1"), oid(self.oid)), bits(body))

    def spki(self, point):
        return self.spki_raw(self.encode(point))


P256 = Curve("p256", 2**256 - 2**224 + 2**192 + 2**96 - 1,
             0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
             0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
             0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
             0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
             "1.2.840.10045.3.1.7")
P384 = Curve("p384", 2**384 - 2**128 - 2**96 + 2**32 - 1,
             0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
             0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
             0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
             0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
             "1.3.132.0.34")
HASHES = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
ECDSA = {"sha256": "ecdsa-with-SHA256", "sha384": "ecdsa-with-SHA384", "sha512": "ecdsa-with-SHA512"}


def leftmost(curve, digest):
    value = int.from_bytes(digest, "big")
    return value >> max(0, len(digest) * 8 - curve.n.bit_length())


def rfc6979_nonce(curve, d, digest, name):
    make = HASHES[name]
    size = curve.len
    seed = d.to_bytes(size, "big") + (leftmost(curve, digest) % curve.n).to_bytes(size, "big")
    v, k = b"\1" * make().digest_size, b"\0" * make().digest_size
    for mark in (b"\0", b"\1"):
        k = hmac.new(k, v + mark + seed, make).digest()
        v = hmac.new(k, v, make).digest()
    while True:
        t = b""
        while len(t) < size:
            v = hmac.new(k, v, make).digest()
            t += v
        nonce = leftmost(curve, t[:size])
        if 0 < nonce < curve.n:
            return nonce
        k = hmac.new(k, v + b"\0", make).digest()
        v = hmac.new(k, v, make).digest()


def ecdsa_sign(curve, d, digest, k):
    r = curve.mul(k, curve.g)[0] % curve.n
    return r, pow(k, -1, curve.n) * (leftmost(curve, digest) + r * d) % curve.n


def ecdsa_verifies(curve, q, digest, r, s):
    if not (0 < r < curve.n and 0 < s < curve.n):
        return False
    w = pow(s, -1, curve.n)
    point = curve.add(curve.mul(leftmost(curve, digest) * w, curve.g), curve.mul(r * w, q))
    return point is not None and point[0] % curve.n == r


def rfc6979(curve, d, public_x, checks):
    q = curve.mul(d, curve.g)
    assert q[0] == public_x
    for message in (b"sample", b"test"):
        for name in HASHES:
            digest = HASHES[name](message).digest()
            r, s = ecdsa_sign(curve, d, digest, rfc6979_nonce(curve, d, digest, name))
            if (message, name) in checks:  # against the RFC's own text
                assert (r, s) == checks[message, name], (curve.name, message, name)
            emit("rfc6979-%s-%s-%s" % (curve.name, name, message.decode()), ECDSA[name], "ok",
                 curve.spki(q), seq(integer(r), integer(s)), message=message)


def ecdsa_edges(curve, name):
    rng = random.Random(curve.name)
    n, p, size = curve.n, curve.p, curve.len
    alg = ECDSA[name]
    d = rng.randrange(1, n)
    q = curve.mul(d, curve.g)
    message = b"certmill"
    digest = HASHES[name](message).digest()
    r, s = ecdsa_sign(curve, d, digest, rng.randrange(1, n))
    assert ecdsa_verifies(curve, q, digest, r, s)
    spki = curve.spki(q)

    def case(label, expected, signature, key=spki, dig=digest):
        emit("%s-%s" % (curve.name, label), alg, expected, key, signature, digest=dig)

    bad = "bad-signature"
    good = seq(integer(r), integer(s))
    case("good", "ok", good)
    case("s-negated-is-good", "ok", seq(integer(r), integer(n - s)))
    emit("%s-good-message" % curve.name, alg, "ok", spki, good, message=message)
    case("other-digest", bad, good, dig=HASHES[name](b"x").digest())
    case("other-key", bad, good, key=curve.spki(curve.mul(d + 1, curve.g)))
    case("negated-key", bad, good, key=curve.spki((q[0], p - q[1])))
    case("swapped", bad, seq(integer(s), integer(r)))
    for label, a, b in [
            ("r-0", 0, s), ("s-0", r, 0), ("both-0", 0, 0), ("r-n", n, s), ("s-n", r, n),
            ("both-n", n, n), ("r-plus-n", r + n, s), ("s-plus-n", r, s + n), ("r-p", p, s),
            ("r-1-s-1", 1, 1), ("r-negative", -r, s), ("s-negative", r, -s), ("r-minus-1", -1, s),
            ("r-n-minus-1", n - 1, s), ("s-n-minus-1", r, n - 1), ("s-2-to-512", r, 2**512),
            ("r-bit-flipped", r ^ 1, s), ("s-bit-flipped", r, s ^ 1), ("r-n-s-1", n, 1),
            ("r-n-plus-1", n + 1, s), ("s-n-plus-1", r, n + 1)]:
        case(label, bad, seq(integer(a), integer(b)))
    raw_r, raw_s = (tlv(2, b"\0" * (v.bit_length() % 8 == 0) +
                        v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (r, s))
    assert raw_r == integer(r)
    body_r, body_s = raw_r[2:], raw_s[2:]
    for label, signature in [
            ("empty-sequence", seq()), ("only-r", seq(raw_r)), ("three", seq(raw_r, raw_s, raw_s)),
            ("trailing-zero", good + b"\0"), ("trailing-null", good + b"\5\0"),
            ("trailing-inside", seq(raw_r, raw_s, b"\0")), ("truncated", good[:-1]),
            ("set", b"\x31" + good[1:]), ("octet-strings", seq(tlv(4, body_r), tlv(4, body_s))),
            ("r-padded", seq(tlv(2, b"\0" + body_r), raw_s)),
            ("r-padded-2", seq(tlv(2, b"\0\0" + body_r), raw_s)),
            ("s-padded", seq(raw_r, tlv(2, b"\0" + body_s))),
            ("r-empty", seq(tlv(2, b""), raw_s)), ("s-empty", seq(raw_r, tlv(2, b""))),
            ("length-81", b"\x30\x81" + good[1:]),
            ("length-82", b"\x30\x82\0" + good[1:]),
            ("inner-length-81", seq(b"\2\x81" + raw_r[1:], raw_s)),
            ("indefinite", b"\x30\x80" + raw_r + raw_s + b"\0\0"),
            ("length-too-long", bytes([0x30, good[1] + 1]) + good[2:]),
            ("length-too-short", bytes([0x30, good[1] - 1]) + good[2:]),
            ("length-0", b"\x30\0" + good[2:]), ("length-ff", b"\x30\xff" + good[2:]),
            ("tag-only", b"\x30"), ("raw", r.to_bytes(size, "big") + s.to_bytes(size, "big")),
            ("zeros", bytes(len(good))), ("nested", seq(good)), ("null", b"\5\0")]:
        assert signature != good
        case("der-" + label, bad, signature)
    # sign octet left out: a negative number with the right bits
    for label, which in (("r", 0), ("s", 1)):
        k = 1
        while True:
            k += 1
            pair = ecdsa_sign(curve, d, digest, k)
            if pair[which] >> (8 * size - 1):
                break
        parts = [integer(v) for v in pair]
        case("sign-octet-there-" + label, "ok", seq(*parts))
        parts[which] = tlv(2, parts[which][3:])
        case("sign-octet-missing-" + label, bad, seq(*parts))
    # short numbers: leading zeros of r and s are not encoded
    k = 1
    while ecdsa_sign(curve, d, digest, k)[1] >> (8 * size - 8):
        k += 1
    case("short-s", "ok", seq(*map(integer, ecdsa_sign(curve, d, digest, k))))

    # keys
    for label, body in [
            ("y-off", curve.encode((q[0], (q[1] + 1) % p))), ("x-off", curve.encode((q[0] ^ 1, q[1]))),
            ("zero-zero", curve.encode((0, 0))), ("x-p", curve.encode((p, q[1]))),
            ("infinity", b"\0"), ("infinity-long", bytes(2 * size + 1)),
            ("compressed", bytes([2 + q[1] % 2]) + q[0].to_bytes(size, "big")),
            ("hybrid", bytes([6 + q[1] % 2]) + curve.encode(q)[1:]),
            ("short", curve.encode(q)[:-1]), ("long", curve.encode(q) + b"\0"),
            ("one-y", curve.encode((q[0], 1))), ("zero-x", curve.encode((0, q[1]))),
            ("all-ones", b"\4" + b"\xff" * 2 * size)]:
        case("key-" + label, "bad-key", good, key=curve.spki_raw(body))
    x = 1
    while curve.lift(x) is None:
        x += 1
    low = curve.lift(x)
    room = 2**(8 * size) - p  # x + p still fits
    assert x < room
    case("key-x-plus-p", "bad-key", good, key=curve.spki_raw(curve.encode((x + p, low[1]))))
    # a sound point of the curve's other equation (invalid curve attack)
    case("key-of-another-curve", "bad-key", good,
         key=curve.spki_raw(curve.encode((q[0], (q[1] * 2) % p))))

    # --- from (u1, u2) back to a signature, so that any pair of scalars is met ---
    def forge(label, u1, u2, dd, expected="ok"):
        point = curve.mul(dd, curve.g)
        result = curve.add(curve.mul(u1, curve.g), curve.mul(u2, point))
        if (result is None) != (expected != "ok"):
            return
        rr = result[0] % n if result else 1 + rng.randrange(n - 1)
        ss = rr * pow(u2, -1, n) % n
        e = u1 * ss % n
        if rr == 0:
            return
        dig = (e << max(0, 8 * len(digest) - n.bit_length())).to_bytes(len(digest), "big")
        assert ecdsa_verifies(curve, point, dig, rr, ss) == (expected == "ok")
        case(label, expected, seq(integer(rr), integer(ss)), key=curve.spki(point), dig=dig)

    width = n.bit_length()
    alternating = int("a" * (width // 4), 16) % n
    scalars = [1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, n - 1, n - 2, n - 3,
               (n - 1) // 2, (n + 1) // 2, 2**(width - 1), 2**(width - 2), 2**(width - 1) - 1,
               alternating, n - alternating, 2**64, 2**64 - 1, 2**128, 2**128 + 1, 2**192 - 1,
               n - 2**128, n - 16, n - 32, n - 64, 2**(width - 1) + 1, 2**52, 2**52 - 1, 2**104,
               2**208, 2**248, 2**254 - 2**200, rng.randrange(1, n), rng.randrange(1, n)]
    for i, u1 in enumerate([0] + scalars):
        for dd in (1, 2, n - 1, d):
            u2 = scalars[(7 * i + dd % 11) % len(scalars)]
            if (u1 + u2 * dd) % n:
                forge("u1-%d-d-%s" % (i, {1: "1", 2: "2", n - 1: "minus1", d: "any"}[dd]), u1, u2, dd)
    for i, u2 in enumerate(scalars):
        u1 = rng.randrange(1, n)
        forge("u2-%d" % i, u1, u2, d)
        forge("u2-%d-sum-is-infinity" % i, -u2 * d % n, u2, d, "bad-signature")
        forge("u2-%d-same-points" % i, u2 * d % n, u2, d)  # the addition is a doubling
        for dd in (1, 3, n - 1, n - 5):
            forge("u2-%d-near-%s" % (i, dd if dd < 9 else "minus%d" % (n - dd)),
                  (u2 * dd + 1) % n, u2, dd)
    # Sums that meet themselves on the way, with the key being a small multiple of G: a table addition
    # then doubles, or comes to nothing before the end
    for u in list(range(1, 34)) + [5 << 60, 31 << 120, 32 << 60, 1 << 252, (1 << 252) + 5]:
        forge("meets-%x" % u, u, u, 1)
        forge("meets-%x-negative" % u, u, n - u, n - 1)
        forge("vanishes-%x" % u, 64 - u if u < 64 else (u << 6) - u, u, 1)
        forge("vanishes-%x-negative" % u, (u << 6) - u, n - u, n - 1)
    # and the same with an r that is not the sum's x: what the formulas leave behind must not fit
    for i, (u1, u2, dd) in enumerate([(5, 5, 1), (59, 5, 1), (33, 31, 1), (1, 1, 1), (63, 1, 1),
                                      (31 << 120, 31 << 120, 1), (5, n - 5, n - 1),
                                      (59, n - 5, n - 1), (n - 5, 5, 1), (5, 5, n - 1)]):
        for rr in (12345, n - 1, 2**200 + 1):
            ss = rr * pow(u2, -1, n) % n
            point = curve.mul(dd, curve.g)
            dig = (u1 * ss % n << max(0, 8 * len(digest) - width)).to_bytes(len(digest), "big")
            assert not ecdsa_verifies(curve, point, dig, rr, ss)
            case("left-behind-%d-%x" % (i, rr % 65536), bad, seq(integer(rr), integer(ss)),
                 key=curve.spki(point), dig=dig)
    # x of the sum is at least n: r is x - n, and verification meets r + n (FIPS 186-4 6.4.2: v = x mod n)
    x = n
    found = 0
    while found < 3:
        x += 1
        point = curve.lift(x)
        if point is None:
            continue
        found += 1
        rr, ss, e = x - n, rng.randrange(1, n), rng.randrange(n)
        key = curve.mul(pow(rr, -1, n), curve.add(curve.mul(ss, point), curve.mul(n - e, curve.g)))
        dig = (e << max(0, 8 * len(digest) - width)).to_bytes(len(digest), "big")
        assert ecdsa_verifies(curve, key, dig, rr, ss)
        case("x-above-n-%d" % found, "ok", seq(integer(rr), integer(ss)), key=curve.spki(key), dig=dig)
        case("x-above-n-%d-other" % found, "bad-signature", seq(integer(rr + 1), integer(ss)),
             key=curve.spki(key), dig=dig)
        case("x-above-n-%d-as-it-is" % found, "bad-signature", seq(integer(x), integer(ss)),
             key=curve.spki(key), dig=dig)
    # r, or s, so small that adding n leaves the length as it is
    x = 1
    while curve.lift(x) is None:
        x += 1
    ss, e = rng.randrange(1, n), rng.randrange(n)
    key = curve.mul(pow(x, -1, n), curve.add(curve.mul(ss, curve.lift(x)), curve.mul(n - e, curve.g)))
    dig = (e << max(0, 8 * len(digest) - width)).to_bytes(len(digest), "big")
    assert ecdsa_verifies(curve, key, dig, x, ss)
    case("small-r", "ok", seq(integer(x), integer(ss)), key=curve.spki(key), dig=dig)
    case("small-r-plus-n", "bad-signature", seq(integer(x + n), integer(ss)), key=curve.spki(key), dig=dig)
    k = rng.randrange(1, n)
    rr = curve.mul(k, curve.g)[0] % n
    e = (77 * k - rr * d) % n
    dig = (e << max(0, 8 * len(digest) - width)).to_bytes(len(digest), "big")
    case("small-s", "ok", seq(integer(rr), integer(77)), dig=dig)
    case("small-s-plus-n", "bad-signature", seq(integer(rr), integer(77 + n)), dig=dig)
    for i in range(40):
        dd, k = rng.randrange(1, n), rng.randrange(1, n)
        dig = rng.randbytes(len(digest))
        rr, ss = ecdsa_sign(curve, dd, dig, k)
        case("random-%d" % i, "ok", seq(integer(rr), integer(ss)),
             key=curve.spki(curve.mul(dd, curve.g)), dig=dig)
    for fill in (b"\0", b"\xff"):
        dig = fill * len(digest)
        rr, ss = ecdsa_sign(curve, d, dig, 12345)
        case("digest-all-%s" % fill.hex(), "ok", seq(integer(rr), integer(ss)), dig=dig)


# --- RSA ---

RSA_OID = seq(oid("1.2.840.113549.1.1.1"), b"\5\0")
HASH_OIDS = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1",
             "sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3"}


def is_prime(n, rng):
    if any(n % q == 0 for q in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
        return False
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for _ in range(24):
        x = pow(rng.randrange(2, n - 1), d, n)
        if x in (1, n - 1):
            continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


class Rsa:
    def __init__(self, bits_, e, rng):
        def prime(size):
            while True:
                c = rng.getrandbits(size) | 3 << (size - 2) | 1
                if (c - 1) % e and is_prime(c, rng):
                    return c
        while True:
            p, q = prime((bits_ + 1) // 2), prime(bits_ // 2)
            self.n = p * q
            if self.n.bit_length() == bits_ and p != q:
                break
        self.e, self.bits = e, bits_
        self.d = pow(e, -1, (p - 1) * (q - 1))
        self.len = (bits_ + 7) // 8

    def spki(self, e=None, n=None):
        return seq(RSA_OID, bits(seq(integer(n or self.n), integer(e or self.e))))

    def private(self, em):
        value = int.from_bytes(em, "big")
        assert value < self.n
        return pow(value, self.d, self.n).to_bytes(self.len, "big")


def digest_info(name, digest, null=b"\5\0"):
    return seq(seq(oid(HASH_OIDS[name]), null), tlv(4, digest))


def pkcs1(size, info):
    return b"\0\1" + b"\xff" * (size - 3 - len(info)) + b"\0" + info


def mgf1(name, seed, size):
    out = b""
    while len(out) < size:
        out += HASHES[name](seed + (len(out) // HASHES[name]().digest_size).to_bytes(4, "big")).digest()
    return out[:size]


def pss(em_bits, name, digest, salt, mgf=None, trailer=0xbc, padding=b"\0", mark=1, top=0):
    size = (em_bits + 7) // 8
    h = HASHES[name](bytes(8) + digest + salt).digest()
    ps = padding * (size - len(salt) - len(h) - 2)
    db = ps + bytes([mark]) + salt
    masked = bytes(a ^ b for a, b in zip(db, mgf1(mgf or name, h, len(db))))
    first = masked[0] & (0xff >> (8 * size - em_bits)) | top
    return bytes([first]) + masked[1:] + h + bytes([trailer])


def rsa_cases():
    rng = random.Random("rsa")
    message = b"certmill"
    bad = "bad-signature"
    for size, e in [(2048, 65537), (2049, 65537), (2056, 3), (3072, 65537), (4096, 2**32 - 5 | 1),
                    (2047 + 5, 17)]:
        key = Rsa(size, e, rng)
        spki = key.spki()
        for name in HASHES:
            digest = HASHES[name](message).digest()
            plain = {"sha256": "sha256WithRSAEncryption", "sha384": "sha384WithRSAEncryption",
                     "sha512": "sha512WithRSAEncryption"}[name]
            probabilistic = "rsassa-pss-" + name.upper()
            label = "rsa%d-%s" % (size, name)
            info = digest_info(name, digest)
            good = key.private(pkcs1(key.len, info))
            emit(label + "-good", plain, "ok", spki, good, message=message)
            emit(label + "-good-digest", plain, "ok", spki, good, digest=digest)
            salt = rng.randbytes(len(digest))
            em = pss(size - 1, name, digest, salt)
            emit(label + "-pss-good", probabilistic, "ok", spki, key.private(em), message=message)
            emit(label + "-pss-as-pkcs1", plain, bad, spki, key.private(em), message=message)
            emit(label + "-pkcs1-as-pss", probabilistic, bad, spki, good, message=message)
            if name != "sha256" or size not in (2048, 2049, 2056):
                continue
            other = HASHES[name](b"other").digest()
            short = b"\0\1" + b"\xff" * 8 + b"\0" + info
            forgeries = {
                "other-digest": pkcs1(key.len, digest_info(name, other)),
                "short-padding-garbage": short + rng.randbytes(key.len - len(short)),
                "short-padding-zeros": short + bytes(key.len - len(short)),
                "garbage-in-digest-info": pkcs1(key.len, seq(seq(oid(HASH_OIDS[name]), b"\5\0"),
                                                             tlv(4, digest), tlv(4, b"garbage"))),
                "trailing-byte": pkcs1(key.len, info + b"\0"),
                "no-null": pkcs1(key.len, digest_info(name, digest, b"")),
                "parameters": pkcs1(key.len, digest_info(name, digest, tlv(4, b"x" * 40))),
                "block-type-0": b"\0\0" + pkcs1(key.len, info)[2:],
                "block-type-2": b"\0\2" + pkcs1(key.len, info)[2:],
                "leading-1": None,
                "ff-missing": pkcs1(key.len, info).replace(b"\xff\xff", b"\xff\xfe", 1),
                "no-separator": pkcs1(key.len, info).replace(b"\xff\0\x30", b"\xff\xff\x30", 1),
                "hash-of-sha512": pkcs1(key.len, digest_info("sha512", HASHES["sha512"](message).digest())),
                "oid-of-sha512": pkcs1(key.len, digest_info("sha512", digest)),
                "no-digest-info": pkcs1(key.len, digest),
                "digest-empty": pkcs1(key.len, digest_info(name, b"")),
                "digest-cut": pkcs1(key.len, digest_info(name, digest[:31])),
                "ber-length": pkcs1(key.len, b"\x30\x81" + info[1:]),
                "zero": bytes(key.len),
                "one": bytes(key.len - 1) + b"\1",
            }
            for what, block in forgeries.items():
                if block is not None:
                    assert len(block) == key.len
                    emit("%s-forged-%s" % (label, what), plain, bad, spki, key.private(block),
                         message=message)
            emit(label + "-signature-plus-n", plain, bad, spki,
                 (int.from_bytes(good, "big") + key.n).to_bytes(key.len + 1, "big"), message=message)
            value = int.from_bytes(good, "big") + key.n
            if value.bit_length() <= 8 * key.len:
                emit(label + "-signature-above-n", plain, bad, spki, value.to_bytes(key.len, "big"),
                     message=message)
            emit(label + "-signature-is-n", plain, bad, spki, key.n.to_bytes(key.len, "big"),
                 message=message)
            emit(label + "-signature-zero-before", plain, bad, spki, b"\0" + good, message=message)
            emit(label + "-signature-zero-after", plain, bad, spki, good + b"\0", message=message)
            emit(label + "-signature-short", plain, bad, spki, good[1:], message=message)
            emit(label + "-signature-empty", plain, bad, spki, b"", message=message)
            emit(label + "-bit-flipped", plain, bad, spki, good[:-1] + bytes([good[-1] ^ 1]),
                 message=message)
            variants = {
                "salt-0": pss(size - 1, name, digest, b""),
                "salt-20": pss(size - 1, name, digest, rng.randbytes(20)),
                "salt-31": pss(size - 1, name, digest, rng.randbytes(31)),
                "salt-33": pss(size - 1, name, digest, rng.randbytes(33)),
                "salt-64": pss(size - 1, name, digest, rng.randbytes(64)),
                "salt-most": pss(size - 1, name, digest,
                                 rng.randbytes((size + 6) // 8 - len(digest) - 2)),
                "mgf-sha512": pss(size - 1, name, digest, salt, mgf="sha512"),
                "trailer-cc": pss(size - 1, name, digest, salt, trailer=0xcc),
                "padding-not-zero": pss(size - 1, name, digest, salt, padding=b"\1"),
                "mark-0": pss(size - 1, name, digest, salt, mark=0),
                "mark-3": pss(size - 1, name, digest, salt, mark=3),
                "other-digest": pss(size - 1, name, other, salt),
            }
            if size % 8 == 0:  # a set bit above em_bits that still leaves em below n
                block = b"\xff"
                while int.from_bytes(block.ljust(key.len, b"\xff"), "big") >= key.n:
                    block = pss(size - 1, name, digest, rng.randbytes(32), top=0x80)
                variants["top-bit"] = block
            for what, block in variants.items():
                block = block.rjust(key.len, b"\0")
                if int.from_bytes(block, "big") < key.n:
                    emit("%s-pss-%s" % (label, what), probabilistic, bad, spki, key.private(block),
                         message=message)
            if size == 2049:  # em is one byte shorter than the modulus: what stands before must be 0
                block = b"\xff" * key.len
                while int.from_bytes(block, "big") >= key.n:
                    block = b"\1" + pss(size - 1, name, digest, rng.randbytes(32))
                emit(label + "-pss-first-byte", probabilistic, bad, spki, key.private(block),
                     message=message)
            if e == 3:
                # Bleichenbacher 2006: a cube root whose cube starts right and goes on as it likes
                want = int.from_bytes(short + b"\xff" * (key.len - len(short)), "big")
                root = round(want ** (1 / 3)) if want < 2**1000 else None
                low, high = 0, 1 << (key.bits // 3 + 2)
                while low < high:
                    middle = (low + high + 1) // 2
                    low, high = (middle, high) if middle**3 <= want else (low, middle - 1)
                root = low
                assert (root**3).to_bytes(key.len, "big").startswith(short)
                emit(label + "-forged-cube-root", plain, bad, spki, root.to_bytes(key.len, "big"),
                     message=message)
            for what, exponent in [("1", 1), ("even", 65536), ("2", 2), ("long", 2**32 + 1),
                                   ("huge", 2**2000 + 1)]:
                emit("%s-exponent-%s" % (label, what), plain, "bad-key", key.spki(e=exponent), good,
                     message=message)
            emit(label + "-modulus-even", plain, "bad-key", key.spki(n=key.n - 1), good,
                 message=message)
    small = Rsa(1024, 65537, rng)
    emit("rsa1024-too-short", "sha256WithRSAEncryption", "bad-key", small.spki(),
         small.private(pkcs1(128, digest_info("sha256", HASHES["sha256"](message).digest()))),
         message=message)


# --- Ed25519 ---

ED_Q = 2**255 - 19
ED_L = 2**252 + 27742317777372353535851937790883648493


def ed25519_spki(raw):
    return seq(seq(oid("1.3.101.112")), bits(raw))


def ed25519_cases():
    # RFC 8032 7.1: secret key, public key, message, signature
    vectors = [
        ("1", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
        ("2", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
        ("3", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
        ("sha-abc", "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
         hashlib.sha512(b"abc").hexdigest(),
         "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"),
    ]
    for name, public, message, signature in vectors:
        emit("rfc8032-" + name, "Ed25519", "ok", ed25519_spki(bytes.fromhex(public)),
             bytes.fromhex(signature), message=bytes.fromhex(message))
    public, message, good = (bytes.fromhex(vectors[2][i]) for i in (1, 2, 3))
    bad = "bad-signature"
    spki = ed25519_spki(public)

    def case(label, expected, signature, key=spki, msg=message):
        emit("ed25519-" + label, "Ed25519", expected, key, signature, message=msg)

    s = int.from_bytes(good[32:], "little")
    case("s-plus-order", bad, good[:32] + (s + ED_L).to_bytes(32, "little"))
    case("s-is-order", bad, good[:32] + ED_L.to_bytes(32, "little"))
    case("s-all-ones", bad, good[:32] + b"\xff" * 32)
    case("r-flipped", bad, bytes([good[0] ^ 1]) + good[1:])
    case("s-flipped", bad, good[:32] + bytes([good[32] ^ 1]) + good[33:])
    case("other-message", bad, good, msg=b"x")
    case("short", bad, good[:-1])
    case("long", bad, good + b"\0")
    case("other-key", bad, good, key=ed25519_spki(bytes.fromhex(vectors[0][1])))
    # small order: A = (0, 1) would make R = [S]B valid for every message
    case("key-identity", bad, (b"\1" + bytes(31)) + bytes(32), key=ed25519_spki(b"\1" + bytes(31)))
    case("key-zero", bad, bytes(64), key=ed25519_spki(bytes(32)))
    case("key-not-canonical", "bad-key", good, key=ed25519_spki((ED_Q + 1).to_bytes(32, "little")))
    case("key-p", "bad-key", good, key=ed25519_spki(ED_Q.to_bytes(32, "little")))
    case("key-all-ones", "bad-key", good, key=ed25519_spki(b"\xff" * 32))
    case("key-no-square-root", bad, good, key=ed25519_spki(b"\2" + bytes(31)))


# --- keys as the openssl command writes them, with a signature by each ---

def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, **kwargs).stdout


def openssl_keys(folder):
    os.makedirs(folder, exist_ok=True)
    kinds = [("p256", ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "ecdsa-with-SHA256", "sha256"),
             ("p384", ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "ecdsa-with-SHA384", "sha384"),
             ("rsa2048", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "sha256WithRSAEncryption", "sha256"),
             ("rsa3072", ["RSA", "-pkeyopt", "rsa_keygen_bits:3072"], "sha384WithRSAEncryption", "sha384"),
             ("rsa4096", ["RSA", "-pkeyopt", "rsa_keygen_bits:4096"], "sha512WithRSAEncryption", "sha512"),
             ("ed25519", ["ED25519"], "Ed25519", None)]
    message = b"a message that the openssl command signed"
    with tempfile.TemporaryDirectory() as tmp:
        pem, text = os.path.join(tmp, "key.pem"), os.path.join(tmp, "message")
        with open(text, "wb") as file:
            file.write(message)
        for name, options, alg, digest in kinds:
            run("openssl", "genpkey", "-algorithm", *options, "-out", pem)
            run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", pem, "-outform", "DER", "-out",
                os.path.join(folder, name + ".pkcs8.der"))
            spki = run("openssl", "pkey", "-in", pem, "-pubout", "-outform", "DER")
            with open(os.path.join(folder, name + ".spki.der"), "wb") as file:
                file.write(spki)
            if name != "ed25519":
                own = run("openssl", "pkey", "-in", pem, "-traditional", "-outform", "DER")
                with open(os.path.join(folder, name + ".own.der"), "wb") as file:
                    file.write(own)
                signature = run("openssl", "dgst", "-" + digest, "-sign", pem, text)
            else:
                signature = run("openssl", "pkeyutl", "-sign", "-inkey", pem, "-rawin", "-in", text)
            emit("openssl-" + name, alg, "ok", spki, signature, message=message)
            if name.startswith("rsa"):
                signature = run("openssl", "dgst", "-" + digest, "-sigopt", "rsa_padding_mode:pss",
                                "-sigopt", "rsa_pss_saltlen:digest", "-sign", pem, text)
                emit("openssl-pss-" + name, "rsassa-pss-" + digest.upper(), "ok", spki, signature,
                     message=message)


# --- certificate chains ---

def chains(folder):
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        def path(name):
            return os.path.join(tmp, name)

        def make(name, issuer, extensions, subject=None, start="20200101000000Z",
                 end="20491231235959Z", key=None, kind=None):
            """A certificate `name` by `issuer` (None: self-signed); key: whose key pair to use."""
            key = key or name
            if not os.path.exists(path(key + ".key")):
                run("openssl", "genpkey", "-algorithm", *(kind or ["EC", "-pkeyopt",
                    "ec_paramgen_curve:P-256"]), "-out", path(key + ".key"))
            signer = issuer or name
            signer_key = KEYS.get(signer, signer)
            KEYS[name] = key
            with open(path("ca.cnf"), "w") as file:
                file.write("[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nserial=%s\nnew_certs_dir=%s\n"
                           "default_md=sha256\npolicy=p\nunique_subject=no\nrand_serial=yes\n"
                           "email_in_dn=no\n[p]\ncommonName=supplied\n[x]\n%s\n" %
                           (path("db"), path("serial"), tmp, "\n".join(extensions)))
            open(path("db"), "w").close()
            run("openssl", "req", "-new", "-key", path(key + ".key"), "-subj",
                "/CN=" + (subject or name), "-out", path("csr"))
            args = ["openssl", "ca", "-batch", "-notext", "-config", path("ca.cnf"), "-extensions",
                    "x", "-in", path("csr"), "-out", path(name + ".pem"), "-startdate", start,
                    "-enddate", end, "-keyfile", path(signer_key + ".key")]
            args += ["-cert", path(issuer + ".pem")] if issuer else ["-selfsign"]
            run(*args)
            run("openssl", "x509", "-in", path(name + ".pem"), "-outform", "DER", "-out",
                os.path.join(folder, name + ".der"))

        KEYS = {}
        ca = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
              "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
        leaf = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
                "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]

        def ca_with(length=None, usage="keyCertSign,cRLSign"):
            first = "basicConstraints=critical,CA:TRUE" + ("" if length is None else ",pathlen:%d" % length)
            return [first, "keyUsage=critical," + usage] + ca[2:]

        make("root", None, ca)
        make("inter", "root", ca)
        make("leaf", "inter", leaf)
        make("leaf-of-root", "root", leaf)
        make("leaf-expired", "inter", leaf, end="20210101000000Z")
        make("leaf-future", "inter", leaf, start="20480101000000Z")
        make("inter-expired", "root", ca, end="20210101000000Z")
        make("leaf-of-expired", "inter-expired", leaf)
        make("root-expired", None, ca, end="20210101000000Z")
        make("leaf-of-root-expired", "root-expired", leaf)
        # CA:FALSE, or no right to sign certificates, in the middle
        make("inter-not-ca", "root", leaf)
        make("leaf-of-not-ca", "inter-not-ca", leaf)
        make("inter-no-sign", "root", ca_with(usage="cRLSign,digitalSignature"))
        make("leaf-of-no-sign", "inter-no-sign", leaf)
        make("inter-not-ca-signs", "root", ["basicConstraints=critical,CA:FALSE",
                                            "keyUsage=critical,keyCertSign"] + ca[2:])
        make("leaf-of-not-ca-signs", "inter-not-ca-signs", leaf)
        make("inter-no-constraints", "root", ["keyUsage=critical,keyCertSign"] + ca[2:])
        make("leaf-of-no-constraints", "inter-no-constraints", leaf)
        make("inter-no-usage", "root", ["basicConstraints=critical,CA:TRUE",
                                        "subjectKeyIdentifier=hash"])
        make("leaf-of-no-usage", "inter-no-usage", leaf)
        # pathLenConstraint
        make("inter-len0", "root", ca_with(0))
        make("inter-below-len0", "inter-len0", ca)
        make("leaf-of-len0", "inter-len0", leaf)
        make("leaf-below-len0", "inter-below-len0", leaf)
        make("root-len0", None, ca_with(0))
        make("inter-of-root-len0", "root-len0", ca)
        make("leaf-of-root-len0", "root-len0", leaf)
        make("leaf-too-deep", "inter-of-root-len0", leaf)
        # a self-issued intermediate (key rollover) does not count for pathLen
        make("inter-len0-new", "inter-len0", ca_with(0), subject="inter-len0")
        make("leaf-of-rollover", "inter-len0-new", leaf)
        # names and keys that do not fit
        make("other-root", None, ca)
        make("root-same-name", None, ca, subject="root")
        make("inter-same-name", "root-same-name", ca, subject="inter")
        make("leaf-of-same-name", "inter-same-name", leaf)
        make("leaf-wrong-issuer", "other-root", leaf)
        # critical extensions
        make("leaf-unknown-critical", "inter", leaf + ["1.2.3.4.5.6.7=critical,DER:0500"])
        make("leaf-unknown-harmless", "inter", leaf + ["1.2.3.4.5.6.7=DER:0500"])
        make("inter-unknown-critical", "root", ca + ["1.2.3.4.5.6.7=critical,DER:0500"])
        make("leaf-of-unknown-critical", "inter-unknown-critical", leaf)
        make("inter-name-constraints", "root", ca + ["nameConstraints=critical,permitted;DNS:x.org"])
        make("leaf-of-name-constraints", "inter-name-constraints", leaf)
        # a cross-certificate: one intermediate, two issuers
        make("inter-cross", "other-root", ca, subject="inter", key="inter")
        # the intermediate's key under another name
        make("inter-renamed", "root", ca, subject="renamed", key="inter")
        # other algorithms
        make("root-rsa", None, ca, kind=["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        make("leaf-of-rsa", "root-rsa", leaf)
        make("root-p384", None, ca, kind=["EC", "-pkeyopt", "ec_paramgen_curve:P-384"])
        make("leaf-of-p384", "root-p384", leaf)
        # six certificates from the end entity to an intermediate
        previous = "root"
        for i in range(1, 7):
            make("deep-%d" % i, previous, ca)
            previous = "deep-%d" % i
        make("leaf-deep-5", "deep-5", leaf)
        make("leaf-deep-6", "deep-6", leaf)
        # a signature that is wrong in one bit
        with open(os.path.join(folder, "leaf.der"), "rb") as file:
            der = bytearray(file.read())
        der[-1] ^= 1
        with open(os.path.join(folder, "leaf-forged.der"), "wb") as file:
            file.write(der)


def main():
    rfc6979(P256, 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721,
            0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
            {(b"sample", "sha256"): (0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
                                     0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8)})
    rfc6979(P384, 0x6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5,
            0xEC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13,
            {(b"sample", "sha384"): (0x94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46,
                                     0x99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8)})
    ecdsa_edges(P256, "sha256")
    ecdsa_edges(P384, "sha384")
    rsa_cases()
    ed25519_cases()
    openssl_keys(os.path.join(HERE, "keys"))
    chains(os.path.join(HERE, "path"))
    with open(os.path.join(HERE, "verify.txt"), "w") as file:
        file.write("\n".join(LINES) + "\n")
    names = [line.split(" ")[0] for line in LINES]
    assert len(names) == len(set(names)), "names are unique"
    print("%d vectors" % len(LINES))


if __name__ == "__main__":
    main()
