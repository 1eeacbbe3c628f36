/* internal.h: what the files of asn1 share with one another and nobody else includes.
 *
 * Promise: as der.h and x509.h.
 */
#ifndef CERTMILL_ASN1_INTERNAL_H
#define CERTMILL_ASN1_INTERNAL_H

#include "asn1/x509.h"

/* UTF-8 without overlong forms, surrogates, or what is past U+10FFFF. */
bool utf8_is_valid(struct bytes text);

/* Contents of an INTEGER and of a BIT STRING, for where another tag stands around them. */
bool integer_is_minimal(struct bytes contents);
bool bits_are_valid(struct bytes contents);

/* extensions_decode of the contents of an Extensions, whatever the tag around them. */
enum err extensions_contents_decode(struct bytes list, struct extensions *out) MUST_USE;

/* One AttributeTypeAndValue of a Name. */
struct name_attribute {
    struct bytes oid;
    struct bytes value; /* contents */
    uint8_t tag;
    bool continues_rdn; /* not the first of its RelativeDistinguishedName */
};

/* Goes through a Name attribute by attribute, checking all of it on the way. */
struct name_walk {
    struct bytes rdns;     /* what is left of the RDNSequence */
    struct bytes rdn;      /* what is left of the RDN begun */
    struct bytes previous; /* element before, in the same RDN */
};

enum name_step { NAME_ATTRIBUTE, NAME_END, NAME_MALFORMED };

/* false when it is not one SEQUENCE and nothing else, or longer than NAME_DER_MAX. */
bool name_walk_start(struct bytes name_der, struct name_walk *out) MUST_USE;
enum name_step name_walk_next(struct name_walk *walk, struct name_attribute *out) MUST_USE;

/* A whole AlgorithmIdentifier of whatever algorithm. */
bool algorithm_is_valid(struct bytes der);
/* extnValue of an authorityKeyIdentifier; the key id is empty when it has none. */
bool aki_value_decode(struct bytes value, struct bytes *out_key_id) MUST_USE;

/* Contents of a GeneralNames, whatever the tag around them (AKI holds one without its SEQUENCE). */
bool general_names_contents_are_valid(struct bytes contents);

#endif
