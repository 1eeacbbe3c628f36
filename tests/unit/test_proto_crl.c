/* Which paths and methods get a revocation list, and how are they answered? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"

static void test_match(void **state)
{
    (void)state;
    const struct {
        const char *method, *path;
        bool ours;
        enum err err;
        const char *ca;
    } cases[] = {
        {"GET", "/crl/issuing.crl", true, ERR_OK, "issuing"},
        {"HEAD", "/crl/issuing.crl", true, ERR_OK, "issuing"},
        {"GET", "/crl/a.b-c_d.crl", true, ERR_OK, "a.b-c_d"},
        {"GET", "/crl/.crl.crl", true, ERR_OK, ".crl"},
        {"POST", "/crl/issuing.crl", true, ERR_HTTP_METHOD, NULL},
        {"get", "/crl/issuing.crl", true, ERR_HTTP_METHOD, NULL},
        {"GET", "/crl/", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/.crl", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/issuing", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/issuing.CRL", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/issuing.crl/", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/../issuing.crl", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/issuing%2ecrl", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl/iss%75ing.crl", true, ERR_NOT_FOUND, NULL},
        {"GET", "/crl", false, ERR_OK, NULL},
        {"GET", "/crls/issuing.crl", false, ERR_OK, NULL},
        {"GET", "/", false, ERR_OK, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proto_route route = {0};
        enum err err = ERR_OK;
        bool ours =
            proto_match(bytes_of_str(cases[i].method), bytes_of_str(cases[i].path), &route, &err);
        if (ours != cases[i].ours || err != cases[i].err)
            print_error("%s %s\n", cases[i].method, cases[i].path);
        assert_int_equal(ours, cases[i].ours);
        assert_int_equal(err, cases[i].err);
        if (!ours)
            continue;
        assert_ptr_equal(route.proto, &proto_crl);
        assert_int_equal(route.body_max, 0);
        if (cases[i].ca != NULL) {
            assert_int_equal(route.action, ACTION_CRL);
            assert_true(bytes_eq(route.ca, bytes_of_str(cases[i].ca)));
        }
        if (err == ERR_HTTP_METHOD)
            assert_string_equal(route.allow, "GET, HEAD");
    }
}

static void test_answers(void **state)
{
    (void)state;
    const uint32_t chunks[CHUNK_CLASS_COUNT] = {2, 0, 0};
    struct proto_route route = {.proto = &proto_crl, .action = ACTION_CRL, .allow = "GET, HEAD"};
    struct proto_request request = {0};
    struct proto_message message = {
        .action = ACTION_CRL, .crl_der = BYTES_LIT("list"), .crl_left_s = 3600};
    struct proto_response answer = {0};
    struct chunk_pool pool;
    struct arena arena;

    assert_int_equal(chunk_pool_init_counts(&pool, chunks), ERR_OK);
    arena_init(&arena, &pool, 0);
    assert_int_equal(proto_crl.encode(&route, NULL, &request, &message, NULL, &arena, &answer),
                     ERR_OK);
    assert_int_equal(answer.http_status, 200);
    assert_string_equal(answer.content_type, "application/pkix-crl");
    assert_string_equal(answer.cache_control, "max-age=3600");
    assert_ptr_equal(answer.body.ptr, message.crl_der.ptr); /* no copy */
    message.crl_left_s = UINT64_MAX;
    assert_int_equal(proto_crl.encode(&route, NULL, &request, &message, NULL, &arena, &answer),
                     ERR_OK);
    assert_string_equal(answer.cache_control, "max-age=18446744073709551615");

    const struct {
        enum err err;
        uint16_t status;
    } refusals[] = {
        {ERR_NOT_FOUND, 404}, {ERR_HTTP_METHOD, 405}, {ERR_NO_CRL, 503}, {ERR_OVERLOADED, 503}};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        proto_crl.refuse(&route, NULL, &request, NULL, refusals[i].err, NULL, "0123456789abcdef", 2,
                         &arena, &answer);
        assert_int_equal(answer.http_status, refusals[i].status);
        assert_string_equal(answer.content_type, "text/plain");
        assert_int_equal(answer.retry_after_s, refusals[i].status == 503 ? 2 : 0);
    }
    assert_string_equal(proto_crl.name, "crl");

    arena_reset(&arena);
    struct chunk_pool empty = {0};
    struct arena none;
    arena_init(&none, &empty, 0);
    assert_int_equal(proto_crl.encode(&route, NULL, &request, &message, NULL, &none, &answer),
                     ERR_OVERLOADED);
    chunk_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
