"""The logs of a test's processes: what they must not say, and their last lines where a test failed."""

import os


def files_below(directory, *endings):
    for folder, _, names in os.walk(directory):
        for name in sorted(names):
            if name.endswith(endings):
                yield os.path.join(folder, name)


def find_reports(directory):
    """The first line of a log that a sanitizer or a broken invariant left; leaks at exit are among them."""
    for path in files_below(directory, ".log", ".out"):
        with open(path, errors="replace") as f:
            for line in f:
                if "Sanitizer" in line or "runtime error:" in line or "invariant broken" in line:
                    return f"{os.path.basename(path)}: {line.strip()}"
    return None


def last_lines(path, count=40):
    with open(path, errors="replace") as f:
        return "".join(f.readlines()[-count:])


def show_logs(directory):
    for path in files_below(directory, ".log", ".out", ".err"):
        print(f"---- {os.path.relpath(path, directory)}\n{last_lines(path)}", flush=True)
