"""Does the tree keep its own rules: who may know whom, which calls are banned, how long things may get?

Reads every file that git knows or would add; without git, all but what builds leave behind. A rule that does not fit a case gets a named exception
here, with its reason; an exception that is not needed any more fails too.
"""
import functools
import posixpath
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def files():
    try:
        out = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True,
                             capture_output=True).stdout.decode()
        names = set(out.split("\0")) - {""}
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or somebody else's clone
        names = {str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.suffix != ".pyc"
                 and p.relative_to(ROOT).parts[0] not in (".git", ".cache", "build", "certmill-demo")}
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


@functools.cache
def text(name):
    """None for what is not text."""
    data = (ROOT / name).read_bytes()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def of_kind(*suffixes, under=""):
    return [f for f in files() if f.endswith(suffixes) and f.startswith(under)]


TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


@functools.cache
def code(name):
    """A C file without its comments and without what its strings say; lines stay where they are."""
    def blank(match):
        found = match.group()
        quote = found[0] if found[0] != "/" else " "
        return quote + "\n" * found.count("\n") + quote
    return TOKENS.sub(blank, text(name))


def line_of(body, offset):
    return body.count("\n", 0, offset) + 1


def check(problems):
    problems = list(problems)
    assert not problems, f"{len(problems)} found:\n" + "\n".join(problems)


# --- who may know whom ----------------------------------------------------------------------------

ENGINE = {f"engine/{f}" for f in ("base", "io", "net", "asn1", "crypto", "proto", "factory", "ca", "config",
                                  "pipeline", "admin")}

# A folder, and what its files may include: folders, or single headers. engine/limits.h is everybody's.
MAY_INCLUDE = {
    "engine/base": set(),
    "engine/asn1": {"engine/base"},
    "engine/crypto": {"engine/base", "engine/asn1"},
    "engine/proto": {"engine/base", "engine/asn1", "engine/crypto"},
    "engine/io": {"engine/base"},
    "engine/net": {"engine/base", "engine/io"},
    "engine/ca": {"engine/base", "engine/asn1", "engine/crypto"},
    "engine/config": {"engine/base"},
    "engine/factory": {"engine/base", "engine/asn1", "store"},
    "engine/admin": {"engine/base", "engine/net/http.h", "hsm/queue", "store"},
    "engine/pipeline": (ENGINE - {"engine/admin"}) | {"hsm/queue", "store"},
    "engine": {"engine/base", "engine/pipeline", "engine/admin"},
    "hsm/queue": {"engine/base"},
    "hsm/p11": {"engine/base", "engine/asn1", "engine/crypto", "hsm/queue"},
    "hsm/signer": {"engine/base", "engine/crypto/digest.h", "hsm/queue", "hsm/p11"},
    "hsm/null": {"engine/base", "engine/asn1", "engine/crypto"},
    "hsm/sim": {"engine/base", "engine/asn1", "engine/crypto"},
    "store": {"engine/base", "engine/crypto/digest.h"},
    "tools": (ENGINE - {"engine/io", "engine/net", "engine/pipeline", "engine/admin"}) | {"hsm/queue", "hsm/p11",
                                                                                          "store"},
    "bench": ENGINE | {"hsm/queue", "hsm/p11", "hsm/sim", "store"},
    "tests/unit": ENGINE | {"hsm/queue", "hsm/p11", "hsm/signer", "hsm/null", "hsm/sim", "store", "bench", "tools"},
    "tests/fuzz": ENGINE | {"hsm/queue", "hsm/p11", "hsm/signer", "store"},
    "tests/lib": {"engine/base", "engine/asn1", "engine/proto"},
    "deploy/deps": set(),
}

