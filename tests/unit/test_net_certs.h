/* test_net_certs.h: keys and certificates for the tests of engine/net, valid for a hundred years.
 */
#ifndef CERTMILL_TEST_NET_CERTS_H
#define CERTMILL_TEST_NET_CERTS_H

/* clang-format off */

/* P-256, self-signed, localhost */
static const char server_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBnDCCAUGgAwIBAgIUMq6yDgsJkw3KG1tfvqiasVaT0DcwCgYIKoZIzj0EAwIw\n"
    "FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTIxMzYxNFoYDzIxMjYxMDI4\n"
    "MjEzNjE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n"
    "PQMBBwNCAARYIMCPAziijb21T/DntfiQJrSsCFFwhEE83zQzixvaPPolNcVrppG7\n"
    "S+BbUkayBYWGQjv2zrmKVE1o24d8Ae57o28wbTAdBgNVHQ4EFgQUlPt/huRQHsgr\n"
    "ggaxNRqMczluTRswHwYDVR0jBBgwFoAUlPt/huRQHsgrggaxNRqMczluTRswDwYD\n"
    "VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI\n"
    "zj0EAwIDSQAwRgIhAJW4D9Yj5AfprYe6rzgiZ4RBiIuaPkT2xych5EyP7+o+AiEA\n"
    "ifIZKqiGyInu+YrmEi3SbGWgvILWyG5ZrdEc4d8BrDc=\n"
    "-----END CERTIFICATE-----\n";
static const char server_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOGXQPgM24LqkUxz1\n"
    "bAgJYsydMAgdwIDrI3wTqQI0uGahRANCAARYIMCPAziijb21T/DntfiQJrSsCFFw\n"
    "hEE83zQzixvaPPolNcVrppG7S+BbUkayBYWGQjv2zrmKVE1o24d8Ae57\n"
    "-----END PRIVATE KEY-----\n";

/* RSA 2048, self-signed, localhost */
static const char rsa_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIDCzCCAfOgAwIBAgIUWFjM77FrDmn2tiWF8F65aRFnf3kwDQYJKoZIhvcNAQEL\n"
    "BQAwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTIxMzYxNVoYDzIxMjYx\n"
    "MDI4MjEzNjE1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwggEiMA0GCSqGSIb3DQEB\n"
    "AQUAA4IBDwAwggEKAoIBAQCn++NYxglNh2hCf166LIrbs1o3oHEnJ1pdwJzhmYOu\n"
    "PnSL4nt1Zr8Moj1bMqO/UYiAPyXqPEZXtxK/a1ebNZc4yg9o6N8NWzWBtn6B7IQy\n"
    "qjttNJI7diWPdNquIRQaX6yqkg5fUw+CA7k/e9k8+1XLg9Oq50W4Is1Au0T16/25\n"
    "EGka0zOBxJMZ3XPtoFi7K3PLTPNWfDRJzHGenp9D7ASxelP8B8CzCxKLC9oqSD+S\n"
    "lN/dtHGSwWa9SQImi63R0D7g3rCWVEhFqirdg8fT8hShqKdf7ng0uQtEjzef2Pfe\n"
    "syop6BO50Wa1oEUl3XH0ZxC76E6+rQTvJ+dsPc3SwiZ1AgMBAAGjUzBRMB0GA1Ud\n"
    "DgQWBBQ5x0hjKh25PJcfva2NTLKm2SI+fjAfBgNVHSMEGDAWgBQ5x0hjKh25PJcf\n"
    "va2NTLKm2SI+fjAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4IBAQA7\n"
    "FpLDwjmmo2KLGo9vS8vkxoMI5SqU8BdHuTlLPwq6aOr4cAWGJXq4MuPHEIR7Sb8d\n"
    "MTO6q882hJQhgYD9H67lEjG7wC3RlUx8SXIWdwsHKqjbc6tpus9fBLSdOooW5c7T\n"
    "jrn6Xi9g5pIHb6z4X+SZoTe9DNUEYh0CxFJM27FoHtum3tUyZfi58RyyItMMBhbg\n"
    "l6Jlrsvk+0ZoSNWASePB/9gALQHowCmkndivBBiVVLSn/yS2d+Tv0WMNMEMe3C7U\n"
    "8pNyU3STInsz7jsn/YUod+LZb7AIC+8dObWzwKmez9ENOITrl1ad2ev6G890JHme\n"
    "soYUgxG+Cws4yRDPbbEj\n"
    "-----END CERTIFICATE-----\n";
