"""Who may include whom. The arrows: base <- config, types, loop, fs <- columnar <- rpc, blob, graph, checkpoint within common; daemons
and client stand on common and on the public API headers, never on each other; a library's header is known to one folder."""
import re

from . import tree

COMMON_RANK = {"base": 0, "config": 1, "types": 1, "loop": 1, "fs": 1, "columnar": 2, "http": 2, "metrics": 3, "rpc": 3, "blob": 3,
               "graph": 3, "checkpoint": 3}

# Longest prefix wins: folder -> prefixes it may include besides its own.
API = "client/api/millrace/"
MAY_INCLUDE = {
    "jobmanager/": ("common/",),
    "jobmanager/core/": ("common/",),                        # pure: no daemon, no REST
    "jobmanager/diagnosis/": ("common/", "jobmanager/core/"), # pure too
    "jobmanager/compiler/": ("common/", API),                # a program of its own
    "taskmanager/": ("common/", API, "taskmanager/"),        # the runner
    "taskmanager/agent/": ("common/",),                      # a program of its own: user code's headers stay out
    "client/api/": (),                                       # what users compile against stands alone
    "client/cli/": ("common/", "client/rest/"),
    "client/rest/": ("common/",),
    "client/examples/": (API,),
    "deploy/playground/jobs/": (API,),
    "deploy/playground/tools/": ("common/",),
}
# What the runner may know of the agent: the contract of the pipe between them.
RUNNER_AND_AGENT = {"taskmanager/agent/runner_contract.h"}

# Headers of libraries -> folders that may include them. Tests and playground tools are free.
LIBRARY_HOME = {
    "librdkafka/": ("taskmanager/connectors/kafka/",),
    "curl/": ("client/rest/",),
    "openssl/": ("client/rest/",),
    "microhttpd.h": ("common/http/",),
    "gnutls/": ("common/http/",),
    "yaml.h": ("common/config/",),
    "nettle/": ("common/base/",),
    "lz4.h": ("taskmanager/net/",),
    "uv.h": ("common/loop/", "common/http/", "common/rpc/", "jobmanager/", "taskmanager/agent/", "taskmanager/task/", "taskmanager/net/"),
}
NO_LOOP = ("jobmanager/core/", "jobmanager/compiler/")
FREE = ("tests/", "deploy/playground/tools/")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^>"]+)[>"]', re.M)


def resolve(path, name):
    """The file in the tree that an include names, or None for a library's."""
    folder = path.rsplit("/", 1)[0] + "/"
    for candidate in (name, "client/api/" + name, folder + name):
        if candidate in known():
            return candidate
    return None


_known = set()


def known():
    if not _known:
        _known.update(tree.files())
    return _known


def includes():
    """(file, line, name, the tree's file or None) of every include."""
    for path in tree.matching(".c", ".h"):
        content = tree.text(path)
        for match in INCLUDE.finditer(content):
            yield path, tree.line_of(content, match.start()), match.group(2), resolve(path, match.group(2))


def room(path):
    return max((folder for folder in MAY_INCLUDE if path.startswith(folder)), key=len, default=None)


def common_finding(path, target):
    own, other = path.split("/")[1], target.split("/")[1]
    for folder in (own, other):
        if folder not in COMMON_RANK:
            return f"common/{folder} has no rank: add it to COMMON_RANK in tests/style/layers.py"
    if own != other and COMMON_RANK[other] >= COMMON_RANK[own]:
        return f"common/{own} stands below or beside common/{other} and may not include {target}"
    return None


def check_rooms():
    for path, line, _, target in includes():
        if target is None or path.startswith("tests/"):
            continue
        if path.startswith("common/"):
            finding = common_finding(path, target) if target.startswith("common/") else f"common may not include {target}"
            if finding:
                yield f"{path}:{line}: {finding}"
            continue
        own = room(path)
        if own is None:
            yield f"{path}:{line}: the folder has no row in MAY_INCLUDE of tests/style/layers.py"
        elif target.startswith("taskmanager/agent/") and not path.startswith("taskmanager/agent/"):
            if target not in RUNNER_AND_AGENT:
                yield f"{path}:{line}: the runner may not include {target} of the agent"
        elif not target.startswith((own,) + MAY_INCLUDE[own]):
            yield f"{path}:{line}: {own} may not include {target}"


def check_libraries():
    for path, line, name, target in includes():
        if target is not None or path.startswith(FREE):
            continue
        for header, homes in LIBRARY_HOME.items():
            if name.startswith(header) and (not path.startswith(homes) or (header == "uv.h" and path.startswith(NO_LOOP))):
                yield f"{path}:{line}: <{name}> is included in {', '.join(homes)} only"


def check_dead_headers():
    included = {target for _, _, _, target in includes() if target}
    for path in tree.matching(".h", ".def"):
        if path not in included:
            yield f"{path}: nothing includes it"