# A header, and the only files that include it.
ONLY_IN = {
    "liburing.h": ["engine/io/ring.c"],
    "wolfssl/wolfcrypt/*": ["engine/crypto/*", "engine/net/tls*.c", "tests/unit/test_net_*", "bench/micro_verify.c",
                            "deploy/deps/wolfssl_check.c"],
    "wolfssl/options.h": ["engine/crypto/*", "engine/net/tls*.c", "tests/unit/test_net_*", "bench/micro_verify.c",
                          "deploy/deps/wolfssl_check.c"],
    "wolfssl/version.h": ["bench/micro_verify.c", "deploy/deps/wolfssl_check.c"],
    "wolfssl/*": ["engine/net/tls*.c", "tests/unit/test_net_*", "deploy/deps/wolfssl_check.c"],
    "lmdb.h": ["store/lmdb.c"],
    "*pkcs11*.h": ["hsm/p11/*", "hsm/null/*", "hsm/sim/*", "tests/*"],
    "cyaml/*": ["engine/config/*", "hsm/sim/*"],
    "yaml.h": ["engine/config/*", "hsm/sim/*"],
    "openssl/*": ["bench/*", "tools/*", "tests/*"],
    "jansson.h": ["bench/*", "tools/*", "tests/*"],
    "libpq-fe.h": ["store/relay*"],
    "seccomp.h": ["hsm/signer/*"],
    "crypt.h": ["engine/crypto/password.c"],
    "cmocka.h": ["tests/*"],
}