static const char rsa_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCn++NYxglNh2hC\n"
    "f166LIrbs1o3oHEnJ1pdwJzhmYOuPnSL4nt1Zr8Moj1bMqO/UYiAPyXqPEZXtxK/\n"
    "a1ebNZc4yg9o6N8NWzWBtn6B7IQyqjttNJI7diWPdNquIRQaX6yqkg5fUw+CA7k/\n"
    "e9k8+1XLg9Oq50W4Is1Au0T16/25EGka0zOBxJMZ3XPtoFi7K3PLTPNWfDRJzHGe\n"
    "np9D7ASxelP8B8CzCxKLC9oqSD+SlN/dtHGSwWa9SQImi63R0D7g3rCWVEhFqird\n"
    "g8fT8hShqKdf7ng0uQtEjzef2Pfesyop6BO50Wa1oEUl3XH0ZxC76E6+rQTvJ+ds\n"
    "Pc3SwiZ1AgMBAAECggEAJN9wEHDr4tY5pvsRXnlfg4kzYOl5XPhQ6Cpa5VROqMUx\n"
    "zPDKW8NRZWMJZ8bOVbT+avQxjOBtKlzXoyfbQ4j4aDFGP6d6KpLeRFo8G6XAgOSI\n"
    "BdkXzjCJXxtt0vIU2RMuMgS8XeU8DrRlic9UKIQc2X7Wy/lW/uu4tSBGK1sBRwk9\n"
    "ipOxDT5AQ4n4ubASNsqZ3lvFF6OXGz5cA+954MZyXDLbO6mEx0uYUiSP8e4RQKQ/\n"
    "oGytaDWQ7750sS+rsgA1iRgsH3mUrEyO0sVqRnRP6NbmKPR+5Vsp0ccZxHsrLLQi\n"
    "pl6VklbQtEL4I251dhtsNB9nPLKwWiep4hrLCOSSswKBgQDWObQhuLgJYLbqykm/\n"
    "tl2LzLYUm5vwVdZxlsUF/udsTeVagT0om9x2Kn8/8boXVdk+SBqYjvxMYWHW3eb/\n"
    "nr7UJ4W/xLhPw1m0m34Ny4f+P/8aRElvfoEfqgdl8iWizCdnsXkb3IqKHpf87wZm\n"
    "xHnNU5gdU6GuutBKtVbl/hXnJwKBgQDIvcZkJ2V4y1w4eei4TlksKWBqhE1iYK8y\n"
    "AS+HTyxrbPKQNXkAe8G3h3YrXN4A0y/HZ/MYnBMri0t8DAiYtUfl1ElSM/9/2zn1\n"
    "BQqKI1i9MhbDbpQoT4lFLegzIpxIu8A0x/DDHokfiThFHFKcKubOjRzj+nYMOLzM\n"
    "PfNMPVqnAwKBgEMQu5DXCF5/NaSZga8QA4cxpksbUB1UchcLcVDoNUEVvdiwnxno\n"
    "eYNQ2JeHMI//o0w5PIJIOTocPooK3DdoViuK1/dqOZ1W9e1xxGvDLSbumAl8GVVb\n"
    "UEc+bqR+w0ONEEUJLXYIfCKzYzefCO0BU3RxWCzOMs7F01GgJb1I50h/AoGAN+jL\n"
    "MafbVipllAE4NOT1ZxxbEy+oEedVxDqaTzhY6c6dPFb4TY8qZABhhDBIULiBDSvB\n"
    "hDAsEquoKXN8jXOoA7X9edyro6OeX8S4q8Kue3tQ5buNnjCQzei8TEmud397R/gL\n"
    "8Xw2usbQGkeKJp64S/z3d/ORH1RKGSSD9876yZsCgYAA+3s86Jj+K3GHu8dbTYxk\n"
    "nJnDbfoZ6KGRPh/hii9GDsTgsvcxak5wpUNeUwPRnIJEYmYf9VzhEKKL0xBaOOcN\n"
    "ev0b5AaISpFSxIWaCstZYH6nvPnfQjsqtKpP87fWTrQDmhhPJgUbSsHP9FwvmNBK\n"
    "AiU7kIzkY6W8pEKSRuSKOg==\n"
    "-----END PRIVATE KEY-----\n";

