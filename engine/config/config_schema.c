/* What the YAML may say, as libcyaml wants it. */
#include "config/config_internal.h"

/* A switch that may be left out: 0 not given, 1 yes, 2 no; config.c makes it 0 or 1. */
static const cyaml_strval_t SWITCH[] = {{"true", CONFIG_YES}, {"yes", CONFIG_YES},
                                        {"on", CONFIG_YES},   {"false", CONFIG_NO},
                                        {"no", CONFIG_NO},    {"off", CONFIG_NO}};

#define COUNT_OF(a)             (sizeof(a) / sizeof((a)[0]))
#define OPT                     CYAML_FLAG_OPTIONAL
#define PTR                     CYAML_FLAG_POINTER
#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, PTR, type, member, 1, CYAML_UNLIMITED)
#define TEXT_OPT(key, type, member)                                                                \
    CYAML_FIELD_STRING_PTR(key, PTR | OPT, type, member, 1, CYAML_UNLIMITED)
#define WORDS_OPT(key, type, member, max)                                                          \
    CYAML_FIELD_SEQUENCE(key, PTR | OPT, type, member, &WORD, 0, max)
#define SWITCH_OPT(key, type, member)                                                              \
    CYAML_FIELD_ENUM(key, OPT | CYAML_FLAG_STRICT, type, member, SWITCH, COUNT_OF(SWITCH))
#define UINT_OPT(key, type, member) CYAML_FIELD_UINT(key, OPT, type, member)

static const cyaml_schema_value_t WORD = {CYAML_VALUE_STRING(PTR, char, 1, CYAML_UNLIMITED)};

static const cyaml_schema_field_t LISTENER[] = {
    TEXT_OPT("address", struct config_listener, address),
    CYAML_FIELD_UINT("port", CYAML_FLAG_DEFAULT, struct config_listener, port),
    SWITCH_OPT("tls", struct config_listener, tls), CYAML_FIELD_END};
static const cyaml_schema_value_t LISTENER_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_listener, LISTENER)};

static const cyaml_schema_field_t TLS[] = {
    TEXT("certificate", struct config_tls, certificate), TEXT("key", struct config_tls, key),
    SWITCH_OPT("tls12", struct config_tls, tls12), CYAML_FIELD_END};

static const cyaml_schema_field_t TIMEOUTS[] = {
    UINT_OPT("handshake_ms", struct config_timeouts, handshake_ms),
    UINT_OPT("header_ms", struct config_timeouts, header_ms),
    UINT_OPT("body_ms", struct config_timeouts, body_ms),
    UINT_OPT("idle_ms", struct config_timeouts, idle_ms),
    UINT_OPT("send_ms", struct config_timeouts, send_ms),
    UINT_OPT("drain_ms", struct config_timeouts, drain_ms),
    CYAML_FIELD_END};

static const cyaml_schema_field_t TOKEN[] = {
    TEXT("name", struct config_token, name),
    TEXT("module", struct config_token, module),
    TEXT("uri", struct config_token, uri),
    TEXT_OPT("pin_file", struct config_token, pin_file),
    TEXT_OPT("pin_env", struct config_token, pin_env),
    TEXT_OPT("pin_credential", struct config_token, pin_credential),
    UINT_OPT("signers", struct config_token, signers),
    UINT_OPT("sessions", struct config_token, sessions),
    UINT_OPT("deadline_ms", struct config_token, deadline_ms),
    SWITCH_OPT("network", struct config_token, network),
    CYAML_FIELD_UINT_PTR("verify_one_in", PTR | OPT, struct config_token, verify_one_in_given),
    WORDS_OPT("rv_classes", struct config_token, rv_classes, 64),
    CYAML_FIELD_END};
static const cyaml_schema_value_t TOKEN_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_token, TOKEN)};

static const cyaml_schema_field_t CRL[] = {
    TEXT_OPT("lifetime", struct config_crl, lifetime), TEXT_OPT("every", struct config_crl, every),
    TEXT_OPT("on_revocation", struct config_crl, on_revocation), CYAML_FIELD_END};