GENERATED = {"build_info.h"}  # by CMake, from engine/build_info.h.in

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include(?:_next)?[ \t]*(["<])([^">]+)[">]', re.M)


@functools.cache
def includes():
    """(file, line, header as written, its path here or None) of every #include."""
    known, found = set(files()), []
    for name in of_kind(".c", ".h"):
        for match in INCLUDE.finditer(text(name)):
            written = match[2]
            places = [posixpath.normpath(posixpath.join(posixpath.dirname(name), written)), "engine/" + written, written]
            path = next((p for p in places if p in known), None) if match[1] == '"' else None
            found.append((name, line_of(text(name), match.start()), match[1] + written, path))
    return found


def test_every_own_header_is_found():
    check(f"{name}:{line}: {written[1:]}: no such file" for name, line, written, path in includes()
          if written[0] == '"' and path is None and written[1:] not in GENERATED)


def test_folders_know_only_whom_they_may():
    def problem(name, line, path):
        folder, target = posixpath.dirname(name), posixpath.dirname(path)
        if folder == target or path == "engine/limits.h":
            return None
        if folder not in MAY_INCLUDE:
            return f"{name}:{line}: MAY_INCLUDE in this test says nothing of {folder}"
        if target in MAY_INCLUDE[folder] or path in MAY_INCLUDE[folder]:
            return None
        return f"{name}:{line}: {folder} must not know {path}; it may know {', '.join(sorted(MAY_INCLUDE[folder]))}"
    check(filter(None, (problem(name, line, path) for name, line, _, path in includes() if path)))


def test_picture_of_folders_has_no_circles():
    """So that one can be built, tested and read after the other."""
    order, left = [], {folder: {posixpath.dirname(t) if t.endswith(".h") else t for t in targets}
                       for folder, targets in MAY_INCLUDE.items()}
    while left:
        free = [folder for folder, targets in left.items() if targets - {folder} <= set(order)]
        assert free, f"a circle among {sorted(left)}"
        order += free
        for folder in free:
            del left[folder]


def test_what_a_folder_includes_of_another_is_not_its_inside():
    inside = re.compile(r"(^|_)(internal|impl)\.h$")
    check(f"{name}:{line}: {path} is the inside of {posixpath.dirname(path)}" for name, line, _, path in includes()
          if path and inside.search(posixpath.basename(path)) and posixpath.dirname(path) != posixpath.dirname(name)
          and not name.startswith("tests/"))


def test_each_library_is_known_to_one_place():
    def rule(header):
        return next((pattern for pattern in ONLY_IN if fnmatch(header, pattern)), None)
    check(f"{name}:{line}: {written[1:]} is included in {', '.join(ONLY_IN[rule(written[1:])])} only"
          for name, line, written, path in includes()
          if path is None and rule(written[1:]) and not any(fnmatch(name, p) for p in ONLY_IN[rule(written[1:])]))


# --- banned calls ---------------------------------------------------------------------------------

SERVING = ("engine/", "hsm/", "store/")
SHIPPED = SERVING + ("tools/", "bench/")  # tests may draw seeded random numbers and ask a shell

# Call, where it is banned, what to do instead.
BANNED = [
    (r"strcpy|strcat|stpcpy|strncpy|strncat|sprintf|vsprintf", "", "snprintf, or writer_* of base/bytes.h"),
    (r"gets|scanf|fscanf|sscanf", SERVING, "reader_* of base/bytes.h"),
    (r"strtok|strtok_r", "", "strcspn and strspn, or reader_* of base/bytes.h"),
    (r"atoi|atol|atoll|atof", SERVING, "a parser that refuses what is not a number"),
    (r"rand|srand|random|srandom|drand48|rand_r", SHIPPED, "random_bytes of base/secret.h"),
    (r"system|popen", SHIPPED, "posix_spawn with arguments, without a shell"),
    (r"alloca", "", "an array of a size from limits.h, or the arena"),
    (r"tmpnam|tempnam|mktemp", "", "mkstemp or mkdtemp"),
    (r"gethostbyname|getaddrinfo", SERVING, "numeric addresses: no core waits for DNS"),
    (r"localtime|gmtime|ctime|asctime", SERVING, "gmtime_r, or base/clock.h"),
    (r"bcmp|bzero|bcopy", "", "memcmp, memset, memmove; secret_* of base/secret.h for secrets"),
]

# file: (call, reason)
BANNED_EXCEPTIONS = {
}


def test_banned_calls():
    used, problems = set(), []
    for pattern, where, instead in BANNED:
        call = re.compile(rf"(?<![\w.>])({pattern})\s*\(")
        for name in of_kind(".c", ".h"):
            if not name.startswith(where):
                continue
            for match in call.finditer(code(name)):
                if BANNED_EXCEPTIONS.get(name, ("",))[0] == match[1]:
                    used.add(name)
                else:
                    problems.append(f"{name}:{line_of(code(name), match.start())}: {match[1]} is banned: use {instead}")
    problems += [f"{name}: the exception is not needed any more" for name in set(BANNED_EXCEPTIONS) - used]
    check(problems)


# Memory is taken at start and given out from pools and arenas. These take it from the heap, and when:
HEAP = {
    "engine/admin/admin.c": "an operator's question, on the main thread, bounded by the number of clients",
    "engine/admin/admin_text.c": "an operator's question, on the main thread",
    "engine/base/log.c": "once for each thread that logs",
    "engine/ca/crl.c": "a revocation list, on the thread that makes them, bounded by CRL_DER_MAX",
    "engine/ca/profile.c": "configuration",
    "engine/config/config.c": "configuration",
    "engine/config/config_check.c": "configuration",
    "engine/config/config_edit.c": "the operator's command line alone",
    "engine/config/config_places.c": "configuration",
    "engine/crypto/p256_lanes.c": "start",
    "engine/crypto/password.c": "a slow hash, beside the cores",
    "engine/crypto/path.c": "configuration: trust anchors",
    "engine/crypto/softkey.c": "keys in software: tokens of our own and tests",
    "engine/crypto/verify.c": "start and configuration: imported keys; and ML-DSA keys, too large for a stack",
    "engine/io/mailbox.c": "start",
    "engine/io/ring.c": "start",
    "engine/net/net.c": "start",
    "engine/net/tls_heap.c": "the allocator that stands behind wolfSSL",
    "engine/pipeline/appliance.c": "start",
    "engine/pipeline/core.c": "start",
    "engine/pipeline/costly.c": "start",
    "engine/pipeline/crl_make.c": "a revocation list, on the thread that makes them, bounded by CRL_DER_MAX",
    "engine/pipeline/crl_publisher.c": "start",
    "engine/pipeline/snapshot.c": "configuration",
    "engine/pipeline/stage_seal.c": "a key that is made here, on the costly worker, wiped before it is freed",
    "engine/pipeline/snapshot_cmp.c": "configuration",
    "hsm/p11/keys.c": "start and repair: finding keys in a token",
    "hsm/p11/module.c": "start",
    "hsm/p11/token.c": "start and repair: a session",
    "hsm/queue/add_key.c": "configuration: the texts of a key that is added",
    "hsm/queue/queue.c": "start",
    "hsm/queue/spawn.c": "start of a signer",
    "hsm/queue/supervise.c": "start",
    "hsm/signer/intake.c": "start",
    "hsm/signer/main.c": "start",
    "hsm/signer/worker.c": "the first use of a key: its handle, once for each worker",
    "store/index.c": "what the index of transactions doubles by, on the writer thread, bounded by those on record",
    "store/reader.c": "an operator's question",
    "store/store.c": "start",
    "store/transactions.c": "rows of earlier versions, at start; and a list that grows to the largest batch",
    "store/writer.c": "start",
}
ALLOCATES = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|reallocarray|strdup|strndup|asprintf|vasprintf|aligned_alloc|"
                       r"posix_memalign|open_memstream|getline)\s*\(")
