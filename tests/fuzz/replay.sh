#!/bin/bash
# Replays every corpus through its fuzz target.   tests/fuzz/replay.sh DIRECTORY-OF-TARGETS
set -u
passed=0
failed=0
for target in "$1"/fuzz_*; do
    [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    corpus=$PWD/tests/fuzz/corpus/$name # absolute: a target may work in a directory of its own
    if [ ! -d "$corpus" ] || [ -z "$(ls -A "$corpus")" ]; then
        echo "FAILED fuzz_$name: no corpus in $corpus"
        failed=$((failed + 1))
    elif timeout 120 "$target" --prefixes "$corpus"/* >/tmp/fuzz-replay.$$ 2>&1; then
        echo "ok     fuzz_$name: $(ls "$corpus" | wc -l) inputs and their prefixes"
        passed=$((passed + 1))
    else
        echo "FAILED fuzz_$name"
        tail -40 /tmp/fuzz-replay.$$
        failed=$((failed + 1))
    fi
done
rm -f /tmp/fuzz-replay.$$
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
