/* Are secrets wiped and compared as promised, and are random bytes random? */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"

/* In place of libc's: the kernel may give less than asked for, or be interrupted. */
static size_t most_at_once = SIZE_MAX;
static unsigned calls;

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    if (++calls % 3 == 0 && most_at_once != SIZE_MAX) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_getrandom, buffer, length < most_at_once ? length : most_at_once, flags);
}

static void test_wipe(void **state)
{
    (void)state;
    uint8_t mem[66];
    memset(mem, 0xaa, sizeof(mem));
    secret_wipe(mem + 1, 64);
    for (size_t i = 1; i <= 64; i++)
        assert_int_equal(mem[i], 0);
    assert_int_equal(mem[0], 0xaa);
    assert_int_equal(mem[65], 0xaa);
    secret_wipe(NULL, 0);
}

static void test_eq(void **state)
{
    (void)state;
    uint8_t a[32], b[32];
    random_bytes(a, sizeof(a));
    memcpy(b, a, sizeof(a));
    assert_true(secret_eq(BYTES_ARRAY(a), BYTES_ARRAY(b)));
    for (size_t bit = 0; bit < 256; bit++) { /* each single bit is seen */
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(secret_eq(BYTES_ARRAY(a), BYTES_ARRAY(b)));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* two differences do not cancel out */
    b[0] ^= 1;
    b[1] ^= 1;
    assert_false(secret_eq(BYTES_ARRAY(a), BYTES_ARRAY(b)));
    assert_false(secret_eq(BYTES_ARRAY(a), bytes_of(a, 31)));
    assert_true(secret_eq((struct bytes){0}, (struct bytes){0}));
    assert_false(secret_eq((struct bytes){0}, BYTES_ARRAY(a)));
}

static void test_random(void **state)
{
    (void)state;
    static uint8_t big[1 << 20];
    most_at_once = 101;
    calls = 0;
    random_bytes(big, sizeof(big));
    most_at_once = SIZE_MAX;
    assert_in_range(calls, sizeof(big) / 101, 2 * sizeof(big) / 101);
    size_t count[256] = {0};
    for (size_t i = 0; i < sizeof(big); i++)
        count[big[i]]++;
    /* 4096 expected each, deviation 64: 10 of them */
    for (size_t i = 0; i < 256; i++)
        assert_in_range(count[i], 4096 - 640, 4096 + 640);

    uint8_t guarded[34];
    memset(guarded, 0, sizeof(guarded));
    for (unsigned i = 0; i < 64; i++) {
        random_bytes(guarded + 1, 32);
        assert_true(guarded[0] == 0 && guarded[33] == 0);
    }
    uint8_t again[32];
    random_bytes(again, 32);
    assert_memory_not_equal(guarded + 1, again, 32);
    random_bytes(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_eq),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
