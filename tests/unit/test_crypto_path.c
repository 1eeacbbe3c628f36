/* Which chains lead to a trust anchor, and is each rule of RFC 5280 section 6.1 that we promise
 * enforced?
 *
 * vectors/crypto/path is written by vectors/crypto/generate.py with the openssl command; there one
 * sees what is special about each certificate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/path.h"

enum { FILES_MAX = 64, CHAIN_FILES = 8 };

static const int64_t now_s = 1700000000; /* 2023-11-14 */

static struct {
    char name[64];
    uint8_t der[CERT_DER_MAX];
    size_t len;
} files[FILES_MAX];
static size_t file_count;

static struct bytes load(const char *name)
{
    for (size_t i = 0; i < file_count; i++)
        if (strcmp(files[i].name, name) == 0)
            return bytes_of(files[i].der, files[i].len);
    assert_true(file_count < FILES_MAX);
    char path[128];
    snprintf(path, sizeof path, "vectors/crypto/path/%s.der", name);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("no %s", path);
    snprintf(files[file_count].name, sizeof files[0].name, "%s", name);
    files[file_count].len = fread(files[file_count].der, 1, CERT_DER_MAX, file);
    fclose(file);
    file_count++;
    return bytes_of(files[file_count - 1].der, files[file_count - 1].len);
}

/* Names by spaces. */
static size_t load_all(const char *names, struct bytes out[CHAIN_FILES])
{
    char copy[256], *rest = copy, *name;
    size_t count = 0;
    snprintf(copy, sizeof copy, "%s", names);
    while ((name = strsep(&rest, " ")) != NULL)
        out[count++] = load(name);
    return count;
}

static enum err validate_at(const char *anchors, const char *chain, int64_t when_s,
                            const char **out_anchor)
{
    static struct trust_store store;
    struct bytes all[CHAIN_FILES];
    size_t count = load_all(anchors, all);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(trust_store_add(&store, all[i]), ERR_OK);
    count = load_all(chain, all);
    const struct trust_anchor *anchor = NULL;
    enum err err = path_validate(&store, all, count, when_s, &anchor);
    assert_true((err == ERR_OK) == (anchor != NULL)); /* untouched on failure */
    for (size_t i = 0; anchor && out_anchor && i < file_count; i++)
        if (bytes_eq(anchor->cert.der, bytes_of(files[i].der, files[i].len)))
            *out_anchor = files[i].name;
    trust_store_clear(&store);
    return err;
}

static void expect(enum err expected, const char *anchors, const char *chain)
{
    enum err err = validate_at(anchors, chain, now_s, NULL);
    if (err != expected)
        fail_msg("%s under %s: %s, expected %s", chain, anchors, err_code(err), err_code(expected));
}

#define GOOD(anchors, chain)      expect(ERR_OK, anchors, chain)
#define UNTRUSTED(anchors, chain) expect(ERR_CLIENT_CERT_UNTRUSTED, anchors, chain)
#define EXPIRED(anchors, chain)   expect(ERR_CLIENT_CERT_EXPIRED, anchors, chain)

static void test_good_paths(void **state)
{
    (void)state;
    GOOD("root", "leaf-of-root");
    GOOD("root", "leaf inter");
    GOOD("root", "leaf inter root");
    GOOD("root", "leaf root inter"); /* any order */
    GOOD("root", "leaf leaf-of-root other-root inter");
    GOOD("inter", "leaf"); /* an anchor need not be self-signed */
    GOOD("inter root", "leaf");
    GOOD("other-root root", "leaf inter");
    GOOD("root-rsa", "leaf-of-rsa");
    GOOD("root-p384", "leaf-of-p384");
    GOOD("root", "leaf-of-no-usage inter-no-usage"); /* 6.1.4 (n): if a key usage is present */
    GOOD("root", "inter");                           /* an end entity may be a CA */
    GOOD("root", "leaf-unknown-harmless inter");
    GOOD("root", "leaf inter leaf inter leaf inter"); /* repetitions change nothing */
    GOOD("root", "leaf inter-same-name inter");       /* a wrong turn first */
}

static void test_the_anchor_is_named(void **state)
{
    (void)state;
    const char *name = NULL;
    assert_int_equal(validate_at("other-root root", "leaf inter", now_s, &name), ERR_OK);
    assert_string_equal(name, "root");
    assert_int_equal(validate_at("root inter", "leaf inter", now_s, &name), ERR_OK);
    assert_string_equal(name, "inter"); /* the shortest way */
    assert_int_equal(validate_at("other-root", "leaf inter inter-cross", now_s, &name), ERR_OK);
    assert_string_equal(name, "other-root"); /* through the cross-certificate */
}

