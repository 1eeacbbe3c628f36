/* C_Initialize to C_Logout: the life of the module, sessions, login. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"
#include "hsm/sim/sim.h"

struct sim sim = {.lock = PTHREAD_MUTEX_INITIALIZER, .place = {.fd = -1}, .vault = {.lock_fd = -1}};

/* Handles: the session's place, and its generation so that a closed one is known. */
enum { PLACE_BITS = 12 };
static_assert(SIM_SESSIONS_MAX == 1 << PLACE_BITS, "a handle has room for the place");

/* --- entering --- */

CK_RV sim_enter(enum call_kind call)
{
    if (!atomic_load_explicit(&sim.is_ready, memory_order_acquire))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return faults_meet(sim.faults, call, NULL);
}

bool session_is_lost(const struct session *session)
{
    return session->epoch != board_get(&sim.place, BOARD_session_epoch);
}

static CK_SESSION_HANDLE handle_of(const struct session *session)
{
    return (CK_SESSION_HANDLE)session->generation << PLACE_BITS |
           (CK_SESSION_HANDLE)(session - sim.session);
}

void operation_end(struct operation *operation)
{
    object_drop(operation->key);
    if (operation->data)
        secret_wipe(operation->data, operation->cap);
    free(operation->data);
    *operation = (struct operation){0};
}

/* With the session's lock held; takes sim.lock. */
static void close_locked(struct session *session)
{
    for (int i = 0; i < OP_COUNT; i++)
        operation_end(&session->operation[i]);
    free(session->found);
    session->found = NULL;
    session->is_finding = false;
    pthread_mutex_lock(&sim.lock);
    table_drop_session(handle_of(session));
    session->is_open = false;
    board_session_give(&sim.place);
    if (!(session->flags & CKF_RW_SESSION))
        sim.ro_session_count--;
    if (--sim.session_count == 0)
        sim_logout(); /* PKCS#11 2.40 5.6: the last one logs out */
    pthread_mutex_unlock(&sim.lock);
}

CK_RV session_enter(CK_SESSION_HANDLE handle, enum call_kind call, struct session **out)
{
    CK_RV rv = sim_enter(call);
    if (rv != CKR_OK)
        return rv;
    struct session *session = &sim.session[handle & (SIM_SESSIONS_MAX - 1)];
    pthread_mutex_lock(&session->lock);
    rv = CKR_SESSION_HANDLE_INVALID;
    if (session->is_open && handle_of(session) == handle) {
        if (!session_is_lost(session)) {
            *out = session;
            return CKR_OK;
        }
        close_locked(session);
    }
    pthread_mutex_unlock(&session->lock);
    return rv;
}

void session_leave(struct session *session)
{
    pthread_mutex_unlock(&session->lock);
}

void sim_close_all(void)
{
    for (int i = 0; i < SIM_SESSIONS_MAX; i++) {
        struct session *session = &sim.session[i];
        pthread_mutex_lock(&session->lock);
        if (session->is_open)
            close_locked(session);
        pthread_mutex_unlock(&session->lock);
    }
}