/* station 1 <- test intermediate <- test root */
static const char client_chain_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBfDCCASGgAwIBAgIBAzAKBggqhkjOPQQDAjAcMRowGAYDVQQDDBF0ZXN0IGlu\n"
    "dGVybWVkaWF0ZTAgFw0yNjExMjEyMTM2MTRaGA8yMTI2MTAyODIxMzYxNFowFDES\n"
    "MBAGA1UEAwwJc3RhdGlvbiAxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa+M0\n"
    "gPCdRvKOkNjC9+zEMe0rjzw+TjIZsX8A8GGeU8YZG6xQcuViVqIakoreLiilp5SG\n"
    "BB5NT8lxza1N2jr8IKNaMFgwCQYDVR0TBAIwADALBgNVHQ8EBAMCB4AwHQYDVR0O\n"
    "BBYEFGa2Kyb60SHJt5rkxF/MxTM54ErfMB8GA1UdIwQYMBaAFPIRXB5pEzQhJfGB\n"
    "ANrkbsopthL3MAoGCCqGSM49BAMCA0kAMEYCIQCVtyp9ylFYIGzE8ro7I4qOKFvE\n"
    "idHnS2tfJ7jTJwHc8QIhANGgNf1uEeZUz4oTnszGhWpjq37ofGRWMKj8/HZOTT41\n"
    "-----END CERTIFICATE-----\n"
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBgTCCASegAwIBAgIBAjAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAl0ZXN0IHJv\n"
    "b3QwIBcNMjYxMTIxMjEzNjE0WhgPMjEyNjEwMjgyMTM2MTRaMBwxGjAYBgNVBAMM\n"
    "EXRlc3QgaW50ZXJtZWRpYXRlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7sV9\n"
    "W6GcEnen7TJcbhtNEv9tqkBPl4CisCmYIUFnCgVSu+E97lhEO/6vlCFml6MMNvlk\n"
    "v9XTGG20ovwtrDwtmKNgMF4wDwYDVR0TAQH/BAUwAwEB/zALBgNVHQ8EBAMCAgQw\n"
    "HQYDVR0OBBYEFPIRXB5pEzQhJfGBANrkbsopthL3MB8GA1UdIwQYMBaAFL1qGJ9L\n"
    "bQ2p8gVcE9befr3iifUMMAoGCCqGSM49BAMCA0gAMEUCIARGDDfYxR7aHhVasYQR\n"
    "yu+tjVJL1Cu+qxILj0sKIbckAiEAmq8rr+u8xsUHCdg56/aZCMYgoBzDK5dbbdFZ\n"
    "0WUJJNU=\n"
    "-----END CERTIFICATE-----\n"
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBfzCCASWgAwIBAgIUEEJlMUjTQZH7KOxienuBHqNlsggwCgYIKoZIzj0EAwIw\n"
    "FDESMBAGA1UEAwwJdGVzdCByb290MCAXDTI2MTEyMTIxMzYxNFoYDzIxMjYxMDI4\n"
    "MjEzNjE0WjAUMRIwEAYDVQQDDAl0ZXN0IHJvb3QwWTATBgcqhkjOPQIBBggqhkjO\n"
    "PQMBBwNCAATV642m0i/d95sKh8E0bq65K5yOrlg6IKF6ZiCY6qtRI8NZg51/Nkc/\n"
    "JQFcfhoaHMD3I7FayeplyZ4l/dXm9Sngo1MwUTAdBgNVHQ4EFgQUvWoYn0ttDany\n"
    "BVwT1t5+veKJ9QwwHwYDVR0jBBgwFoAUvWoYn0ttDanyBVwT1t5+veKJ9QwwDwYD\n"
    "VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiB8Vjs3pH2K6Y7gcFVVPbAW\n"
    "kcNhu+ztqvZkWvnRGPXJQwIhAMoUoTom7O0KJkBMxKAq/kcJwB2a2jj6wzOleuss\n"
    "jP8Z\n"
    "-----END CERTIFICATE-----\n";
static const char client_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBfDCCASGgAwIBAgIBAzAKBggqhkjOPQQDAjAcMRowGAYDVQQDDBF0ZXN0IGlu\n"
    "dGVybWVkaWF0ZTAgFw0yNjExMjEyMTM2MTRaGA8yMTI2MTAyODIxMzYxNFowFDES\n"
    "MBAGA1UEAwwJc3RhdGlvbiAxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa+M0\n"
    "gPCdRvKOkNjC9+zEMe0rjzw+TjIZsX8A8GGeU8YZG6xQcuViVqIakoreLiilp5SG\n"
    "BB5NT8lxza1N2jr8IKNaMFgwCQYDVR0TBAIwADALBgNVHQ8EBAMCB4AwHQYDVR0O\n"
    "BBYEFGa2Kyb60SHJt5rkxF/MxTM54ErfMB8GA1UdIwQYMBaAFPIRXB5pEzQhJfGB\n"
    "ANrkbsopthL3MAoGCCqGSM49BAMCA0kAMEYCIQCVtyp9ylFYIGzE8ro7I4qOKFvE\n"
    "idHnS2tfJ7jTJwHc8QIhANGgNf1uEeZUz4oTnszGhWpjq37ofGRWMKj8/HZOTT41\n"
    "-----END CERTIFICATE-----\n";
