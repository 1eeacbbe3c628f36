"""CMP messages made by hand, octet by octet: what no client at hand writes. They are well-formed, but their signatures
and MACs are none.

Run with a folder, this writes them there, as seeds of the fuzzers cmp_msg and crmf: cmp_make.py tests/fuzz/corpus
"""
import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

BODIES = ["ir", "ip", "cr", "cp", "p10cr", "popdecc", "popdecr", "kur", "kup", "krr", "krp", "rr", "rp", "ccr", "ccp",
          "ckuann", "cann", "rann", "crlann", "pkiconf", "nested", "genm", "genp", "error", "certConf", "pollReq",
          "pollRep"]


# --- DER -----------------------------------------------------------------------------------------

def tlv(tag, *parts):
    contents = b"".join(parts)
    size = len(contents)
    if size < 0x80:
        length = bytes([size])
    else:
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(octets)]) + octets
    return bytes([tag]) + length + contents


def seq(*parts):
    return tlv(0x30, *parts)


def ctx(number, *parts):
    """[number] EXPLICIT, or IMPLICIT and constructed."""
    return tlv(0xa0 | number, *parts)


def num(value):
    return tlv(0x02, value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True))


def octets(data):
    return tlv(0x04, data)


def bits(data, unused=0):
    return tlv(0x03, bytes([unused]), data)


def utf8(text):
    return tlv(0x0c, text.encode())


def when(text):
    return tlv(0x18, text.encode())


def oid(dotted):
    first, second, *arcs = map(int, dotted.split("."))
    out = b""
    for arc in [40 * first + second, *arcs]:
        part = bytes([arc & 0x7f])
        while arc > 0x7f:
            arc >>= 7
            part = bytes([0x80 | arc & 0x7f]) + part
        out += part
    return tlv(0x06, out)


def inside(der):
    """The contents of one element."""
    size = der[1]
    return der[2:] if size < 0x80 else der[2 + size - 0x80:]


def retag(tag, der):
    return bytes([tag]) + der[1:]


# --- parts ---------------------------------------------------------------------------------------

NULL = tlv(0x05)
ECDSA = seq(oid("1.2.840.10045.4.3.2"))
SHA256 = seq(oid("2.16.840.1.101.3.4.2.1"))
PBM = seq(oid("1.2.840.113533.7.66.13"),
          seq(octets(b"saltsalt"), SHA256, num(1000), seq(oid("1.3.6.1.5.5.8.1.2"))))
SIGNATURE = seq(num(1 << 255), num(5))


def name(cn):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else []).public_bytes()


def directory(cn):
    return ctx(4, name(cn))


