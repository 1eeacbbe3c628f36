"""Do our decoders see in CMP messages what python3-pyasn1-modules sees, in openssl's and in ones made by hand?"""
import calendar
import json
import subprocess
import time

import certmill as cm
import cmp_make
import pytest
from cryptography.hazmat.primitives import serialization
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc2511, rfc4210

DUMP = cm.BIN.parent / "tests" / "cmp_dump"
# What the other decoder cannot read, or not write again as it was: its RFC 4210 has no hashAlg in CertStatus and no
# EnvelopedData, and its RFC 2511 no agreeMAC; a GeneralName in its CertId and POPOSigningKeyInput has a wrong tag.
NOT_THEIRS = {"certConf-alg", "ip-enveloped", "ir-enveloped", "ir-agree-mac", "rp-ids", "openssl-rr-rsp1",
              "ir-sender-input", "ir-empty-subject"}


def dump(messages, folder):
    files = []
    for number, der in enumerate(messages):
        files.append(folder / f"message{number}.der")
        files[-1].write_bytes(der)
    return json.loads(cm.run([DUMP, *files], text=True).stdout)


# --- openssl's messages ----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def openssl_messages(tmp_path_factory):
    """{name: octets}: requests and responses of each kind; the server is the command's own."""
    folder = tmp_path_factory.mktemp("openssl")

    def pem(key, file):
        (folder / file).write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    pem(cm.new_key(), "key.pem")
    pem(cm.new_key("rsa2048"), "rsa.pem")
    for command in (["req", "-x509", "-new", "-key", "key.pem", "-subj", "/O=Plant/CN=device", "-out", "cert.pem"],
                    ["req", "-new", "-key", "key.pem", "-subj", "/CN=p10", "-addext", "subjectAltName=DNS:p10.example",
                     "-out", "csr.pem"]):
        cm.run(["openssl", *command], cwd=folder)
    mac = ["-ref", "ref", "-secret", "pass:x"]
    signed = ["-cert", "cert.pem", "-key", "key.pem", "-srvcert", "cert.pem"]
    new = ["-newkey", "key.pem", "-subject", "/CN=device"]
    commands = {
        "ir": [*mac, "-cmd", "ir", *new, "-sans", "dev.example", "-days", "30", "-geninfo", "1.2.3:int:5"],
        "ir-signed": [*signed, "-cmd", "ir", *new, "-extracerts", "cert.pem", "-implicit_confirm",
                      "-grant_implicitconf"],
        "ir-rsa": [*mac, "-cmd", "ir", "-newkey", "rsa.pem", "-subject", "/CN=rsa", "-policy_oids", "1.2.3"],
        "ir-raverified": [*mac, "-cmd", "ir", *new, "-popo", "0"],
        "ir-keyenc": [*mac, "-cmd", "ir", "-newkey", "rsa.pem", "-subject", "/CN=rsa", "-popo", "2"],
        "ir-nopop": [*mac, "-cmd", "ir", *new, "-popo", "-1"],
        "ir-polled": [*mac, "-cmd", "ir", *new, "-poll_count", "2", "-check_after", "1"],
        "ir-refused": [*mac, "-cmd", "ir", *new, "-pkistatus", "2", "-failure", "9", "-statusstring", "no"],
        "ir-error": [*mac, "-cmd", "ir", *new, "-send_error"],
        "cr": [*mac, "-cmd", "cr", *new],
        "cr-nosubject": [*mac, "-cmd", "cr", "-newkey", "key.pem", "-sans", "dev.example", "-recipient", "/CN=ca"],
        "kur": [*signed, "-cmd", "kur", "-oldcert", "cert.pem", "-newkey", "key.pem"],
        "p10cr": [*mac, "-cmd", "p10cr", "-csr", "csr.pem"],
        "rr": [*mac, "-cmd", "rr", "-oldcert", "cert.pem", "-revreason", "1"],
        "genm": [*mac, "-cmd", "genm", "-infotype", "signKeyPairTypes"],
    }
    for key, options in commands.items():
        def names(kind):
            return ",".join(f"{key}-{kind}{number}.der" for number in range(1, 6))
        server = ["-srv_ref", "ref", "-srv_secret", "pass:x"] if options[:4] == mac else [
            "-srv_cert", "cert.pem", "-srv_key", "key.pem", "-srv_trusted", "cert.pem"]
        # whether the client likes what it gets is not the question
        subprocess.run(["openssl", "cmp", "-config", "", "-use_mock_srv", *server, "-rsp_cert", "cert.pem",
                        *options, "-certout", "out.pem", "-reqout", names("req"), "-rspout", names("rsp")],
                       cwd=folder, capture_output=True, timeout=60, check=False)
    return {f"openssl-{path.stem}": path.read_bytes() for path in sorted(folder.glob("*-r[es][qp]*.der"))}


