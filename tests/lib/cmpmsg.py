"""CMP messages made by hand, with every field in the test's hand, and answers taken apart and checked.

    mac = Mac(SECRET, REFERENCE)                  # or Mac(..., kind="pbmac1"), or Signer(cert, key)
    m = ir([Request(key, "device-1"), Request(key2, "device-2")], mac)       # a Message
    answer = exchange(a, m)                       # over HTTP; protection, transactionID and nonces are checked
    answer.responses[0].cert, answer.fails, answer.codes
    exchange(a, certconf(answer, m))

Any field of the header can be overridden by name (FIELDS below), with octets of the test's own where the encoding matters:
ir(..., pvno=7), ir(..., nonce=b""), ir(..., time=utc("...")), ir(..., protection=b"x"), ir(..., extra=[]).
"""
import dataclasses
import datetime
import hashlib
import hmac as hmac_of
import os
import socket

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

import certmill as cm
from cmp_make import (BODIES, NULL, bits, cert_id, control, ctx, directory, extension, info, inside, name, num, octets,
                      oid, retag, seq, template, tlv, utf8, when)

MEDIA_TYPE = "application/pkixcmp"
FAILS = ["badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId", "badDataFormat", "wrongAuthority",
         "incorrectData", "missingTimeStamp", "badPOP", "certRevoked", "certConfirmed", "wrongIntegrity",
         "badRecipientNonce", "timeNotAvailable", "unacceptedPolicy", "unacceptedExtension", "addInfoNotAvailable",
         "badSenderNonce", "badCertTemplate", "signerNotTrusted", "transactionIdInUse", "unsupportedVersion",
         "notAuthorized", "systemUnavail", "systemFailure", "duplicateCertReq"]
ACCEPTED, GRANTED_WITH_MODS, REJECTION, WAITING = range(4)
IMPLICIT_CONFIRM, CONFIRM_WAIT_TIME = 13, 14

HASH_OIDS = {"sha1": "1.3.14.3.2.26", "sha224": "2.16.840.1.101.3.4.2.4", "sha256": "2.16.840.1.101.3.4.2.1",
             "sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3", "md5": "1.2.840.113549.2.5"}
HMAC_OIDS = {"sha1": "1.3.6.1.5.5.8.1.2", "rsadsi-sha1": "1.2.840.113549.2.7", "sha224": "1.2.840.113549.2.8",
             "sha256": "1.2.840.113549.2.9", "sha384": "1.2.840.113549.2.10", "sha512": "1.2.840.113549.2.11",
             "md5": "1.3.6.1.5.5.8.1.1"}
SIGNATURES = {"1.2.840.10045.4.3.2": hashes.SHA256(), "1.2.840.10045.4.3.3": hashes.SHA384(),
              "1.2.840.10045.4.3.4": hashes.SHA512(), "1.2.840.113549.1.1.11": hashes.SHA256(),
              "1.2.840.113549.1.1.12": hashes.SHA384(), "1.2.840.113549.1.1.13": hashes.SHA512(), "1.3.101.112": None}


def fresh(size=16):
    return os.urandom(size)


def now(offset_s=0):
    moment = datetime.datetime.utcnow() + datetime.timedelta(seconds=offset_s)
    return when(moment.strftime("%Y%m%d%H%M%SZ"))


def utc_time(text="260101000000Z"):
    return tlv(0x17, text.encode())


def spki_of(key):
    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def der_of(cert):
    return cert if isinstance(cert, bytes) else cert.public_bytes(serialization.Encoding.DER)


def ski_of(cert):
    try:
        return cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return b""


# --- reading DER ----------------------------------------------------------------------------------