static const char client_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjy0s7MgL+zNgcVKl\n"
    "cR9LpvNr+3BrYC+FiajdBPOiZCihRANCAARr4zSA8J1G8o6Q2ML37MQx7SuPPD5O\n"
    "MhmxfwDwYZ5TxhkbrFBy5WJWohqSit4uKKWnlIYEHk1PyXHNrU3aOvwg\n"
    "-----END PRIVATE KEY-----\n";

/* P-256, of nobody */
static const char other_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbhGZUggZAXfGZbsZ\n"
    "HI/+Zt714TU5l7x8uW+dfnO+voqhRANCAARkhey3tkFpvTXwzN2W3RCNEWasNBab\n"
    "FbPXKbV2BTs2fJc0l+uOCmW5ayVF2evvRo/dKix+v7WlM2rys7fWjapI\n"
    "-----END PRIVATE KEY-----\n";

/* leaves that a path check refuses: expired, of another use, with an unknown critical extension */
static const char expired_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBIjCByaADAgECAgFNMAoGCCqGSM49BAMCMBwxGjAYBgNVBAMMEXRlc3QgaW50\n"
    "ZXJtZWRpYXRlMB4XDTAxMDEwMTAwMDAwMFoXDTAyMDEwMTAwMDAwMFowGjEYMBYG\n"
    "A1UEAwwPZXhwaXJlZCBzdGF0aW9uMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n"
    "a+M0gPCdRvKOkNjC9+zEMe0rjzw+TjIZsX8A8GGeU8YZG6xQcuViVqIakoreLiil\n"
    "p5SGBB5NT8lxza1N2jr8IDAKBggqhkjOPQQDAgNIADBFAiAmzCgNaHuMqsOGkRrr\n"
    "Fc/rOsXlnCeDqKC/DsZMy9fQqAIhANJdQ44gmTadrV4GuqlOEFr5Yh8/j7+sjwTc\n"
    "95JM4j6e\n"
    "-----END CERTIFICATE-----\n";
static const char odd_use_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBTDCB8qADAgECAgFNMAoGCCqGSM49BAMCMBwxGjAYBgNVBAMMEXRlc3QgaW50\n"
    "ZXJtZWRpYXRlMCAXDTAxMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAVMRMw\n"
    "EQYDVQQDDAphIHNlcnZlcidzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa+M0\n"
    "gPCdRvKOkNjC9+zEMe0rjzw+TjIZsX8A8GGeU8YZG6xQcuViVqIakoreLiilp5SG\n"
    "BB5NT8lxza1N2jr8IKMqMCgwFgYDVR0lAQH/BAwwCgYIKwYBBQUHAwEwDgYDVR0P\n"
    "AQH/BAQDAgUgMAoGCCqGSM49BAMCA0kAMEYCIQDBlTzW8MiTx2pChDydFuPOSuAL\n"
    "sC4LATg1z0Q58eBRIwIhAI5dSEauX61jpQGRZ3N77xWZsK2XzoXMLzGpM8NkUBx8\n"
    "-----END CERTIFICATE-----\n";
static const char critical_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBRzCB7qADAgECAgFNMAoGCCqGSM49BAMCMBwxGjAYBgNVBAMMEXRlc3QgaW50\n"
    "ZXJtZWRpYXRlMCAXDTAxMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAlMSMw\n"
    "IQYDVQQDDBp1bmtub3duIGNyaXRpY2FsIGV4dGVuc2lvbjBZMBMGByqGSM49AgEG\n"
    "CCqGSM49AwEHA0IABGvjNIDwnUbyjpDYwvfsxDHtK488Pk4yGbF/APBhnlPGGRus\n"
    "UHLlYlaiGpKK3i4opaeUhgQeTU/Jcc2tTdo6/CCjFjAUMBIGCSsGAQQBho0fAQEB\n"
    "/wQCBQAwCgYIKoZIzj0EAwIDSAAwRQIhAOVCYdfeoCkxbH0pzuScQ/zjQPGxqu3l\n"
    "OxOZt4swKT8GAiBz/HYmkL/DUi5reUlyaqMmXvvFwhl82Vbfm/hPPRtUWw==\n"
    "-----END CERTIFICATE-----\n";

/* clang-format on */

#endif