# --- the other decoder ---------------------------------------------------------------------------

def hexed(value):
    """A value's encoding without its own tag where that is an explicit one."""
    der = encoder.encode(value)
    return (cmp_make.inside(der) if der[0] & 0xe0 == 0xa0 else der).hex()


def seconds(generalized):
    return calendar.timegm(time.strptime(str(generalized).split(".")[0].rstrip("Z"), "%Y%m%d%H%M%S"))


def seconds_of_time(value):
    text = str(value.getComponent())
    if value.getName() == "utcTime":
        text = ("19" if text[0] >= "5" else "20") + text
    return seconds(text)


def as_bits(value):
    """PKIFailureInfo as our number."""
    return sum(1 << number for number, bit in enumerate(value) if bit)


def octets_of_bits(value):
    return value.asOctets().hex()


def present(value):
    return value is not None and value.isValue


def their_header(header):
    out = {"pvno": int(header["pvno"]), "sender": encoder.encode(header["sender"]).hex(),
           "recipient": encoder.encode(header["recipient"]).hex()}
    if header["sender"].getName() == "directoryName":
        out["sender_name"] = cmp_make.inside(encoder.encode(header["sender"])).hex()
    for theirs, ours in (("senderKID", "sender_kid"), ("recipKID", "recip_kid"), ("transactionID", "transaction_id"),
                         ("senderNonce", "sender_nonce"), ("recipNonce", "recip_nonce")):
        if present(header[theirs]):
            out[ours] = bytes(header[theirs]).hex()
    if present(header["messageTime"]):
        out["message_time"] = seconds(header["messageTime"])
    if present(header["protectionAlg"]):
        out["protection_alg"] = hexed(header["protectionAlg"])
    if present(header["freeText"]):
        out["free_text"] = hexed(header["freeText"])
    for item in header["generalInfo"] if present(header["generalInfo"]) else ():
        kind, value = str(item["infoType"]), bytes(item["infoValue"]) if present(item["infoValue"]) else b""
        if kind == "1.3.6.1.5.5.7.4.13" and value == b"\x05\x00":
            out["implicit_confirm"] = True
        if kind == "1.3.6.1.5.5.7.4.14":
            out["confirm_wait"] = seconds(cmp_make.inside(value).decode())
        if kind == "1.3.6.1.5.5.7.4.21":
            out["cert_profile"] = value.hex()
    return out


def their_status(status):
    out = {"status": int(status["status"])}
    if present(status["statusString"]):
        out["text"] = str(status["statusString"][0]).encode().hex()
    if present(status["failInfo"]):
        out["fail"] = as_bits(status["failInfo"])
    return out


def their_controls(request, out):
    for item in request["controls"] if present(request["controls"]) else ():
        kind, value = str(item["type"]), bytes(item["value"])
        arc = kind.removeprefix("1.3.6.1.5.5.7.5.1.")
        if arc == "1":
            out["reg_token"] = cmp_make.inside(value).hex()
        if arc == "2":
            out["authenticator"] = cmp_make.inside(value).hex()
        if arc == "5":
            content = cmp_make.inside(value)
            size = 2 + content[1]  # short names only
            assert content[0] == 0xa4 and content[1] < 0x80
            out["old_cert_id"] = {"issuer": content[2:size].hex(), "serial": cmp_make.inside(content[size:]).hex()}
        if arc == "6":
            out["protocol_encr_key"] = value.hex()


