/* test_net_client.h: a TLS client over memory for the tests of engine/net. */
#ifndef CERTMILL_TEST_NET_CLIENT_H
#define CERTMILL_TEST_NET_CLIENT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/ssl.h>

#include "base/bytes.h"
#include "test_net_certs.h"

enum { CLIENT_BUFFER = 1 << 20 };

/* Octets on their way in one direction. */
struct pipe_buffer {
    uint8_t *data;
    size_t len;
};

struct client {
    WOLFSSL_CTX *ctx;
    WOLFSSL *wolf;
    struct pipe_buffer in, out; /* ciphertext to and from the client */
};

static inline void pipe_put(struct pipe_buffer *pipe, struct bytes data)
{
    if (pipe->data == NULL)
        pipe->data = malloc(CLIENT_BUFFER);
    if (pipe->data == NULL || data.len > CLIENT_BUFFER - pipe->len)
        abort();
    if (data.len > 0)
        memcpy(pipe->data + pipe->len, data.ptr, data.len);
    pipe->len += data.len;
}

static inline void pipe_drop(struct pipe_buffer *pipe, size_t n)
{
    pipe->len -= n;
    if (pipe->len > 0)
        memmove(pipe->data, pipe->data + n, pipe->len);
}

static inline int client_on_read(WOLFSSL *wolf, char *buf, int len, void *arg)
{
    (void)wolf;
    struct client *client = arg;
    if (client->in.len == 0)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    size_t n = (size_t)len < client->in.len ? (size_t)len : client->in.len;
    memcpy(buf, client->in.data, n);
    pipe_drop(&client->in, n);
    return (int)n;
}

static inline int client_on_write(WOLFSSL *wolf, char *buf, int len, void *arg)
{
    (void)wolf;
    pipe_put(&((struct client *)arg)->out, bytes_of(buf, (size_t)len));
    return len;
}

/* version: 12 or 13; chain and key: NULL for none. Use client_again for more connections. */
static inline void client_again(struct client *client)
{
    WOLFSSL_SESSION *session = NULL;
    if (client->wolf != NULL) {
        session = wolfSSL_get1_session(client->wolf);
        wolfSSL_free(client->wolf);
    }
    client->wolf = wolfSSL_new(client->ctx);
    wolfSSL_SetIOReadCtx(client->wolf, client);
    wolfSSL_SetIOWriteCtx(client->wolf, client);
    wolfSSL_KeepArrays(client->wolf);
    wolfSSL_UseSessionTicket(client->wolf);
    if (session != NULL) {
        wolfSSL_set_session(client->wolf, session);
        wolfSSL_SESSION_free(session);
    }
    client->in.len = client->out.len = 0;
}

static inline void client_open(struct client *client, int version, const char *chain,
                               const char *key)
{
    *client = (struct client){0};
    client->ctx =
        wolfSSL_CTX_new(version == 12 ? wolfTLSv1_2_client_method() : wolfTLSv1_3_client_method());
    if (client->ctx == NULL)
        abort();
    wolfSSL_CTX_set_verify(client->ctx, WOLFSSL_VERIFY_NONE, NULL);
    wolfSSL_CTX_SetIORecv(client->ctx, client_on_read);
    wolfSSL_CTX_SetIOSend(client->ctx, client_on_write);
    if (chain != NULL &&
        (wolfSSL_CTX_use_certificate_chain_buffer(client->ctx, (const unsigned char *)chain,
                                                  (long)strlen(chain)) != WOLFSSL_SUCCESS ||
         wolfSSL_CTX_use_PrivateKey_buffer(client->ctx, (const unsigned char *)key,
                                           (long)strlen(key),
                                           WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS))
        abort();
    client_again(client);
}

static inline void client_close(struct client *client)
{
    wolfSSL_free(client->wolf);
    wolfSSL_CTX_free(client->ctx);
    free(client->in.data);
    free(client->out.data);
    *client = (struct client){0};
}

/* PEM text in a file of its own; unlink it when loaded. */
static inline void pem_file(char path[64], const char *text)
{
    snprintf(path, 64, "/tmp/certmill-test-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

#endif