static const cyaml_schema_field_t CA[] = {
    TEXT("name", struct config_ca, name),
    TEXT("key", struct config_ca, key),
    WORDS_OPT("tokens", struct config_ca, tokens, TOKENS_MAX),
    TEXT("certificate", struct config_ca, certificate),
    WORDS_OPT("chain", struct config_ca, chain, CERT_CHAIN_MAX),
    WORDS_OPT("previous", struct config_ca, previous, CA_PREVIOUS_MAX),
    TEXT_OPT("old_with_new", struct config_ca, old_with_new),
    TEXT_OPT("new_with_old", struct config_ca, new_with_old),
    SWITCH_OPT("test", struct config_ca, test),
    CYAML_FIELD_MAPPING("crl", OPT, struct config_ca, crl, CRL),
    CYAML_FIELD_END};
static const cyaml_schema_value_t CA_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_ca, CA)};

static const cyaml_schema_field_t PROFILE[] = {
    TEXT("name", struct config_profile, name),
    TEXT("base", struct config_profile, base),
    TEXT_OPT("validity", struct config_profile, validity),
    TEXT_OPT("backdate", struct config_profile, backdate),
    WORDS_OPT("keys", struct config_profile, keys, 16),
    WORDS_OPT("key_usage", struct config_profile, key_usage, 16),
    WORDS_OPT("ext_key_usage", struct config_profile, ext_key_usage, 16),
    SWITCH_OPT("server_auth", struct config_profile, server_auth),
    TEXT_OPT("san", struct config_profile, san),
    TEXT_OPT("subject", struct config_profile, subject),
    TEXT_OPT("crl_url", struct config_profile, crl_url),
    CYAML_FIELD_END};
static const cyaml_schema_value_t PROFILE_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_profile, PROFILE)};

static const cyaml_schema_field_t STATION[] = {
    TEXT("name", struct config_station, name),
    TEXT_OPT("password_hash", struct config_station, password_hash),
    TEXT_OPT("certificate_subject", struct config_station, certificate_subject),
    TEXT_OPT("cmp_reference", struct config_station, cmp_reference),
    TEXT_OPT("cmp_secret_file", struct config_station, cmp_secret_file),
    WORDS_OPT("roles", struct config_station, roles, 5),
    WORDS_OPT("lines", struct config_station, lines, LINES_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_value_t STATION_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_station, STATION)};

static const cyaml_schema_field_t CMP_SIGNER[] = {
    TEXT("name", struct config_cmp_signer, name),
    TEXT("certificate", struct config_cmp_signer, certificate),
    WORDS_OPT("chain", struct config_cmp_signer, chain, CERT_CHAIN_MAX),
    TEXT_OPT("key_file", struct config_cmp_signer, key_file),
    TEXT_OPT("key", struct config_cmp_signer, key),
    WORDS_OPT("tokens", struct config_cmp_signer, tokens, TOKENS_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_value_t CMP_SIGNER_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_cmp_signer, CMP_SIGNER)};

static const cyaml_schema_field_t CMP[] = {
    TEXT_OPT("signer", struct config_cmp, signer),
    TEXT_OPT("mode", struct config_cmp, mode),
    SWITCH_OPT("implicit_confirm", struct config_cmp, implicit_confirm),
    SWITCH_OPT("lenient_sender", struct config_cmp, lenient_sender),
    SWITCH_OPT("require_time", struct config_cmp, require_time),
    TEXT_OPT("confirm_wait", struct config_cmp, confirm_wait),
    TEXT_OPT("time_window", struct config_cmp, time_window),
    TEXT_OPT("batch", struct config_cmp, batch),
    UINT_OPT("requests_max", struct config_cmp, requests_max),
    UINT_OPT("poll_after", struct config_cmp, poll_after),
    SWITCH_OPT("keygen", struct config_cmp, keygen),
    CYAML_FIELD_END};