def their_proof(message, out):
    # what OpenSSL and we call a proof, by name of the choice
    kinds = {"raVerified": 2, "signature": 1, "keyEncipherment": 3, "keyAgreement": 3}
    out["pop"] = kinds[message["pop"].getName()] if present(message["pop"]) else 0
    if out["pop"] == 3:
        key = message["pop"].getComponent()
        out["pop_key"] = {"thisMessage": 0, "subsequentMessage": 1, "dhMAC": 3}[key.getName()]
        if key.getName() == "subsequentMessage":
            out["pop_key"] += int(key.getComponent())
    if out["pop"] != 1:
        return
    signature = message["pop"]["signature"]
    out["pop_alg"] = encoder.encode(signature["algorithmIdentifier"]).hex()
    out["pop_signature"] = octets_of_bits(signature["signature"])
    out["pop_message"] = out["cert_req"]
    if present(signature["poposkInput"]):
        source = signature["poposkInput"]
        out["pop_message"] = cmp_make.retag(0x30, encoder.encode(source)).hex()
        info = source["authInfo"]
        if info.getName() == "sender":
            out["pop_sender"] = cmp_make.inside(encoder.encode(info.getComponent())).hex()
        else:
            out["pop_mac"] = encoder.encode(info.getComponent()).hex()


def their_request(message):
    request, out = message["certReq"], {}
    template = request["certTemplate"]
    out["cert_req_id"] = int(request["certReqId"])
    out["cert_req"] = encoder.encode(request).hex()
    for theirs in ("subject", "issuer"):
        if present(template[theirs]):
            out[theirs] = hexed(template[theirs])
    if present(template["publicKey"]):
        spki = cmp_make.retag(0x30, encoder.encode(template["publicKey"])).hex()
        if len(template["publicKey"]["subjectPublicKey"]) > 0:
            out["spki"] = spki
        else:
            out["key_alg"] = encoder.encode(template["publicKey"]["algorithm"]).hex()
    for field in ("notBefore", "notAfter"):
        if present(template["validity"]) and present(template["validity"][field]):
            out[{"notBefore": "not_before", "notAfter": "not_after"}[field]] = seconds_of_time(
                template["validity"][field])
    out["extensions"] = []
    for item in template["extensions"] if present(template["extensions"]) else ():
        out["extensions"].append(encoder.encode(item).hex())
        if str(item["extnID"]) == "2.5.29.17":
            value = bytes(item["extnValue"])
            out["san"] = (value if value[0] == 0x30 else cmp_make.inside(value)).hex()
    their_controls(request, out)
    their_proof(message, out)
    return out


def their_csr(request):
    info = request["certificationRequestInfo"]
    out = {"subject": encoder.encode(info["subject"]).hex(), "pop": 1, "extensions": [],
           "spki": encoder.encode(info["subjectPublicKeyInfo"]).hex(), "pop_message": encoder.encode(info).hex(),
           "pop_alg": encoder.encode(request["signatureAlgorithm"]).hex(),
           "pop_signature": octets_of_bits(request["signature"])}
    for attribute in info["attributes"]:
        value = bytes(attribute["vals"][0])
        rest = cmp_make.inside(value)
        while rest:
            size = len(rest) - len(cmp_make.inside(rest)) if rest[1] >= 0x80 else 2 + rest[1]
            out["extensions"].append(rest[:size].hex())
            if rest[2:7] == bytes.fromhex("0603551d11"):
                out["san"] = cmp_make.inside(rest[:size])[7:].hex()
            rest = rest[size:]
    return out


def their_response(response, ca_pubs):
    out = {"cert_req_id": int(response["certReqId"]), **their_status(response["status"])}
    if ca_pubs:
        out["ca_pubs"] = ca_pubs
    pair = response["certifiedKeyPair"]
    if present(pair):
        choice = pair["certOrEncCert"]
        out["cert" if choice.getName() == "certificate" else "encrypted_cert"] = hexed(choice.getComponent())
        if present(pair["privateKey"]):
            out["private_key"] = hexed(pair["privateKey"])
    return out


def their_responses(content):
    ca_pubs = "".join(encoder.encode(c).hex() for c in content["caPubs"]) if present(content["caPubs"]) else ""
    return [their_response(response, ca_pubs) for response in content["response"]]


def their_revocation(details):
    template, out = details["certDetails"], {}
    if present(template["issuer"]):
        out["issuer"] = hexed(template["issuer"])
    if present(template["serialNumber"]):
        out["serial"] = cmp_make.inside(encoder.encode(template["serialNumber"])).hex()
    for item in details["crlEntryDetails"] if present(details["crlEntryDetails"]) else ():
        if str(item["extnID"]) == "2.5.29.21":
            out["reason"] = bytes(item["extnValue"])[-1]
    return out