NOT_SERVING = ("hsm/sim/", "hsm/null/")  # tokens of our own, loaded by signers


def test_the_heap_is_used_in_named_places_only():
    users = {name for name in of_kind(".c", ".h") if name.startswith(SERVING) and not name.startswith(NOT_SERVING)
             and ALLOCATES.search(code(name))}
    check([f"{name}: takes memory from the heap: use a pool or the arena, or name it and its reason in HEAP"
           for name in sorted(users - set(HEAP))] +
          [f"{name}: takes no memory any more: remove it from HEAP" for name in sorted(set(HEAP) - users)])


# --- sizes ----------------------------------------------------------------------------------------

FILE_LINES_MAX = 800
TEST_FILE_LINES_MAX = 1000  # much of them is tables of cases
FUNCTION_LINES_MAX = 80

# Named exceptions, with their own bound.
FUNCTION_LINES = {
    "cmp_fail_of": 130,  # a row for each error
    "est_status": 120,  # a row for each error
    "test_from_text": 110,  # these are tables of cases
    "test_parts": 110,
    "test_extensions_in_a_request": 110,
    "test_smuggling_refused": 110,
}


def test_files_fit_into_a_head():
    def bound(name):
        return TEST_FILE_LINES_MAX if name.startswith("tests/") else FILE_LINES_MAX
    check(f"{name}: {text(name).count(chr(10))} lines; at most {bound(name)}"
          for name in of_kind(".c", ".h", ".py", ".sh") if text(name).count("\n") > bound(name))


def functions(name):
    """(name, first line, number of lines) of each function, whose braces stand in the first column."""
    lines = code(name).split("\n")
    start = None
    for number, line in enumerate(lines, 1):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start:
            head = " ".join(lines[max(0, start - 6):start - 1])
            called = re.findall(r"(\w+)\s*\(", head)
            yield (called[-1] if called else "?", start, number - start + 1)
            start = None


def test_functions_fit_on_a_page():
    check(f"{name}:{line}: {function} has {count} lines; at most {FUNCTION_LINES.get(function, FUNCTION_LINES_MAX)}"
          for name in of_kind(".c", ".h") for function, line, count in functions(name)
          if count > FUNCTION_LINES.get(function, FUNCTION_LINES_MAX))


# --- form -----------------------------------------------------------------------------------------

NOT_OURS = ("LICENSE", "tests/vectors/*", "tests/fuzz/corpus/*")


def own_texts():
    return [f for f in files() if not any(fnmatch(f, p) for p in NOT_OURS) and text(f) is not None]