/* --- C_Initialize, C_Finalize --- */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("certmill-hsmsim: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

static void locks_init(void)
{
    for (int i = 0; i < SIM_SESSIONS_MAX; i++)
        pthread_mutex_init(&sim.session[i].lock, NULL);
}

/* PKCS#11 2.40 6.6.1: a child starts with a module that is not initialized. Its memory goes with
 * it; the locks on files stay with the parent, who shares their descriptions. */
static void after_fork(void)
{
    if (sim.place.fd >= 0)
        board_detach(&sim.place);
    vault_close(&sim.vault);
    for (int i = 0; i < SIM_SESSIONS_MAX; i++) {
        sim.session[i].is_open = false;
        for (int k = 0; k < OP_COUNT; k++)
            sim.session[i].operation[k] = (struct operation){0};
        sim.session[i].is_finding = false;
        sim.session[i].found = NULL;
    }
    locks_init();
    pthread_mutex_init(&sim.lock, NULL);
    secret_wipe(sim.key, sizeof sim.key);
    sim.object = NULL;
    sim.faults = NULL;
    sim.object_count = sim.session_count = sim.ro_session_count = 0;
    atomic_store(&sim.login, LOGIN_NONE);
    atomic_store(&sim.generation, 0);
    atomic_store(&sim.is_ready, false);
}

/* Once per process: hooks that must outlive dlclose, so the module stays mapped (threads' random
 * generators are freed when they end, which may be later). */
static void once(void)
{
    Dl_info self;
    locks_init();
    pthread_atfork(NULL, NULL, after_fork);
    if (dladdr((const void *)(uintptr_t)&once, &self) && self.dli_fname)
        dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

static void stop(void)
{
    faults_free(sim.faults);
    sim.faults = NULL;
    if (sim.place.fd >= 0)
        board_detach(&sim.place);
    vault_close(&sim.vault);
}

/* The description beside this very file of the module, when there is one: so that a program with
 * several copies of the module has several devices. Else what the environment names, or NULL. */
static const char *find_description(char own[PATH_MAX])
{
    Dl_info self;
    if (dladdr((const void *)(uintptr_t)&find_description, &self) && self.dli_fname &&
        (size_t)snprintf(own, PATH_MAX, "%s.yaml", self.dli_fname) < PATH_MAX &&
        access(own, F_OK) == 0)
        return own;
    const char *named = getenv("CERTMILL_HSMSIM_CONFIG");
    return named && *named ? named : NULL;
}

static bool start(void)
{
    char error[DESCRIBE_ERROR_MAX], own[PATH_MAX];
    const char *path = find_description(own);
    if (!path) {
        say("CERTMILL_HSMSIM_CONFIG must name the description (YAML) of the device to play");
        return false;
    }
    if (description_load(path, &sim.description, error)) {
        say("%s", error);
        return false;
    }
    struct vault_token token;
    if (vault_open(sim.description.directory, &sim.vault)) {
        say("%s: %s", sim.description.directory, strerror(errno));
        return false;
    }
    enum err err = vault_read_token(&sim.vault, &token);
    if (err) {
        say("%s/token: %s", sim.description.directory, err_sentence(err));
        return false;
    }
    err = board_attach(sim.description.status, &sim.place);
    if (err) {
        say("%s: %s", sim.description.status,
            err == ERR_FULL ? "too many processes use this token" : strerror(errno));
        return false;
    }
    sim.faults = faults_new(&sim.description, &sim.place);
    return sim.faults != NULL;
}

static CK_RV check_arguments(const CK_C_INITIALIZE_ARGS *args)
{
    if (!args)
        return CKR_OK;
    int given =
        !!args->CreateMutex + !!args->DestroyMutex + !!args->LockMutex + !!args->UnlockMutex;
    if (args->pReserved || (given != 0 && given != 4))
        return CKR_ARGUMENTS_BAD;
    /* Locks are the system's; with the caller's alone the module cannot do (2.40 5.4) */
    return given == 4 && !(args->flags & CKF_OS_LOCKING_OK) ? CKR_CANT_LOCK : CKR_OK;
}

CK_RV C_Initialize(void *args)
{
    static pthread_once_t control = PTHREAD_ONCE_INIT;
    pthread_once(&control, once);
    CK_RV rv = check_arguments(args);
    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&sim.lock);
    if (atomic_load(&sim.is_ready)) {
        rv = CKR_CRYPTOKI_ALREADY_INITIALIZED;
    } else if (!start()) {
        stop();
        rv = CKR_GENERAL_ERROR;
    } else {
        atomic_store_explicit(&sim.is_ready, true, memory_order_release);
    }
    pthread_mutex_unlock(&sim.lock);
    return rv;
}

CK_RV C_Finalize(void *reserved)
{
    if (reserved)
        return CKR_ARGUMENTS_BAD;
    if (!atomic_exchange(&sim.is_ready, false))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    sim_close_all();
    pthread_mutex_lock(&sim.lock);
    sim_logout();
    table_clear();
    stop();
    pthread_mutex_unlock(&sim.lock);
    return CKR_OK;
}

/* --- sessions --- */

static void open_locked(struct session *session, CK_FLAGS flags)
{
    session->generation++;
    session->flags = flags & (CKF_RW_SESSION | CKF_SERIAL_SESSION);
    session->epoch = board_get(&sim.place, BOARD_session_epoch);
    session->context_login = false;
    session->is_open = true;
    sim.session_count++;
    if (!(flags & CKF_RW_SESSION))
        sim.ro_session_count++;
    board_add(&sim.place, BOARD_session_opens);
}

static CK_RV open_session(CK_FLAGS flags, CK_SESSION_HANDLE *out)
{
    if (!(flags & CKF_RW_SESSION) && sim_login() == LOGIN_SO)
        return CKR_SESSION_READ_WRITE_SO_EXISTS;
    bool taken = board_session_take(&sim.place, sim.description.sessions_max);
    for (int i = 0; i < SIM_SESSIONS_MAX && taken; i++) {
        struct session *session = &sim.session[i];
        /* Against the order of locks, so only tried: one that is locked is in use. */
        if (pthread_mutex_trylock(&session->lock) != 0)
            continue;
        bool is_free = !session->is_open;
        if (is_free) {
            open_locked(session, flags);
            *out = handle_of(session);
        }
        pthread_mutex_unlock(&session->lock);
        if (is_free)
            return CKR_OK;
    }
    if (taken)
        board_session_give(&sim.place);
    board_add(&sim.place, BOARD_session_refusals);
    return CKR_SESSION_COUNT;
}

/* Lost sessions are closed when they are used next; those that never are must not fill the
 * device's limit. */
static void close_lost(void)
{
    static _Atomic uint64_t looked_at;
    uint64_t epoch = board_get(&sim.place, BOARD_session_epoch);
    if (atomic_exchange(&looked_at, epoch) == epoch)
        return;
    for (int i = 0; i < SIM_SESSIONS_MAX; i++) {
        struct session *session = &sim.session[i];
        if (pthread_mutex_trylock(&session->lock) != 0)
            continue;
        if (session->is_open && session_is_lost(session))
            close_locked(session);
        pthread_mutex_unlock(&session->lock);
    }
}

CK_RV C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                    CK_SESSION_HANDLE *out)
{
    (void)application, (void)notify;
    CK_RV rv = sim_enter(CALL_SESSION);
    if (rv != CKR_OK)
        return rv;
    if (slot != SIM_SLOT)
        return CKR_SLOT_ID_INVALID;
    if (!out)
        return CKR_ARGUMENTS_BAD;
    if (!(flags & CKF_SERIAL_SESSION))
        return CKR_SESSION_PARALLEL_NOT_SUPPORTED;
    close_lost();
    pthread_mutex_lock(&sim.lock);
    rv = open_session(flags, out);
    pthread_mutex_unlock(&sim.lock);
    return rv;
}

