/* Do base64 and PEM agree with OpenSSL's idea of them, and lose nothing on the way there and back?
 *
 * Oracles: accepted text without its whitespace decodes the same by EVP_DecodeBlock; text that is
 * canonical by EVP_EncodeBlock is accepted; encoding then decoding is the identity at every width.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "asn1/base64.h"
#include "asn1/x509.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { INPUT_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Text without whitespace, by a rule written anew here. */
static size_t strip(const uint8_t *data, size_t size, uint8_t *out)
{
    size_t len = 0;
    for (size_t i = 0; i < size; i++)
        if (data[i] != ' ' && data[i] != '\t' && data[i] != '\r' && data[i] != '\n')
            out[len++] = data[i];
    return len;
}

static void check_decode(const uint8_t *data, size_t size)
{
    static uint8_t ours[INPUT_MAX], theirs[INPUT_MAX + 3], text[INPUT_MAX + 1], back[INPUT_MAX + 5];
    size_t text_len = strip(data, size, text), len = 0;
    bool ok = base64_decode(bytes_of(data, size), ours, sizeof(ours), &len);
    int theirs_len = EVP_DecodeBlock(theirs, text, (int)text_len);
    size_t pad_len = 0;

    while (pad_len < 2 && pad_len < text_len && text[text_len - 1 - pad_len] == '=')
        pad_len++;
    if (ok) {
        CHECK(theirs_len >= 0 && (size_t)theirs_len == len + pad_len);
        CHECK(bytes_eq(bytes_of(ours, len), bytes_of(theirs, len)));
        CHECK(len <= base64_decoded_bound(size));
        size_t same = 0; /* room to the octet */
        CHECK(base64_decode(bytes_of(data, size), ours, len, &same) && same == len);
        if (len > 0)
            CHECK(!base64_decode(bytes_of(data, size), ours, len - 1, &same));
        CHECK(base64_encode(bytes_of(ours, len), 0, back) == text_len);
        CHECK(bytes_eq(bytes_of(back, text_len), bytes_of(text, text_len)));
    } else if (theirs_len > 0) {
        int back_len = EVP_EncodeBlock(back, theirs, theirs_len - (int)pad_len);
        CHECK(!bytes_eq(bytes_of(back, (size_t)back_len), bytes_of(text, text_len)));
    }
}

static void check_encode(const uint8_t *data, size_t size, uint32_t wrap)
{
    static uint8_t ours[4 * INPUT_MAX], flat[2 * INPUT_MAX], theirs[2 * INPUT_MAX], back[INPUT_MAX];
    size_t len = base64_encoded_len(size, wrap), back_len = 0;

    CHECK(base64_encode(bytes_of(data, size), wrap, ours) == len);
    CHECK(base64_decode(bytes_of(ours, len), back, sizeof(back), &back_len));
    CHECK(bytes_eq(bytes_of(back, back_len), bytes_of(data, size)));
    int theirs_len = EVP_EncodeBlock(theirs, data, (int)size);
    CHECK(bytes_eq(bytes_of(flat, strip(ours, len, flat)), bytes_of(theirs, (size_t)theirs_len)));
}

static void check_pem(const uint8_t *data, size_t size)
{
    static uint8_t der[INPUT_MAX], text[2 * INPUT_MAX + 128], again[INPUT_MAX];
    struct bytes reader = bytes_of(data, size);
    size_t len, again_len;

    while (pem_next(&reader, "CERTIFICATE", der, sizeof(der), &len) == ERR_OK) {
        struct writer out = writer_of(text, sizeof(text));
        pem_put(&out, "CERTIFICATE", bytes_of(der, len));
        CHECK(!out.failed);
        struct bytes view = writer_view(&out);
        CHECK(pem_next(&view, "CERTIFICATE", again, sizeof(again), &again_len) == ERR_OK);
        CHECK(view.len == 0 && bytes_eq(bytes_of(again, again_len), bytes_of(der, len)));
    }
    CHECK(reader.len <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_MAX)
        return 0;
    check_decode(data, size);
    check_pem(data, size);
    if (size > 0)
        check_encode(data + 1, size - 1, data[0]);
    return 0;
}
