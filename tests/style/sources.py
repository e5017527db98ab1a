"""What a file may look like: a comment at its top, lines that fit, no banned calls, nothing dead, no notes to self."""
import re

from . import tree

COLUMNS_MAX = 150
# A row of a table or a prose line of a README may be longer.
LONG_LINES = (".c", ".h", ".py", ".sh", ".mk", "Makefile")

BANNED = {
    "strcpy": "snprintf or memcpy with a length", "strcat": "struct str_buf", "strncat": "struct str_buf", "strncpy": "memcpy with a length",
    "sprintf": "snprintf or heap_printf", "vsprintf": "vsnprintf", "gets": "getline", "strtok": "strtok_r or strcspn",
    "alloca": "heap_alloc", "system": "uv_spawn or posix_spawn", "popen": "uv_spawn or posix_spawn", "atoi": "strtol with its end checked",
    "atol": "strtol with its end checked",
    "atoll": "strtoll with its end checked", "atof": "strtod with its end checked", "tmpnam": "mkstemp", "mktemp": "mkstemp",
    "rand": "a seeded generator of one's own", "srand": "a seeded generator of one's own", "gmtime": "gmtime_r", "localtime": "localtime_r",
    "asctime": "strftime", "ctime": "strftime", "gettimeofday": "clock.h", "setjmp": "an error", "longjmp": "an error",
}
# Threads of daemons wait for events, never for time.
BANNED_IN_DAEMONS = {"sleep": "a timer", "usleep": "a timer", "nanosleep": "a timer"}
DAEMONS = ("common/", "jobmanager/", "taskmanager/")
ALLOWED = {
    ("taskmanager/task/crash_handler.c", "sleep"),  # the process is ending; the signal of another thread ends it sooner
    ("taskmanager/connectors/kafka/kafka_transaction.c", "nanosleep"),  # librdkafka's calls block too: a thread of its own
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(list(BANNED) + list(BANNED_IN_DAEMONS)) + r")\s*\(")
# In two pieces, so that this file does not find itself.
NOTE = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")

# Every .c lies in a folder that the Makefile builds from.
BUILT = re.compile(r"^(common/.+|jobmanager/.+|taskmanager/(agent|task|net|time|state|ops|formats|connectors)/.+|taskmanager/runner_main"
                   r"|client/(api|examples)/[^/]+|client/(cli|rest)/.+|deploy/playground/(jobs|tools)/[^/]+"
                   r"|tests/unit/(.+/)?test_[^/]+|tests/(sim|bench|support|programs)/[^/]+|tests/fuzz/(fuzz_[^/]+|replay))\.c$")


def check_banned_calls():
    for path in tree.matching(".c", ".h"):
        if not tree.is_code(path):
            continue
        content = tree.bare(path)
        for match in CALL.finditer(content):
            name = match.group(1)
            instead = BANNED.get(name) or (BANNED_IN_DAEMONS[name] if path.startswith(DAEMONS) else None)
            if instead and (path, name) not in ALLOWED:
                yield f"{path}:{tree.line_of(content, match.start())}: {name} is banned: use {instead}"


def check_first_comment():
    for path in tree.matching(".c", ".h", ".def"):
        if not tree.text(path).startswith(("/*", "//")):
            yield f"{path}:1: the file does not begin with a comment that says what lives here"
    for path in tree.matching(".py", ".sh", ".mk", "Makefile"):
        content = re.sub(r"^#!.*\n", "", tree.text(path))
        if content and not content.startswith(("#", '"""')):
            yield f"{path}:1: the file does not begin with a comment that says what lives here"


def check_line_lengths():
    for path in tree.matching(*LONG_LINES):
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            if len(line) > COLUMNS_MAX and not (path.startswith("tests/") and '\\"' in line):  # recorded JSON reads better whole
                yield f"{path}:{number}: {len(line)} columns, {COLUMNS_MAX} fit"


def check_white_space():
    for path in tree.matching(".c", ".h", ".def", ".py", ".sh"):
        content = tree.text(path)
        for number, line in enumerate(content.split("\n"), 1):
            if line != line.rstrip():
                yield f"{path}:{number}: white space at the end of the line"
            if "\t" in line and path.endswith((".c", ".h", ".def", ".py")):
                yield f"{path}:{number}: a tab"
        if content and not content.endswith("\n"):
            yield f"{path}: no newline at the end"


def check_notes():
    for path in tree.matching(".c", ".h", ".def", ".py", ".sh", ".mk", ".md", "Makefile"):
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            found = NOTE.search(line)
            if found:
                yield f"{path}:{number}: {found.group(1)}: do it, or file an issue"


def check_include_guards():
    for path in tree.matching(".h"):
        guard = re.search(r"^#ifndef (\w+)\n#define (\w+)\n", tree.text(path), re.M)
        if guard is None or guard.group(1) != guard.group(2) or not guard.group(1).startswith("MILLRACE_"):
            yield f"{path}: no include guard of the form MILLRACE_<FOLDER>_<NAME>_H"


def check_typedefs():
    for path in tree.matching(".c", ".h"):
        if path.startswith("client/api/millrace/"):  # field types of users' records read as words: mr_string, mr_timestamp
            continue
        content = tree.bare(path)
        for match in re.finditer(r"\btypedef\s+(struct|union|enum)\b", content):
            yield f"{path}:{tree.line_of(content, match.start())}: typedef of a {match.group(1)}: write it out"


def check_dead_sources():
    for path in tree.matching(".c"):
        if not BUILT.match(path):
            yield f"{path}: the Makefile builds nothing from this folder"


DECLARATION = re.compile(r"^(?:MUST_CHECK |_Noreturn )?(?:const )?(?:struct |enum |unsigned )?\w+[ *]+(\w+)\([^;{}]*\)[^;{}]*;", re.M)


def check_dead_functions():
    """A function that a header declares is called somewhere: in another file, or at least in its own beside the definition."""
    headers = [path for path in tree.matching(".h") if tree.is_code(path) and not path.startswith("client/api/millrace/")]
    sources = tree.matching(".c", ".h")
    owners = {}
    for path in sources:
        for word in tree.words(path):
            owners.setdefault(word, []).append(path)
    for header in headers:
        content = tree.bare(header)
        for match in DECLARATION.finditer(content):
            name = match.group(1)
            # Declaration, definition, and a use: perhaps by a macro or an inline function of the header itself.
            places = sum(len(re.findall(rf"\b{name}\b", tree.bare(path))) for path in owners[name][:3])
            if places < 3:
                yield f"{header}:{tree.line_of(content, match.start())}: nothing calls {name}"