CK_RV C_CloseSession(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    close_locked(session);
    session_leave(session);
    return CKR_OK;
}

CK_RV C_CloseAllSessions(CK_SLOT_ID slot)
{
    CK_RV rv = sim_enter(CALL_OTHER);
    if (rv != CKR_OK)
        return rv;
    if (slot != SIM_SLOT)
        return CKR_SLOT_ID_INVALID;
    sim_close_all();
    return CKR_OK;
}

static CK_STATE state_of(const struct session *session)
{
    bool writable = session->flags & CKF_RW_SESSION;
    switch (sim_login()) {
    case LOGIN_USER:
        return writable ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
    case LOGIN_SO:
        return CKS_RW_SO_FUNCTIONS;
    case LOGIN_NONE:
        break;
    }
    return writable ? CKS_RW_PUBLIC_SESSION : CKS_RO_PUBLIC_SESSION;
}

CK_RV C_GetSessionInfo(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    if (info)
        *info = (CK_SESSION_INFO){
            .slotID = SIM_SLOT, .state = state_of(session), .flags = session->flags};
    session_leave(session);
    return info ? CKR_OK : CKR_ARGUMENTS_BAD;
}

CK_RV C_SessionCancel(CK_SESSION_HANDLE handle, CK_FLAGS flags)
{
    static const struct {
        CK_FLAGS flag;
        enum operation_kind kind;
    } kinds[] = {{CKF_SIGN, OP_SIGN},
                 {CKF_VERIFY, OP_VERIFY},
                 {CKF_DIGEST, OP_DIGEST},
                 {SIM_CKF_MESSAGE_SIGN, OP_MESSAGE_SIGN}};
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (flags & kinds[i].flag)
            operation_end(&session->operation[kinds[i].kind]);
    session_leave(session);
    return CKR_OK;
}

/* --- login --- */

enum login sim_login(void)
{
    int login = atomic_load_explicit(&sim.login, memory_order_acquire);
    if (login != LOGIN_NONE &&
        atomic_load(&sim.login_epoch) != board_get(&sim.place, BOARD_session_epoch))
        return LOGIN_NONE;
    return (enum login)login;
}

