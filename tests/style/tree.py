"""The source tree as the style checks see it: tracked and new files, read once."""
import functools
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE_FOLDERS = ("common/", "jobmanager/", "taskmanager/", "client/", "deploy/")


@functools.lru_cache(None)
def files():
    """Paths below the root that git knows or would add, sorted."""
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(path for path in set(out.stdout.split("\n")) if path and os.path.isfile(os.path.join(ROOT, path)))


@functools.lru_cache(None)
def text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def matching(*suffixes):
    return [path for path in files() if path.endswith(suffixes)]


def is_code(path):
    """Part of the product, as opposed to its tests."""
    return path.startswith(CODE_FOLDERS)


COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


@functools.lru_cache(None)
def bare(path):
    """A C file with comments and the insides of strings blanked out; line numbers stay."""
    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] + " " * (len(found) - 2) + found[-1]
        return re.sub(r"[^\n]", " ", found)
    return COMMENT_OR_STRING.sub(blank, text(path))


WORD = re.compile(r"[A-Za-z_]\w*")


@functools.lru_cache(None)
def words(path):
    return frozenset(WORD.findall(bare(path)))


def line_of(content, offset):
    return content.count("\n", 0, offset) + 1
