/* Which revocation list a client asks for, and whether ours is newer than what it has (RFC 9810
 * 5.3.19.17). A source names a list that is here; nothing is fetched from anywhere. */
#include "proto/cmp_impl.h"

/* dpn [0]: DistributionPointName ::= CHOICE { fullName [0] GeneralNames, ... } (RFC 5280 4.2.1.13) */
static bool names_url(const struct proto_cmp_line *line, struct bytes names)
{
    while (names.len > 0) {
        struct bytes contents, element;
        uint8_t tag;
        if (!der_get_any(&names, &tag, &contents, &element)) {
            return false;
        }
        if (tag == DER_CONTEXT(GN_URI) && line->crl_url.len > 0 &&
            bytes_eq(contents, line->crl_url)) {
            return true;
        }
    }
    return false;
}

/* issuer [1]: GeneralNames of the CA */
static bool names_ca(const struct proto_cmp_line *line, struct bytes names)
{
    while (names.len > 0) {
        struct bytes element, name;
        if (!general_name_get(&names, &element, &name)) {
            return false;
        }
        if (name.len > 0 && bytes_eq(name, line->ca_name)) {
            return true;
        }
    }
    return false;
}

/* The next element, a CRLSource. */
static bool get_source(const struct proto_cmp_line *line, struct bytes *reader, bool *out_ours)
{
    struct bytes source, names;
    *out_ours = false;
    if (der_peek(*reader) == DER_CONTEXT_CONSTRUCTED(1)) {
        if (!der_get(reader, DER_CONTEXT_CONSTRUCTED(1), &source) ||
            !der_get(&source, DER_SEQUENCE, &names) || source.len != 0 || names.len == 0) {
            return false;
        }
        *out_ours = names_ca(line, names);
        return true;
    }
    if (!der_get(reader, DER_CONTEXT_CONSTRUCTED(0), &source) || source.len == 0) {
        return false;
    }
    if (der_peek(source) == DER_CONTEXT_CONSTRUCTED(0) &&
        der_get(&source, DER_CONTEXT_CONSTRUCTED(0), &names)) {
        *out_ours = names_url(line, names);
    }
    return true;
}

bool cmp_crl_asked(const struct proto_cmp_line *line, struct bytes status_list,
                   int64_t this_update_s, bool *out_newer)
{
    struct bytes list, status;
    bool newer = false;
    if (!der_get(&status_list, DER_SEQUENCE, &list) || status_list.len != 0 || list.len == 0) {
        return false;
    }
    while (list.len > 0) {
        bool ours;
        int64_t has_s = INT64_MIN;
        if (!der_get(&list, DER_SEQUENCE, &status) || !get_source(line, &status, &ours) ||
            (status.len > 0 && !der_get_time(&status, &has_s)) || status.len != 0) {
            return false;
        }
        newer |= ours && this_update_s > has_s;
    }
    *out_newer = newer;
    return true;
}