void sim_logout(void)
{
    atomic_store(&sim.login, LOGIN_NONE);
    secret_wipe(sim.key, sizeof sim.key);
    table_drop_private();
}

static enum board_word failures_of(enum vault_user user)
{
    return user == VAULT_SO ? BOARD_so_pin_failures : BOARD_user_pin_failures;
}

/* A try counts, whatever happens to this process next: it is counted before the PIN is looked at.
 * Under sim.lock and the vault's. */
static CK_RV try_pin(const struct vault_token *token, enum vault_user user, struct bytes pin,
                     uint8_t *out_key)
{
    bool is_so = user == VAULT_SO;
    uint64_t limit = is_so ? sim.description.so_pin_tries : sim.description.pin_tries;
    if (!token->has_pin[user])
        return is_so ? CKR_PIN_INCORRECT : CKR_USER_PIN_NOT_INITIALIZED;
    if (board_get(&sim.place, failures_of(user)) >= limit) {
        board_add(&sim.place, BOARD_pin_locked_answers);
        return CKR_PIN_LOCKED;
    }
    board_add(&sim.place, failures_of(user));
    enum err err = vault_try_pin(token, user, pin, out_key);
    if (err == ERR_PIN_WRONG) {
        board_add(&sim.place, is_so ? BOARD_so_pin_wrong : BOARD_user_pin_wrong);
        return CKR_PIN_INCORRECT;
    }
    if (err)
        return CKR_GENERAL_ERROR;
    board_set(&sim.place, failures_of(user), 0);
    return CKR_OK;
}

static CK_RV with_pin(enum vault_user user, struct bytes pin, struct vault_token *out_token,
                      uint8_t *out_key)
{
    if (!vault_lock(&sim.vault))
        return CKR_DEVICE_ERROR;
    CK_RV rv = CKR_DEVICE_ERROR;
    if (!vault_read_token(&sim.vault, out_token))
        rv = try_pin(out_token, user, pin, out_key);
    vault_unlock(&sim.vault);
    return rv;
}

static CK_RV login(enum vault_user user, struct bytes pin)
{
    enum login wanted = user == VAULT_SO ? LOGIN_SO : LOGIN_USER, now = sim_login();
    if (now != LOGIN_NONE)
        return now == wanted ? CKR_USER_ALREADY_LOGGED_IN : CKR_USER_ANOTHER_ALREADY_LOGGED_IN;
    if (user == VAULT_SO && sim.ro_session_count > 0)
        return CKR_SESSION_READ_ONLY_EXISTS;
    sim_logout(); /* what a lost login left */
    struct vault_token token;
    uint64_t epoch = board_get(&sim.place, BOARD_session_epoch);
    CK_RV rv = with_pin(user, pin, &token, sim.key);
    if (rv != CKR_OK)
        return rv;
    atomic_store(&sim.login_epoch, epoch);
    atomic_store_explicit(&sim.login, wanted, memory_order_release);
    board_add(&sim.place, user == VAULT_SO ? BOARD_so_logins : BOARD_user_logins);
    table_refresh(true);
    return CKR_OK;
}

/* For one signature with a key of CKA_ALWAYS_AUTHENTICATE. */
static CK_RV context_login(struct session *session, struct bytes pin)
{
    struct vault_token token;
    uint8_t key[KEYWRAP_KEY_LEN];
    const struct operation *operation = &session->operation[OP_SIGN];
    if (!operation->mechanism || !object_bool(operation->key, CKA_ALWAYS_AUTHENTICATE, false))
        return CKR_OPERATION_NOT_INITIALIZED;
    CK_RV rv = with_pin(VAULT_USER, pin, &token, key);
    secret_wipe(key, sizeof key);
    session->context_login = rv == CKR_OK;
    return rv;
}

CK_RV C_Login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len)
{
    struct session *session;
    if (atomic_load_explicit(&sim.is_ready, memory_order_acquire))
        board_add(&sim.place, BOARD_login_calls); /* also those that a fault answers */
    CK_RV rv = session_enter(handle, CALL_LOGIN, &session);
    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&sim.lock);
    if (!pin && pin_len > 0)
        rv = CKR_ARGUMENTS_BAD;
    else if (user == CKU_SO || user == CKU_USER)
        rv = login(user == CKU_SO ? VAULT_SO : VAULT_USER, bytes_of(pin, pin_len));
    else if (user == CKU_CONTEXT_SPECIFIC)
        rv = context_login(session, bytes_of(pin, pin_len));
    else
        rv = CKR_USER_TYPE_INVALID;
    pthread_mutex_unlock(&sim.lock);
    session_leave(session);
    return rv;
}