static void test_no_path(void **state)
{
    (void)state;
    UNTRUSTED("root", "leaf");                  /* the intermediate is missing */
    UNTRUSTED("other-root", "leaf inter root"); /* a root that comes along is not an anchor */
    UNTRUSTED("other-root", "leaf inter");
    UNTRUSTED("root", "leaf-wrong-issuer inter");
    UNTRUSTED("root", "leaf-of-same-name inter"); /* right name, wrong key */
    UNTRUSTED("root", "leaf inter-renamed");      /* right key, wrong name */
    UNTRUSTED("root", "leaf-of-same-name inter inter-same-name");
    UNTRUSTED("root", "leaf-forged inter");
}

static void test_a_forged_leaf_of_an_anchor(void **state)
{
    (void)state;
    UNTRUSTED("inter", "leaf-forged");
    GOOD("inter", "leaf");
}

static void test_validity(void **state)
{
    (void)state;
    EXPIRED("root", "leaf-expired inter");
    EXPIRED("root", "leaf-future inter");
    EXPIRED("root", "leaf-of-expired inter-expired");
    EXPIRED("root-expired", "leaf-of-root-expired");
    UNTRUSTED("other-root", "leaf-expired inter"); /* untrusted says more than expired */
    assert_int_equal(validate_at("root", "leaf-expired inter", 1600000000, NULL), ERR_OK);
    /* the first and the last second: notBefore 2020-01-01, notAfter 2021-01-01 */
    assert_int_equal(validate_at("root", "leaf-expired inter", 1577836800, NULL), ERR_OK);
    assert_int_equal(validate_at("root", "leaf-expired inter", 1577836799, NULL),
                     ERR_CLIENT_CERT_EXPIRED);
    assert_int_equal(validate_at("root", "leaf-expired inter", 1609459200, NULL), ERR_OK);
    assert_int_equal(validate_at("root", "leaf-expired inter", 1609459201, NULL),
                     ERR_CLIENT_CERT_EXPIRED);
}

static void test_issuers_must_be_cas(void **state)
{
    (void)state;
    UNTRUSTED("root", "leaf-of-not-ca inter-not-ca");
    UNTRUSTED("root", "leaf-of-no-sign inter-no-sign");
    UNTRUSTED("root", "leaf-of-not-ca-signs inter-not-ca-signs");
    UNTRUSTED("root", "leaf-of-no-constraints inter-no-constraints");
}

static void test_path_length(void **state)
{
    (void)state;
    GOOD("root", "leaf-of-len0 inter-len0");
    UNTRUSTED("root", "leaf-below-len0 inter-below-len0 inter-len0");
    GOOD("root-len0", "leaf-of-root-len0");
    UNTRUSTED("root-len0", "leaf-too-deep inter-of-root-len0");
    GOOD("inter-len0", "leaf-of-len0");
    /* self-issued: 6.1.4 (l) */
    GOOD("root", "leaf-of-rollover inter-len0-new inter-len0");
    GOOD("root", "inter-below-len0 inter-len0"); /* the last one does not count */
}

static void test_critical_extensions(void **state)
{
    (void)state;
    UNTRUSTED("root", "leaf-unknown-critical inter");
    UNTRUSTED("root", "leaf-of-unknown-critical inter-unknown-critical");
    UNTRUSTED("root", "leaf-of-name-constraints inter-name-constraints");
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    GOOD("root", "leaf-deep-5 deep-1 deep-2 deep-3 deep-4 deep-5");
    GOOD("root", "leaf-deep-5 deep-5 deep-4 deep-3 deep-2 deep-1");
    static struct trust_store store;
    struct bytes chain[8];
    const struct trust_anchor *anchor;
    assert_int_equal(trust_store_add(&store, load("root")), ERR_OK);
    size_t count = load_all("leaf-deep-6 deep-6 deep-5 deep-4 deep-3 deep-2 deep-1", chain);
    assert_int_equal(count, CERT_CHAIN_MAX + 1);
    assert_int_equal(path_validate(&store, chain, count, now_s, &anchor),
                     ERR_CLIENT_CERT_UNTRUSTED);
    assert_int_equal(path_validate(&store, chain, 0, now_s, &anchor), ERR_CLIENT_CERT_UNTRUSTED);
    trust_store_clear(&store);
}

