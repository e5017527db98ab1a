"""Rows of the .def tables: each is read somewhere, and what is documented about it is true."""
import re

from . import tree


def rows(path, macro):
    """(line, arguments' text) of each row."""
    content = tree.text(path)
    for match in re.finditer(rf"^{macro}\((.*)\)\s*$", content, re.M):
        yield tree.line_of(content, match.start()), match.group(1)


def product_files(without):
    return [path for path in tree.matching(".c", ".h") if tree.is_code(path) and path != without]


def check_options():
    path = "common/config/options.def"
    words = set().union(*(tree.words(file) for file in product_files(path)))
    texts = "\n".join(tree.text(file) for file in product_files(path) if not file.startswith("client/api/millrace/"))
    keys = {}
    for line, row in rows(path, "OPTION"):
        name, key = re.match(r'(\w+), "([^"]+)"', row).groups()
        doc = re.search(r'"([^"]*)"$', row).group(1)
        is_read = f"OPTION_{name}" in words or f'"{key}"' in texts
        # REST still shows some of those without effect.
        if not is_read and not doc.startswith("No effect: "):
            yield f'{path}:{line}: nobody reads {key}: read it, remove it, or begin its doc with "No effect: "'
        if key in keys:
            yield f"{path}:{line}: {key} again, first in line {keys[key]}"
        keys[key] = line


def check_error_codes():
    path = "common/base/error_codes.def"
    words = set().union(*(tree.words(file) for file in product_files(path)))
    for line, row in rows(path, "ERROR_CODE"):
        name = row.split(",")[0]
        # error_new(NETWORK, …) or ERR_NETWORK
        if name not in words and f"ERR_{name}" not in words:
            yield f"{path}:{line}: no error has the code {name}"


def check_messages():
    path = "common/rpc/messages.def"
    documented = tree.text("ARCHITECTURE.md")
    texts = [tree.bare(file) for file in product_files(path)]
    numbers = {}
    for line, row in rows(path, "MESSAGE"):
        name, number = [part.strip() for part in row.split(",")[:2]]
        uses = sum(len(re.findall(rf"\bMESSAGE_{name}\b", content)) for content in texts)
        if uses < 2:
            yield f"{path}:{line}: {name} is not both sent and received ({uses} uses)"
        if not re.search(rf"\b{name}\b", documented):
            yield f"{path}:{line}: ARCHITECTURE.md does not name {name}"
        if number in numbers:
            yield f"{path}:{line}: number {number} belongs to {numbers[number]}"
        numbers[number] = name


def check_routes():
    path = "jobmanager/rest/routes.def"
    handlers, paths = set(), []
    for line, row in rows(path, "ROUTE"):
        method, route, handler = re.match(r'(\w+),\s*"([^"]+)",\s*(\w+)', row).groups()
        handlers.add(handler)
        # The first row that fits wins: a row that an earlier one swallows is dead.
        pattern = re.compile(re.sub(r":\w+", "[^/]+", route) + "$")
        for earlier_method, earlier, earlier_line in paths:
            if earlier_method == method and earlier.match(route):
                yield f"{path}:{line}: {route} is never reached: the row in line {earlier_line} fits first"
        paths.append((method, pattern, line))
    for file in tree.matching(".c"):
        if not file.startswith("jobmanager/rest/"):
            continue
        content = tree.bare(file)
        for match in re.finditer(r"^void handle_(\w+)\(", content, re.M):
            if match.group(1) not in handlers:
                yield f"{file}:{tree.line_of(content, match.start())}: handle_{match.group(1)} has no row in routes.def"