CK_RV C_LoginUser(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len,
                  CK_BYTE *name, CK_ULONG name_len)
{
    (void)name, (void)name_len; /* there is one user of each kind */
    return C_Login(session, user, pin, pin_len);
}

CK_RV C_Logout(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_LOGIN, &session);
    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&sim.lock);
    if (sim_login() == LOGIN_NONE)
        rv = CKR_USER_NOT_LOGGED_IN;
    sim_logout();
    pthread_mutex_unlock(&sim.lock);
    session_leave(session);
    return rv;
}

/* --- PINs --- */

static CK_RV check_new_pin(const CK_BYTE *pin, CK_ULONG len)
{
    if (!pin)
        return CKR_ARGUMENTS_BAD;
    return len >= VAULT_PIN_MIN && len <= VAULT_PIN_MAX ? CKR_OK : CKR_PIN_LEN_RANGE;
}

/* The SO gives the user a PIN; a locked one is open again. */
static CK_RV init_pin(struct bytes pin)
{
    if (sim_login() != LOGIN_SO)
        return CKR_USER_NOT_LOGGED_IN;
    if (!vault_lock(&sim.vault))
        return CKR_DEVICE_ERROR;
    struct vault_token token;
    bool done = !vault_read_token(&sim.vault, &token) &&
                !vault_set_pin(&sim.vault, &token, VAULT_USER, pin, sim.key);
    if (done)
        board_set(&sim.place, BOARD_user_pin_failures, 0);
    vault_unlock(&sim.vault);
    return done ? CKR_OK : CKR_DEVICE_ERROR;
}

CK_RV C_InitPIN(CK_SESSION_HANDLE handle, CK_BYTE *pin, CK_ULONG pin_len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_LOGIN, &session);
    if (rv != CKR_OK)
        return rv;
    rv = check_new_pin(pin, pin_len);
    if (rv == CKR_OK) {
        pthread_mutex_lock(&sim.lock);
        rv = init_pin(bytes_of(pin, pin_len));
        pthread_mutex_unlock(&sim.lock);
    }
    session_leave(session);
    return rv;
}

static CK_RV set_pin(struct bytes before, struct bytes after)
{
    enum vault_user user = sim_login() == LOGIN_SO ? VAULT_SO : VAULT_USER;
    struct vault_token token;
    uint8_t key[KEYWRAP_KEY_LEN];
    if (!vault_lock(&sim.vault))
        return CKR_DEVICE_ERROR;
    CK_RV rv = vault_read_token(&sim.vault, &token) ? CKR_DEVICE_ERROR
                                                    : try_pin(&token, user, before, key);
    if (rv == CKR_OK && vault_set_pin(&sim.vault, &token, user, after, key))
        rv = CKR_DEVICE_ERROR;
    vault_unlock(&sim.vault);
    secret_wipe(key, sizeof key);
    return rv;
}

CK_RV C_SetPIN(CK_SESSION_HANDLE handle, CK_BYTE *before, CK_ULONG before_len, CK_BYTE *after,
               CK_ULONG after_len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_LOGIN, &session);
    if (rv != CKR_OK)
        return rv;
    if (!(session->flags & CKF_RW_SESSION))
        rv = CKR_SESSION_READ_ONLY;
    else if (!before)
        rv = CKR_ARGUMENTS_BAD;
    else
        rv = check_new_pin(after, after_len);
    if (rv == CKR_OK) {
        pthread_mutex_lock(&sim.lock);
        rv = set_pin(bytes_of(before, before_len), bytes_of(after, after_len));
        pthread_mutex_unlock(&sim.lock);
    }
    session_leave(session);
    return rv;
}

/* In token.c's C_InitToken too. */
CK_RV sim_try_so_pin(const struct vault_token *token, struct bytes pin)
{
    uint8_t key[KEYWRAP_KEY_LEN];
    CK_RV rv = try_pin(token, VAULT_SO, pin, key);
    secret_wipe(key, sizeof key);
    return rv;
}