def public_key(kind="p256"):
    key = (ec.derive_private_key(7, ec.SECP256R1()) if kind == "p256" else
           ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def extension(dotted, value, critical=False):
    return seq(oid(dotted), tlv(0x01, b"\xff") if critical else b"", octets(value))


def certificate():
    """The same octets every time."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    day = datetime.datetime(2026, 1, 1)
    built = x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key()).serial_number(
        128).not_valid_before(day).not_valid_after(day.replace(year=2027)).sign(key, None)
    return built.public_bytes(serialization.Encoding.DER)


SAN = extension("2.5.29.17", seq(tlv(0x82, b"dev.example")))
KEY_USAGE = extension("2.5.29.15", bits(b"\x80", 7), critical=True)


def template(cn=None, spki=None, *, before=b"", validity=b"", extensions=b""):
    """before: what comes before validity, [0] to [3]."""
    return seq(before, validity, ctx(5, name(cn)) if cn is not None else b"",
               retag(0xa6, spki) if spki else b"", ctx(9, extensions) if extensions else b"")


def control(arc, value):
    return seq(oid(f"1.3.6.1.5.5.7.5.1.{arc}"), value)


def cert_id(cn, serial):
    return seq(directory(cn), num(serial))


def signed(*, signature_input=b"", alg=ECDSA):
    return ctx(1, signature_input, alg, bits(SIGNATURE))


def request(number, the_template, *, controls=b"", pop=b"", reg_info=b""):
    return seq(seq(num(number), the_template, seq(controls) if controls else b""), pop,
               seq(reg_info) if reg_info else b"")


def info(arc, value=b""):
    return seq(oid(f"1.3.6.1.5.5.7.4.{arc}"), value)


def status(value, text="", fail=None):
    return seq(num(value), seq(utf8(text)) if text else b"", fail or b"")


def header(*, pvno=2, sender=None, recipient=None, time=b"", alg=b"", kid=b"", recip_kid=b"", tid=b"transaction-0001",
           nonce=b"0123456789abcdef", recip_nonce=b"", text=b"", infos=b""):
    def tagged(number, data):
        return ctx(number, octets(data)) if data else b""
    return seq(num(pvno), sender or directory("dev"), recipient or directory("ca"),
               ctx(0, time) if time else b"", ctx(1, alg) if alg else b"", tagged(2, kid), tagged(3, recip_kid),
               tagged(4, tid), tagged(5, nonce), tagged(6, recip_nonce), ctx(7, seq(text)) if text else b"",
               ctx(8, seq(infos)) if infos else b"")


def message(body, content, *, protection=b"", extra=(), **of_header):
    return seq(header(**of_header), ctx(BODIES.index(body), content),
               ctx(0, bits(protection)) if protection else b"", ctx(1, seq(*extra)) if extra else b"")


# --- requests and messages, by name --------------------------------------------------------------

def requests():
    key = public_key()
    sender_input = ctx(0, ctx(0, directory("known")), key)
    mac_input = ctx(0, seq(PBM, bits(b"m" * 20)), key)
    return {
        "plain": request(0, template("dev", key), pop=signed()),
        "no-pop": request(-1, template("dev", key)),
        "ra-verified": request(1, template("dev", key), pop=tlv(0x80)),
        "ed25519": request(2, template("dev", public_key("ed25519")), pop=signed(alg=seq(oid("1.3.101.112")))),
        "wide": request(3, template(
            "dev", key, before=tlv(0x80, b"\x02") + ctx(3, name("ca")), extensions=SAN + KEY_USAGE,
            validity=ctx(4, ctx(0, tlv(0x17, b"260101000000Z")), ctx(1, when("20501231235959Z")))), pop=signed()),
        "not-after": request(300, template("dev", key, validity=ctx(4, ctx(1, when("99991231235959Z")))), pop=signed()),
        "empty-subject": request(4, template("", key, extensions=SAN), pop=signed(signature_input=sender_input)),
        "sender-input": request(5, template(None, key), pop=signed(signature_input=sender_input)),
        "mac-input": request(70000, template(None, key), pop=signed(signature_input=mac_input)),
        "encr-cert": request(6, template("dev", key), pop=ctx(2, tlv(0x81, b"\x00"))),
        "challenge": request(7, template("dev", key), pop=ctx(3, tlv(0x81, b"\x01"))),
        "this-message": request(8, template("dev", key), pop=ctx(2, tlv(0x80, b"\x00key"))),
        "dh-mac": request(9, template("dev", key), pop=ctx(3, tlv(0x82, b"\x00mac"))),
        "agree-mac": request(10, template("dev", key), pop=ctx(3, ctx(3, PBM, bits(b"mac")))),
        "enveloped": request(11, template("dev", key), pop=ctx(2, ctx(4, num(2), tlv(0x31)))),
        "central": request(12, template("dev")),
        "central-alg": request(13, template("dev", seq(inside(key)[:2 + inside(key)[1]], bits(b"")))),
        "nothing": request(14, template()),
        "controls": request(15, template("dev", key), pop=signed(), controls=b"".join([
            control(1, utf8("token")), control(2, utf8("who")), control(3, seq(num(0))),
            control(4, tlv(0x82, b"\xff")), control(5, cert_id("ca", 77)), control(6, key),
            control(12, num(2048)), seq(oid("1.2.3"), NULL)])),
        "reg-info": request(16, template("dev", key), pop=signed(), reg_info=seq(oid("1.3.6.1.5.5.7.5.2.1"),
                                                                                utf8("a?b%"))),
    }


def responses():
    cert = certificate()
    value = seq(ctx(0, *[inside(SHA256)]), tlv(0x82, b"\x00key"), bits(b"v"))
    return seq(ctx(1, seq(cert, cert)), seq(
        seq(num(0), status(0), seq(ctx(0, cert))),
        seq(num(1), status(1, "changed"), seq(ctx(0, cert), ctx(1, seq(num(0)))), octets(b"info")),
        seq(num(2), status(0), seq(ctx(1, value), ctx(0, value))),
        seq(num(-1), status(2, "no", tlv(0x03, b"\x06\x00\x40"))),
        seq(num(5), status(3)),
        seq(num(6), status(2, "", tlv(0x03, b"\x05\x00\x00\x00\x20")))))


def messages():
    all_requests = requests()
    some = {f"ir-{key}": message("ir", seq(one)) for key, one in all_requests.items()}
    template_ca = seq(tlv(0x81, b"\x00\x80"), ctx(3, name("ca")))
    reason = seq(extension("2.5.29.21", tlv(0x0a, b"\x08")))
    cert, enveloped = certificate(), ctx(0, num(2), tlv(0x31))
    plain = message("ir", seq(all_requests["plain"]))
    some |= {
        "cr-batch": message("cr", seq(*(all_requests[key] for key in ("plain", "wide", "ra-verified", "ed25519"))),
                            infos=info(13, NULL)),
        "kur": message("kur", seq(all_requests["controls"]), alg=ECDSA, protection=SIGNATURE, kid=b"kid",
                       extra=[cert, cert]),
        "ip": message("ip", responses()),
        "ip-enveloped": message("ip", seq(seq(
            seq(num(0), status(0), seq(ctx(0, cert), ctx(0, enveloped))),
            seq(num(1), status(0), seq(ctx(1, enveloped)))))),
        "cp-empty": message("cp", seq(seq())),
        "rr": message("rr", seq(seq(template_ca, reason), seq(template_ca), seq(seq()),
                                seq(seq(ctx(3, name("ca")), ctx(4, ctx(0, tlv(0x17, b"260101000000Z"))),
                                        tlv(0x87, b"\x00u"))))),
        "rp": message("rp", seq(seq(status(0), status(5, "gone")))),
        "rp-ids": message("rp", seq(seq(status(0)), ctx(0, seq(cert_id("ca", 128))), ctx(1, seq(cert)))),
        "genm": message("genm", seq(info(17), info(19, NULL), info(22, seq(seq(ctx(0, ctx(0, tlv(0x86, b"u:x")))))))),
        "genm-empty": message("genm", seq()),
        "genp": message("genp", seq(info(17, seq(cert)), info(7, seq(oid("1.2.3"))))),
        "error": message("error", seq(status(2, "no", tlv(0x03, b"\x05\x20")), num(-5), seq(utf8("a"), utf8("b")))),
        "certConf": message("certConf", seq(seq(octets(b"h" * 32), num(0)), seq(octets(b"h" * 32), num(-1),
                                                                              status(2, "bad")))),
        "certConf-alg": message("certConf", seq(seq(octets(b"h" * 32), num(0), status(0), ctx(0, SHA256))), pvno=3),
        "certConf-empty": message("certConf", seq()),
        "pkiconf": message("pkiconf", NULL),
        "pollReq": message("pollReq", seq(seq(num(0)), seq(num(-1)))),
        "pollRep": message("pollRep", seq(seq(num(0), num(60), seq(utf8("busy"))), seq(num(-1), num(5)))),
        "nested": message("nested", seq(plain, plain)),
        "popdecr": message("popdecr", seq(num(99))),
        "full-header": message("pkiconf", NULL, pvno=3, sender=tlv(0x82, b"dev.example"), time=when("20260102030405Z"),
                               alg=PBM, kid=b"kid", recip_kid=b"rkid", recip_nonce=b"f" * 16, protection=b"m" * 20,
                               text=utf8("hello") + utf8("again"),
                               infos=info(14, when("20260102030405Z")) + info(21, seq(utf8("p"))) + info(15) +
                               info(13, NULL)),
        "bad-implicit": message("pkiconf", NULL, infos=info(13, num(1)), time=when("20260102030405.5Z")),
        "no-optionals": message("pkiconf", NULL, tid=b"", nonce=b"", sender=ctx(4, seq())),
    }
    return some


def dialogues():
    """Messages and what fuzz_cmp makes of them: its choices, a record, the message."""
    all_messages, first = messages(), message("ir", seq(requests()["plain"]))
    choices = {"": bytes(6), "-strict": b"\x0d\0\0\0\0\0", "-device": b"\xc2\x50\x01\x05\0\0",
               "-ra": b"\x40\x08\x02\x09\0\0", "-confirm": b"\x02\x03\x06\0\0\0", "-waiting": b"\x02\x03\x03\0\0\0",
               "-replay": b"\0\x07\x09\0\0\0"}
    out = {}
    for key, one in all_messages.items():
        kinds = choices if key.split("-")[0] in ("certConf", "error", "pollReq", "rr", "genm", "kur", "nested") else ["", "-ra"]
        for kind in kinds:
            out[key + kind] = seq(octets(choices[kind]), octets(first), one)
    return out


if __name__ == "__main__":
    for folder, seeds in (("cmp_msg", messages()), ("crmf", requests()), ("cmp", dialogues())):
        target = Path(sys.argv[1]) / folder
        target.mkdir(parents=True, exist_ok=True)
        for key, der in seeds.items():
            (target / f"{key}.der").write_bytes(der)
