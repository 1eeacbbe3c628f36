#!/bin/sh
# Makes the files of this folder anew with the openssl command (keys are thrown away), except what
# other programs wrote: *-strongswan.der (pki 5.9.8), csr-java.der (keytool), csr-python.der.
# Usage: make.sh DIRECTORY
set -eu
out=$(realpath "$1")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
export OPENSSL_CONF=$tmp/openssl.cnf

cat >openssl.cnf <<'CNF'
[req]
distinguished_name = dn
string_mask = utf8only
prompt = no
[dn]
CN = device-0001
[challenge]
distinguished_name = dn
attributes = attrs
prompt = no
req_extensions = san
[attrs]
challengePassword = bGlua2VkLXRvLXRscw==
unstructuredName = unknown attribute
[san]
subjectAltName = DNS:device-0001.example, IP:192.0.2.1, IP:2001:db8::1, email:a@example.com, URI:urn:dev:1
[wide]
subjectAltName = otherName:1.3.6.1.5.5.7.8.4;SEQUENCE:hmn, dirName:dirname, RID:1.2.3.4
keyUsage = critical, digitalSignature, keyAgreement
extendedKeyUsage = clientAuth, 1.3.6.1.5.5.7.3.28
[hmn]
type = OID:1.3.6.1.4.1.99999.1
serial = FORMAT:HEX,OCTETSTRING:0a0b0c0d
[dirname]
O = Plant
CN = inner
[ca]
basicConstraints = critical, CA:TRUE, pathlen:2
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[ee]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth, 1.3.6.1.5.5.7.3.27, 1.3.6.1.5.5.7.3.28, 1.3.6.1.5.5.7.3.32, anyExtendedKeyUsage, 1.2.3
subjectAltName = DNS:station-1.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always, issuer:always
[odd]
basicConstraints = CA:FALSE
nameConstraints = critical, permitted;DNS:example
CNF

gen() { openssl genpkey -quiet "$@" 2>/dev/null || openssl genpkey "$@"; }
gen -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem
gen -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem
gen -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.pem
gen -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa2048.pem
gen -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out rsa4096.pem
gen -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa1024.pem
gen -algorithm ED25519 -out ed25519.pem

csr() { name=$1; shift; openssl req -new -outform DER -out "$out/csr-$name.der" "$@"; }
for key in p256 p384 rsa2048 rsa4096 ed25519; do csr $key -key $key.pem -subj /CN=device-0001; done
csr rsa1024 -key rsa1024.pem -subj /CN=weak
csr p521 -key p521.pem -subj /CN=unsupported
csr p256-san -key p256.pem -subj "/C=DE/O=Plant/serialNumber=SN-1/CN=device-0001" -reqexts san
csr p256-wide -key p256.pem -subj /CN=wide -reqexts wide
csr p256-challenge -key p256.pem -config openssl.cnf -section challenge
csr p256-empty-subject -key p256.pem -subj / -reqexts san
csr p256-multi-rdn -key p256.pem -multivalue-rdn -subj "/O=Plant/CN=a+serialNumber=b"
csr p256-utf8 -key p256.pem -utf8 -subj "/O=Werk Zürich/CN=Gerät"
csr rsa-pss -key rsa2048.pem -subj /CN=pss -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
csr rsa-pss-salt20 -key rsa2048.pem -subj /CN=pss -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20
csr p384-sha512 -key p384.pem -subj /CN=sha512 -sha512
openssl ecparam -name prime256v1 -genkey -conv_form compressed -noout -out compressed.pem 2>/dev/null
openssl ec -in compressed.pem -conv_form compressed -out compressed2.pem 2>/dev/null
csr p256-compressed -key compressed2.pem -subj /CN=compressed
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit -out explicit.pem
csr p256-explicit -key explicit.pem -subj /CN=explicit

# A root, an intermediate with ECDSA, and end entities.
openssl req -x509 -key rsa2048.pem -subj "/O=Plant/CN=Root" -days 36500 -extensions ca -set_serial 0x0123456789abcdef -out root.pem
openssl req -new -key p384.pem -subj "/O=Plant/CN=Issuing CA" -out int.csr
openssl x509 -req -in int.csr -CA root.pem -CAkey rsa2048.pem -days 3650 -extfile openssl.cnf -extensions ca -set_serial 2 -out int.pem
openssl req -new -key p256.pem -subj "/O=Plant/CN=station-1" -out ee.csr
openssl x509 -req -in ee.csr -CA int.pem -CAkey p384.pem -days 365 -extfile openssl.cnf -extensions ee -set_serial 0x00ffeeddccbbaa99 -out ee.pem
openssl x509 -req -in ee.csr -CA int.pem -CAkey p384.pem -days 365 -extfile openssl.cnf -extensions odd -set_serial 5 -out odd.pem
openssl x509 -req -in ee.csr -CA int.pem -CAkey p384.pem -days 365 -set_serial 4 -out v1.pem
openssl req -new -key ed25519.pem -subj "/CN=ed25519" -out ed.csr
openssl x509 -req -in ed.csr -signkey ed25519.pem -days 365 -extfile openssl.cnf -extensions ee -out ed25519-cert.pem
openssl req -x509 -key rsa2048.pem -subj "/CN=sha1" -sha1 -days 30 -extensions ca -out sha1.pem
openssl req -x509 -key rsa2048.pem -subj "/CN=pss" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:48 -sha384 -days 30 -extensions ca -out pss.pem
der() { openssl x509 -in "$1.pem" -outform DER -out "$out/cert-$2.der"; }
der root root; der int intermediate; der ee ee; der odd name-constraints; der v1 v1
der ed25519-cert ed25519; der sha1 sha1; der pss rsa-pss
cat ee.pem root.pem >"$out/chain.pem"
cat int.pem root.pem ee.pem >all.pem
openssl crl2pkcs7 -nocrl -certfile all.pem -outform DER -out "$out/certs-only.der"
openssl crl2pkcs7 -nocrl -outform DER -certfile ee.pem -out "$out/certs-only-one.der"
openssl smime -sign -signer ee.pem -inkey p256.pem -in ee.csr -outform DER -out "$out/cms-signed.der" -binary -nodetach

# Revocation lists of the root.
cat >ca.cnf <<'CNF'
[ca]
default_ca = root
[root]
database = index
certificate = root.pem
private_key = rsa2048.pem
default_md = sha256
default_crl_days = 30
crlnumber = number
[full]
authorityKeyIdentifier = keyid
[partial]
issuingDistributionPoint = critical, @idp
[idp]
fullname = URI:http://crl.example/part
onlyuser = TRUE
CNF
touch index
echo 1234 >number
crl() { name=$1; shift; openssl ca -config ca.cnf -gencrl "$@" -out crl.pem && openssl crl -in crl.pem -outform DER -out "$out/crl-$name.der"; }
crl empty -crlexts full
printf 'R\t360101000000Z\t260101000000Z,keyCompromise\t01\tunknown\t/CN=a\n' >index
printf 'R\t360101000000Z\t260101000001Z\t02\tunknown\t/CN=b\n' >>index
printf 'R\t360101000000Z\t260101000002Z,certificateHold\t03\tunknown\t/CN=c\n' >>index
echo 1234 >number
crl full -crlexts full
crl partial -crlexts partial
sed -i -e '/crlnumber/d' -e '/^\[full\]/,$d' ca.cnf
sed -i -e 's/,[a-zA-Z]*//' index
crl v1