static void test_garbage(void **state)
{
    (void)state;
    static struct trust_store store;
    struct bytes inter = load("inter"), leaf = load("leaf");
    const struct trust_anchor *anchor;
    assert_int_equal(trust_store_add(&store, load("root")), ERR_OK);
    struct bytes cut = bytes_of(leaf.ptr, leaf.len - 1);
    struct bytes chain[] = {cut, inter};
    assert_int_equal(path_validate(&store, chain, 2, now_s, &anchor), ERR_CLIENT_CERT_UNTRUSTED);
    chain[0] = (struct bytes){0};
    assert_int_equal(path_validate(&store, chain, 2, now_s, &anchor), ERR_CLIENT_CERT_UNTRUSTED);
    /* candidates that do not decode are no candidates */
    struct bytes more[] = {leaf, cut, (struct bytes){0}, BYTES_LIT("garbage"), inter};
    assert_int_equal(path_validate(&store, more, 5, now_s, &anchor), ERR_OK);
    /* no anchors, no trust */
    trust_store_clear(&store);
    assert_int_equal(path_validate(&store, more, 5, now_s, &anchor), ERR_CLIENT_CERT_UNTRUSTED);
    trust_store_clear(&store);
}

static void test_trust_stores(void **state)
{
    (void)state;
    static struct trust_store store;
    assert_int_equal(trust_store_add(&store, load("leaf")), ERR_BAD_CERT);
    assert_int_equal(trust_store_add(&store, load("inter-no-sign")), ERR_BAD_CERT);
    assert_int_equal(trust_store_add(&store, load("inter-unknown-critical")), ERR_BAD_CERT);
    assert_int_equal(trust_store_add(&store, BYTES_LIT("garbage")), ERR_BAD_CERT);
    assert_int_equal(store.count, 0);
    assert_int_equal(trust_store_add(&store, load("root")), ERR_OK);
    assert_int_equal(trust_store_add(&store, load("root")), ERR_OK); /* once is enough */
    assert_int_equal(store.count, 1);
    /* a copy: the caller's bytes may go */
    struct bytes der = load("inter");
    uint8_t *mine = malloc(der.len);
    memcpy(mine, der.ptr, der.len);
    assert_int_equal(trust_store_add(&store, bytes_of(mine, der.len)), ERR_OK);
    memset(mine, 0, der.len);
    free(mine);
    const struct trust_anchor *anchor;
    struct bytes leaf = load("leaf");
    assert_int_equal(path_validate(&store, &leaf, 1, now_s, &anchor), ERR_OK);
    assert_ptr_equal(anchor, &store.anchor[1]);
    store.count = TRUST_ANCHORS_MAX;
    for (uint32_t i = 2; i < TRUST_ANCHORS_MAX; i++)
        store.anchor[i].cert.der = (struct bytes){0};
    assert_int_equal(trust_store_add(&store, load("other-root")), ERR_FULL);
    store.count = 2;
    trust_store_clear(&store);
    assert_int_equal(store.count, 0);
    trust_store_clear(&store);
}

/* Six certificates that all could have issued one another: the search gives up, it does not
 * explode. */
static void test_a_maze_ends(void **state)
{
    (void)state;
    static struct trust_store store;
    struct bytes chain[CERT_CHAIN_MAX];
    const struct trust_anchor *anchor;
    assert_int_equal(trust_store_add(&store, load("other-root")), ERR_OK);
    chain[0] = load("inter-len0-new");
    for (size_t i = 1; i < CERT_CHAIN_MAX; i++)
        chain[i] = load(i % 2 ? "root" : "inter-len0");
    assert_int_equal(path_validate(&store, chain, CERT_CHAIN_MAX, now_s, &anchor),
                     ERR_CLIENT_CERT_UNTRUSTED);
    trust_store_clear(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_paths),       cmocka_unit_test(test_the_anchor_is_named),
        cmocka_unit_test(test_no_path),          cmocka_unit_test(test_a_forged_leaf_of_an_anchor),
        cmocka_unit_test(test_validity),         cmocka_unit_test(test_issuers_must_be_cas),
        cmocka_unit_test(test_path_length),      cmocka_unit_test(test_critical_extensions),
        cmocka_unit_test(test_depth_is_bounded), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_trust_stores),     cmocka_unit_test(test_a_maze_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