class Node:
    """One element: tag, contents, der (the whole), items (its elements, when constructed)."""

    def __init__(self, der):
        first = der[1]
        head = 2 if first < 0x80 else 2 + first - 0x80
        size = first if first < 0x80 else int.from_bytes(der[2:head], "big")
        assert len(der) >= head + size, "a length beyond the end"
        assert first != 0x80 and (first < 0x80 or size >= 0x80), "a length that is no DER"
        self.tag, self.contents, self.der = der[0], der[head:head + size], der[:head + size]

    @property
    def items(self):
        out, rest = [], self.contents
        while rest:
            node = Node(rest)
            out.append(node)
            rest = rest[len(node.der):]
        return out

    @property
    def number(self):
        assert self.tag in (0x02, 0x0a), hex(self.tag)
        return int.from_bytes(self.contents, "big", signed=True)

    @property
    def dotted(self):
        assert self.tag == 0x06, hex(self.tag)
        arcs, arc = [], 0
        for octet in self.contents:
            arc = arc << 7 | octet & 0x7f
            if octet < 0x80:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(str(n) for n in [first, arcs[0] - 40 * first, *arcs[1:]])

    @property
    def time(self):
        assert self.tag == 0x18, hex(self.tag)
        return datetime.datetime.strptime(self.contents.decode(), "%Y%m%d%H%M%SZ")

    def tagged(self):
        """The optional elements with context tags, by number."""
        return {node.tag & 0x1f: node for node in self.items if node.tag & 0xc0 == 0x80}


def whole(der):
    node = Node(der)
    assert node.der == der, "something follows"
    return node


# --- protection -----------------------------------------------------------------------------------

class Mac:
    """A shared secret: PBM (RFC 9810 5.1.3.1) or PBMAC1 (RFC 8018 7.1)."""
    extra = ()

    def __init__(self, secret, reference, kind="pbm", iterations=500, owf="sha256", mac="sha256", salt=b"a-salt-of-16-oct",
                 key_len=None):
        self.secret, self.reference, self.kind = secret.encode(), reference, kind
        self.iterations, self.owf, self.mac, self.salt, self.key_len = iterations, owf, mac, salt, key_len
        self.sender = directory(reference)
        self.kid = reference.encode()

    def alg(self):
        mac = seq(oid(HMAC_OIDS[self.mac]))
        if self.kind == "pbm":
            return seq(oid("1.2.840.113533.7.66.13"),
                       seq(octets(self.salt), seq(oid(HASH_OIDS[self.owf])), num(self.iterations), mac))
        kdf = seq(oid("1.2.840.113549.1.5.12"),
                  seq(octets(self.salt), num(self.iterations), num(self.key_len) if self.key_len else b"",
                      seq(oid(HMAC_OIDS[self.owf]), NULL)))
        return seq(oid("1.2.840.113549.1.5.14"), seq(kdf, mac))

    def sign(self, data):
        return self.mac_with(self.alg(), data)

    def mac_with(self, alg, data):
        """The MAC by parameters as they stand in a message."""
        which, parameters = whole(alg).items
        if which.dotted == "1.2.840.113533.7.66.13":
            salt, owf, count, mac = parameters.items
            key = self.secret + salt.contents
            for _ in range(count.number):
                key = hashlib.new(name_of(HASH_OIDS, owf.items[0].dotted), key).digest()
        else:
            assert which.dotted == "1.2.840.113549.1.5.14", which.dotted
            kdf, mac = parameters.items
            salt, count, *rest = kdf.items[1].items
            prf = name_of(HMAC_OIDS, rest.pop().items[0].dotted)
            size = rest[0].number if rest else hashlib.new(name_of(HMAC_OIDS, mac.items[0].dotted)).digest_size
            key = hashlib.pbkdf2_hmac(prf, self.secret, salt.contents, count.number, size)
        return hmac_of.new(key, data, name_of(HMAC_OIDS, mac.items[0].dotted)).digest()


def name_of(table, dotted):
    found = next(key for key, value in table.items() if value == dotted)
    return found.split("-")[-1]


class Signer:
    """A certificate and its key. chain: what follows it in extraCerts."""

    def __init__(self, cert, key, chain=(), hash_alg=None):
        if isinstance(cert, (str, os.PathLike)):
            cert = x509.load_pem_x509_certificate(open(cert, "rb").read())
        if isinstance(key, (str, os.PathLike)):
            key = serialization.load_pem_private_key(open(key, "rb").read(), None)
        self.cert, self.key, self.chain = cert, key, list(chain)
        self.hash_alg = hash_alg or hashes.SHA256()
        self.sender = ctx(4, cert.subject.public_bytes())
        self.kid = ski_of(cert)
        self.extra = [cert, *self.chain]

    def alg(self):
        return signature_alg(self.key, self.hash_alg)

    def sign(self, data):
        return sign(self.key, data, self.hash_alg)