def test_white_space():
    bad = re.compile(r"\t|\r|[ ]+$", re.M)
    check([f"{name}:{line_of(text(name), match.start())}: a tab, or white space at the end"
           for name in own_texts() for match in bad.finditer(text(name))] +
          [f"{name}: does not end with one line end" for name in own_texts()
           if text(name) and (not text(name).endswith("\n") or text(name).endswith("\n\n"))])


def test_headers_open_with_their_contract():
    def good(name):
        return re.match(rf"/\* {re.escape(posixpath.basename(name))}: \S", text(name))
    check(f"{name}: expected to open with: /* {posixpath.basename(name)}: what it is for"
          for name in of_kind(".h") if not good(name))


def test_header_guards():
    def guard(name):
        return "CERTMILL_" + re.sub(r"^engine/", "", name).upper().replace("/", "_").replace(".", "_")
    check(f"{name}: expected the guard {guard(name)}" for name in of_kind(".h", under="engine/")
          if f"#ifndef {guard(name)}\n#define {guard(name)}\n" not in text(name))


def test_each_test_opens_with_its_question():
    def opening(name):
        pattern = r'(?:#![^\n]*\n)?\s*"""(.*?)"""' if name.endswith(".py") else r"/\*(.*?)\*/"
        match = re.match(pattern, text(name), re.S)
        return match[1] if match else ""
    tests = [f for f in of_kind(".c", ".py", under="tests/") if posixpath.basename(f).startswith(("test_", "fuzz_"))]
    assert len(tests) > 40
    check(f"{name}: which question does it answer? Say so in the opening comment" for name in tests
          if "?" not in opening(name))


def test_no_places_of_one_machine():
    """No address but this machine and names that stand for nobody; no path that is only somewhere."""
    nobody = re.compile(r"(localhost|127\.0\.0\.1|\[::1\]|([\w-]+\.)*(example|test|invalid)(\.(com|net|org))?|"
                        r"[\w{}$()%<>+*. -]*[{}$%<>*][\w{}$()%<>+*. -]*|\w|host)$", re.I)
    url = re.compile(r"\b(?:https?|ftp|git|ssh)://(?:[^\s/@\"']*@)?(\[[^\]]*\]|[^\s/:?\"'`\\)>,;]*)")
    # Written in two parts, so that this file does not find itself.
    path = re.compile(r"(?<![\w.}$)\"'*-])/(?:wo" r"rk|ro" r"ot|ho" r"me/\w+)(?![\w-])|(?<=[\"'= ])/(?:wo" r"rk|ro" r"ot)(?![\w-])")
    registry = re.compile(r"\b[\w-]+\.(?:deb" r"ian|ubu" r"ntu|py" r"pi|python" r"hosted|np" r"mjs|dock" r"er|crat" r"es)\."
                          r"(?:org|com|io|net)\b|\b(?:gith" r"ub|gitl" r"ab)\.com\b", re.I)
    problems = []
    for name in own_texts():
        for match in url.finditer(text(name)):
            if match[1] and not nobody.match(match[1]):
                problems.append(f"{name}:{line_of(text(name), match.start())}: {match[0]}: the address of somebody")
        for pattern, what in ((path, "a path of one machine"), (registry, "a registry's host name")):
            problems += [f"{name}:{line_of(text(name), match.start())}: {match[0]}: {what}"
                         for match in pattern.finditer(text(name))]
    check(problems)


# --- shell ----------------------------------------------------------------------------------------

def shell_scripts():
    return [f for f in files() if text(f) and re.match(r"#!.*\b(ba)?sh\b", text(f))]


def test_shell_scripts_stop_at_the_first_error():
    check(f"{name}: expected 'set -e...' near its top" for name in shell_scripts()
          if not re.search(r"^set -e", text(name), re.M))


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck():
    out = subprocess.run(["shellcheck", "--severity=warning", "--format=gcc", *shell_scripts()], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