static const cyaml_schema_field_t LINE[] = {
    TEXT("name", struct config_line, name),
    TEXT("ca", struct config_line, ca),
    TEXT("profile", struct config_line, profile),
    TEXT_OPT("device_id", struct config_line, device_id),
    WORDS_OPT("trust_anchors", struct config_line, trust_anchors, TRUST_ANCHORS_MAX),
    SWITCH_OPT("basic_auth", struct config_line, basic_auth),
    SWITCH_OPT("client_cert", struct config_line, client_cert),
    SWITCH_OPT("renewal", struct config_line, renewal),
    SWITCH_OPT("require_pop_link", struct config_line, require_pop_link),
    SWITCH_OPT("hold", struct config_line, hold),
    SWITCH_OPT("confirm", struct config_line, confirm),
    SWITCH_OPT("test", struct config_line, test),
    CYAML_FIELD_MAPPING_PTR("cmp", PTR | OPT, struct config_line, cmp, CMP),
    UINT_OPT("base64_wrap", struct config_line, base64_wrap),
    UINT_OPT("rate_limit", struct config_line, rate_limit),
    CYAML_FIELD_END};
static const cyaml_schema_value_t LINE_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_line, LINE)};

static const cyaml_schema_field_t STORE[] = {TEXT_OPT("dir", struct config_store, dir),
                                             UINT_OPT("map_size", struct config_store, map_size),
                                             CYAML_FIELD_END};
static const cyaml_schema_field_t ADMIN[] = {TEXT_OPT("socket", struct config_admin, socket),
                                             TEXT_OPT("address", struct config_admin, address),
                                             UINT_OPT("port", struct config_admin, port),
                                             CYAML_FIELD_END};
static const cyaml_schema_field_t LOG[] = {TEXT_OPT("level", struct config_log, level),
                                           CYAML_FIELD_END};

#define LIST(key, type, member, value, min, max)                                                   \
    CYAML_FIELD_SEQUENCE(key, (min) > 0 ? PTR : PTR | OPT, type, member, value, min, max)

static const cyaml_schema_field_t TOP[] = {
    CYAML_FIELD_MAPPING("store", OPT, struct config, store, STORE),
    UINT_OPT("cores", struct config, cores),
    SWITCH_OPT("pin_cores", struct config, pin_cores),
    CYAML_FIELD_MAPPING("log", OPT, struct config, log, LOG),
    CYAML_FIELD_MAPPING("admin", OPT, struct config, admin, ADMIN),
    UINT_OPT("connections_per_core", struct config, connections_per_core),
    TEXT_OPT("default_line", struct config, default_line),
    LIST("listeners", struct config, listeners, &LISTENER_VALUE, 1, LISTENERS_MAX),
    CYAML_FIELD_MAPPING("tls", OPT, struct config, tls, TLS),
    CYAML_FIELD_MAPPING("timeouts", OPT, struct config, timeouts, TIMEOUTS),
    LIST("tokens", struct config, tokens, &TOKEN_VALUE, 1, TOKENS_MAX),
    LIST("cas", struct config, cas, &CA_VALUE, 1, CAS_MAX),
    LIST("profiles", struct config, profiles, &PROFILE_VALUE, 1, PROFILES_MAX),
    LIST("stations", struct config, stations, &STATION_VALUE, 0, STATIONS_MAX),
    LIST("cmp_signers", struct config, cmp_signers, &CMP_SIGNER_VALUE, 0, CMP_SIGNERS_MAX),
    WORDS_OPT("cmp_announce", struct config, cmp_announce, CMP_ANNOUNCE_MAX),
    LIST("lines", struct config, lines, &LINE_VALUE, 1, LINES_MAX),
    CYAML_FIELD_END};

const cyaml_schema_value_t CONFIG_SCHEMA = {CYAML_VALUE_MAPPING(PTR, struct config, TOP)};