def signature_alg(key, hash_alg=hashes.SHA256()):
    size = {"sha256": 0, "sha384": 1, "sha512": 2}[hash_alg.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return seq(oid("1.3.101.112"))
    if isinstance(key, rsa.RSAPrivateKey):
        return seq(oid(f"1.2.840.113549.1.1.{11 + size}"), NULL)
    return seq(oid(f"1.2.840.10045.4.3.{2 + size}"))


def sign(key, data, hash_alg=hashes.SHA256()):
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hash_alg)
    return key.sign(data, ec.ECDSA(hash_alg))


def verify_signature(public, alg, signature, data):
    hash_alg = SIGNATURES[whole(alg).items[0].dotted]
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, data)
    elif isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, data, padding.PKCS1v15(), hash_alg)
    else:
        public.verify(signature, data, ec.ECDSA(hash_alg))


# --- messages -------------------------------------------------------------------------------------

FIELDS = ("pvno", "sender", "recipient", "time", "alg", "kid", "recip_kid", "tid", "nonce", "recip_nonce", "text",
          "infos", "protection", "extra")


@dataclasses.dataclass
class Message:
    """One PKIMessage. None: by `auth`, or fresh; b"": absent. infos: what stands in generalInfo, as a list."""
    body: str
    content: bytes
    auth: object = None
    pvno: int = 2
    sender: bytes = None
    recipient: bytes = dataclasses.field(default_factory=lambda: directory("Test Issuing CA"))
    time: bytes = b""
    alg: bytes = None
    kid: bytes = None
    recip_kid: bytes = b""
    tid: bytes = None
    nonce: bytes = None
    recip_nonce: bytes = b""
    text: bytes = b""
    infos: list = ()
    protection: bytes = None
    extra: list = None
    tag: int = None  # of the body, where it is none of BODIES

    def __post_init__(self):
        auth = self.auth
        self.tid = fresh() if self.tid is None else self.tid
        self.nonce = fresh() if self.nonce is None else self.nonce
        if self.sender is None:
            self.sender = auth.sender if auth else ctx(4, seq())
        if self.kid is None:
            self.kid = auth.kid if auth else b""
        if self.alg is None:
            self.alg = auth.alg() if auth else b""
        if self.extra is None:
            self.extra = list(auth.extra) if auth else []

    def header(self):
        def tagged(number, data):
            return ctx(number, octets(data)) if data else b""
        return seq(num(self.pvno), self.sender, self.recipient, ctx(0, self.time) if self.time else b"",
                   ctx(1, self.alg) if self.alg else b"", tagged(2, self.kid), tagged(3, self.recip_kid),
                   tagged(4, self.tid), tagged(5, self.nonce), tagged(6, self.recip_nonce),
                   ctx(7, seq(self.text)) if self.text else b"",
                   ctx(8, seq(*self.infos)) if self.infos else b"")

    def der(self):
        if not hasattr(self, "_der"):  # signatures differ from time to time; a message does not
            body = ctx(BODIES.index(self.body) if self.tag is None else self.tag, self.content)
            header = self.header()
            value = self.protection
            if value is None:
                value = self.auth.sign(seq(header, body)) if self.auth else b""
            self._der = seq(header, body, ctx(0, bits(value)) if value else b"",
                            ctx(1, seq(*map(der_of, self.extra))) if self.extra else b"")
        return self._der


def message(body, content, auth=None, **fields):
    return Message(body, content, auth, **fields)