def their_info(item):
    out = {"oid": cmp_make.inside(encoder.encode(item["infoType"])).hex()}
    if present(item["infoValue"]):
        out["value"] = bytes(item["infoValue"]).hex()
    return out


def their_cert_status(item):
    out = {"cert_hash": bytes(item["certHash"]).hex(), "cert_req_id": int(item["certReqId"])}
    return {**out, **their_status(item["statusInfo"])} if present(item["statusInfo"]) else out


def their_poll(item):
    out = {"cert_req_id": int(item["certReqId"]), "check_after": int(item["checkAfter"])}
    if present(item["reason"]):
        out["reason"] = str(item["reason"][0]).encode().hex()
    return out


def their_content(body, content):
    if body in ("ir", "cr", "kur"):
        return [their_request(item) for item in content]
    if body in ("ip", "cp", "kup"):
        return their_responses(content)
    return {
        "p10cr": lambda: [their_csr(content)],
        "rr": lambda: [their_revocation(item) for item in content],
        "rp": lambda: [their_status(item) for item in content["status"]],
        "genm": lambda: [their_info(item) for item in content],
        "genp": lambda: [their_info(item) for item in content],
        "error": lambda: [their_status(content["pKIStatusInfo"])],
        "certConf": lambda: [their_cert_status(item) for item in content],
        "pollReq": lambda: [int(item["certReqId"]) for item in content],
        "pollRep": lambda: [their_poll(item) for item in content],
        "nested": lambda: [encoder.encode(item).hex() for item in content],
    }.get(body, lambda: [hexed(content)])()


def theirs(der):
    message, rest = decoder.decode(der, asn1Spec=rfc4210.PKIMessage())
    assert not rest and encoder.encode(message) == der
    body = {"gen": "genp"}.get(message["body"].getName(), message["body"].getName())
    out = {**their_header(message["header"]), "body": body,
           "content": their_content(body, message["body"].getComponent()), "extra_certs": []}
    if present(message["protection"]):
        out["protection"] = octets_of_bits(message["protection"])
    if present(message["extraCerts"]):
        out["extra_certs"] = [encoder.encode(c).hex() for c in message["extraCerts"]]
    return out


# --- tests ---------------------------------------------------------------------------------------

def test_openssl_wrote_each_kind_and_all_are_read(openssl_messages, tmp_path):
    seen = dump(openssl_messages.values(), tmp_path)
    assert [key for key, ours in zip(openssl_messages, seen) if "err" in ours] == []
    assert {ours["body"] for ours in seen} >= {
        "ir", "ip", "cr", "cp", "kur", "kup", "p10cr", "rr", "rp", "genm", "genp", "certConf", "pkiconf", "pollReq",
        "pollRep", "error"}
    assert any(ours.get("implicit_confirm") for ours in seen)
    assert any(ours["extra_certs"] for ours in seen)


def test_openssl_messages_hold_the_same_for_both(openssl_messages, tmp_path):
    seen = dump(openssl_messages.values(), tmp_path)
    for (key, der), ours in zip(openssl_messages.items(), seen):
        if key not in NOT_THEIRS:
            assert ours == theirs(der), key


def test_made_messages_hold_the_same_for_both(tmp_path):
    messages = cmp_make.messages()
    seen = dump(messages.values(), tmp_path)
    assert [key for key, ours in zip(messages, seen) if "err" in ours] == []
    for (key, der), ours in zip(messages.items(), seen):
        if key not in NOT_THEIRS:
            assert ours == theirs(der), key


def test_what_is_left_out_is_what_the_other_cannot_read(openssl_messages):
    everything = {**cmp_make.messages(), **openssl_messages}
    for key in NOT_THEIRS:
        with pytest.raises(Exception):
            theirs(everything[key])


def test_a_proof_is_read_from_requests_alone_too():
    """The other's CRMF is RFC 2511's, whose forms are the same."""
    for key, der in cmp_make.requests().items():
        if f"ir-{key}" not in NOT_THEIRS:
            message, rest = decoder.decode(der, asn1Spec=rfc2511.CertReqMsg())
            assert not rest and encoder.encode(message) == der, key
