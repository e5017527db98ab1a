"""make check-style: runs every check_* of the modules of this folder over the tree. Prints findings and "N passed, N failed"."""
import sys

from . import layers, sources, tables

FINDINGS_SHOWN = 40


def main():
    passed = failed = 0
    for module in (layers, sources, tables):
        for name, check in sorted(vars(module).items()):
            if not name.startswith("check_"):
                continue
            title = f"{module.__name__.rsplit('.', 1)[-1]}: {name[len('check_'):].replace('_', ' ')}"
            findings = list(check())
            if not findings:
                passed += 1
                print(f"ok     {title}")
                continue
            failed += 1
            print(f"FAILED {title}: {len(findings)} findings")
            for finding in findings[:FINDINGS_SHOWN]:
                print(f"    {finding}")
            if len(findings) > FINDINGS_SHOWN:
                print(f"    and {len(findings) - FINDINGS_SHOWN} more")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