@dataclasses.dataclass
class Request:
    """One CertReqMsg. pop: "signature", "input" (POPOSigningKeyInput), "raverified", None, or octets."""
    key: object = None
    cn: str = None
    number: int = 0
    pop: object = "signature"
    san: list = None
    extensions: bytes = b""
    controls: bytes = b""
    before: bytes = b""         # of the template: version to issuer
    template: bytes = None      # the whole template
    sender: bytes = None        # for pop "input"
    pop_key: object = None      # signs the proof instead of `key`
    validity: bytes = b""
    reg_info: bytes = b""

    def cert_request(self):
        extensions = self.extensions
        if self.san:
            names = x509.SubjectAlternativeName(self.san).public_bytes()
            extensions += extension("2.5.29.17", names)
        spki = spki_of(self.key) if self.key else None
        the_template = self.template or template(self.cn, spki, before=self.before, validity=self.validity,
                                                 extensions=extensions)
        return seq(num(self.number), the_template, seq(self.controls) if self.controls else b"")

    def proof(self, request):
        if self.pop is None:
            return b""
        if isinstance(self.pop, bytes):
            return self.pop
        if self.pop == "raverified":
            return tlv(0x80)
        key, signed, extra = self.pop_key or self.key, request, b""
        if self.pop == "input":
            parts = ctx(0, self.sender) + spki_of(self.key)
            signed, extra = seq(parts), ctx(0, parts)  # [0] IMPLICIT in the message, SEQUENCE under the signature
        return ctx(1, extra, signature_alg(key), bits(sign(key, signed)))

    def der(self):
        request = self.cert_request()
        return seq(request, self.proof(request), seq(self.reg_info) if self.reg_info else b"")


def cert_reqs(requests):
    if isinstance(requests, (Request, bytes)):
        requests = [requests]
    return seq(*(one if isinstance(one, bytes) else one.der() for one in requests))


def ir(requests, auth, **fields):
    return message("ir", cert_reqs(requests), auth, **fields)


def cr(requests, auth, **fields):
    return message("cr", cert_reqs(requests), auth, **fields)


def kur(requests, auth, **fields):
    return message("kur", cert_reqs(requests), auth, **fields)


def p10cr(csr_der, auth, **fields):
    return message("p10cr", csr_der, auth, **fields)


def rev_details(issuer=None, serial=None, reason=None, details=None):
    """issuer: a Name as x509.Name or octets; details: the octets of crlEntryDetails."""
    issuer = issuer.public_bytes() if isinstance(issuer, x509.Name) else issuer
    parts = tlv(0x81, inside(num(serial))) if serial is not None else b""
    parts += ctx(3, issuer) if issuer is not None else b""
    if reason is not None:
        details = seq(extension("2.5.29.21", tlv(0x0a, inside(num(reason)))))
    return seq(seq(parts), details or b"")


def rev_of(cert, reason=None):
    return rev_details(cert.issuer, cert.serial_number, reason)


def rr(details, auth, **fields):
    fields.setdefault("time", now())  # certmill wants it of revocations
    return message("rr", seq(*details), auth, **fields)


def genm(infos, auth=None, **fields):
    return message("genm", seq(*infos), auth, **fields)


def nested(inner, auth, **fields):
    return message("nested", seq(*(m if isinstance(m, bytes) else m.der() for m in inner)), auth, **fields)


def going_on(answer, first, fields):
    """What the next message of a dialogue has: tid, recipNonce, protection."""
    fields.setdefault("auth", first.auth)
    fields.setdefault("tid", answer.tid)
    fields.setdefault("recip_nonce", answer.nonce)
    fields.setdefault("pvno", first.pvno)
    return fields


def cert_status(cert, number=0, status=None, hash_alg=None, digest=None, fail=None, text=None):
    """hash_alg: named in the message (pvno 3)."""
    if digest is None:
        own = cert.signature_hash_algorithm
        digest = hashlib.new(hash_alg or (own.name if own else "sha512"), der_of(cert)).digest()
    info_of = b""
    if status is not None:
        info_of = status_info(status, text, fail)
    return seq(octets(digest), num(number), info_of, ctx(0, seq(oid(HASH_OIDS[hash_alg]))) if hash_alg else b"")


def status_info(status, text=None, fail=None):
    bit = b""
    if fail is not None:
        at = FAILS.index(fail)
        data = bytearray(at // 8 + 1)
        data[-1] = 0x80 >> at % 8
        bit = bits(bytes(data), 7 - at % 8)
    return seq(num(status), seq(utf8(text)) if text else b"", bit)


def certconf(answer, first, statuses=None, **fields):
    """Confirms all certificates of the answer, or says what `statuses` (of cert_status) say."""
    if statuses is None:
        statuses = [cert_status(r.cert, r.number) for r in answer.responses if r.cert]
    return message("certConf", seq(*statuses), **going_on(answer, first, fields))


def pollreq(answer, first, numbers=(0,), **fields):
    return message("pollReq", seq(*(seq(num(n)) for n in numbers)), **going_on(answer, first, fields))


def error(answer, first, status=REJECTION, text="no", fail=None, **fields):
    return message("error", seq(status_info(status, text, fail)), **going_on(answer, first, fields))


# --- answers --------------------------------------------------------------------------------------

@dataclasses.dataclass
class Status:
    status: int
    texts: list
    fails: list
    number: int = None
    cert: object = None
    encrypted: bytes = None

    @property
    def code(self):
        """The refusal's code: what stands before the colon in statusString."""
        return self.texts[0].split(":")[0] if self.texts else None


def parse_status(node):
    status, texts, fails = None, [], []
    for item in node.items:
        if item.tag == 0x02:
            status = item.number
        elif item.tag == 0x30:
            texts = [text.contents.decode() for text in item.items]
            assert texts and all(texts), "an empty PKIFreeText"
        elif item.tag == 0x03:
            data = item.contents[1:]
            fails = [FAILS[i] for i in range(min(len(data) * 8, len(FAILS))) if data[i // 8] & 0x80 >> i % 8]
    return Status(status, texts, fails)


class Answer:
    """A PKIMessage from the server."""

    def __init__(self, der):
        self.der = der
        root = whole(der)
        header, body, *rest = root.items
        self.header, self.body_node = header, body
        self.body = BODIES[body.tag & 0x1f]
        assert body.tag & 0xe0 == 0xa0
        self.protected = seq(header.der, body.der)
        tail = {node.tag & 0x1f: node for node in rest}
        self.protection = tail[0].items[0].contents[1:] if 0 in tail else None
        self.extra = [x509.load_der_x509_certificate(n.der) for n in tail[1].items[0].items] if 1 in tail else []
        self._read_header(header)
        self._read_body(body.items[0])

    def _read_header(self, header):
        pvno, sender, recipient, *_ = header.items
        fields = {node.tag & 0x1f: node for node in header.items[3:]}

        def octets_of(number):
            return fields[number].items[0].contents if number in fields else b""
        self.pvno, self.sender, self.recipient = pvno.number, sender.der, recipient.der
        self.time = fields[0].items[0].time if 0 in fields else None
        self.alg = fields[1].items[0].der if 1 in fields else None
        self.kid, self.recip_kid, self.tid, self.nonce, self.recip_nonce = (octets_of(n) for n in range(2, 7))
        self.general = {}
        for one in fields[8].items[0].items if 8 in fields else []:
            self.general[one.items[0].dotted] = one.items[1] if len(one.items) > 1 else None
        self.implicit = "1.3.6.1.5.5.7.4.13" in self.general
        wait = self.general.get("1.3.6.1.5.5.7.4.14")
        self.confirm_wait = wait.time if wait else None

    def _read_body(self, content):
        self.responses, self.polls, self.infos, self.ca_pubs, self.inner = [], [], [], [], []
        if self.body in ("ip", "cp", "kup"):
            *pubs, responses = content.items
            if pubs:
                self.ca_pubs = [x509.load_der_x509_certificate(n.der) for n in pubs[0].items[0].items]
            self.responses = [self._response(one) for one in responses.items]
        elif self.body == "rp":
            self.responses = [parse_status(one) for one in content.items[0].items]
        elif self.body == "error":
            self.responses = [parse_status(content.items[0])]
        elif self.body == "pollRep":
            self.polls = [(one.items[0].number, one.items[1].number) for one in content.items]
        elif self.body == "genp":
            self.infos = [(one.items[0].dotted, one.items[1] if len(one.items) > 1 else None) for one in content.items]
        elif self.body == "nested":
            self.inner = [Answer(one.der) for one in content.items]
        elif self.body == "pkiconf":
            assert content.der == NULL

    @staticmethod
    def _response(node):
        number, status, *rest = node.items
        out = parse_status(status)
        out.number = number.number
        for pair in rest:
            if pair.tag == 0x30:
                choice = pair.items[0]
                if choice.tag == 0xa0:
                    out.cert = x509.load_der_x509_certificate(choice.items[0].der)
                else:
                    out.encrypted = choice.items[0].der
        return out

    @property
    def status(self):
        return self.responses[0].status

    @property
    def fails(self):
        return self.responses[0].fails

    @property
    def code(self):
        return self.responses[0].code

    @property
    def cert(self):
        return self.responses[0].cert

    @property
    def certs(self):
        return [one.cert for one in self.responses]

    def info(self, arc):
        """The value of the id-it `arc` in a genp; KeyError when it is not there."""
        return dict(self.infos)[f"1.3.6.1.5.5.7.4.{arc}"]

    @property
    def kind(self):
        """How it is protected: "mac", "signature" or None."""
        if self.alg is None:
            assert self.protection is None
            return None
        which = whole(self.alg).items[0].dotted
        return "mac" if which in ("1.2.840.113533.7.66.13", "1.2.840.113549.1.5.14") else "signature"

    def verify(self, auth=None, anchor=None):
        """By the secret of `auth` (a Mac), or by extraCerts[0] and, when given, the CA that issued it."""
        if self.kind == "mac":
            assert hmac_of.compare_digest(auth.mac_with(self.alg, self.protected), self.protection), "a wrong MAC"
            return
        assert self.kind == "signature", "not protected"
        signer = self.extra[0]
        try:
            verify_signature(signer.public_key(), self.alg, self.protection, self.protected)
        except InvalidSignature:
            raise AssertionError("a wrong signature") from None
        assert self.sender == ctx(4, signer.subject.public_bytes())
        assert self.kid == ski_of(signer)
        if anchor is not None:
            anchor.public_key().verify(signer.signature, signer.tbs_certificate_bytes,
                                       ec.ECDSA(signer.signature_hash_algorithm))


# --- over HTTP ------------------------------------------------------------------------------------

def path_of(line="line1", operation=""):
    return "/.well-known/cmp" + (f"/p/{line}" if line else "") + (f"/{operation}" if operation else "")


def connect(a, timeout=20):
    sock = socket.create_connection(("127.0.0.1", a.plain_port), timeout=timeout * cm.SLOW)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def http(a, der, line="line1", operation="", method="POST", media=MEDIA_TYPE, sock=None, path=None):
    """One request over plain HTTP; returns (status, headers, body)."""
    own = sock is None
    sock = sock or connect(a)
    headers = {"Content-Type": media} if media else {}
    try:
        sock.sendall(cm.http_request(method, path or path_of(line, operation), der, headers, basic=False))
        with sock.makefile("rb") as stream:
            return cm.read_response(stream)
    finally:
        if own:
            sock.close()


def check(answer, asked, a=None, protected="same"):
    """What holds for every answer. protected: "same" as asked, "mac", "signature", None."""
    assert answer.tid == asked.tid or (not asked.tid and len(answer.tid) == 16)
    assert answer.recip_nonce == asked.nonce
    assert len(answer.nonce) == 16 and answer.nonce != asked.nonce
    assert answer.recipient == asked.sender
    if asked.pvno in (2, 3):
        assert answer.pvno == asked.pvno
    if protected == "same":
        protected = "mac" if isinstance(asked.auth, Mac) else "signature"
    assert answer.kind == protected, (answer.kind, protected)
    if protected:
        answer.verify(asked.auth, a.cmp_ca.cert if a else None)
    return answer


def exchange(a, asked, line="line1", operation="", sock=None, protected="same", unwrapped=None):
    """Sends a message; the answer, checked. unwrapped: the inner message whose answer comes back instead."""
    status, headers, body = http(a, asked.der(), line, operation, sock=sock)
    assert status == 200 and headers["content-type"] == MEDIA_TYPE, (status, body)
    return check(Answer(body), unwrapped or asked, a, protected)
