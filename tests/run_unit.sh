#!/bin/bash
# Runs unit test programs, several at a time (UNIT_JOBS; some wait more than they work), and adds up Check's summaries.
#   tests/run_unit.sh PROGRAM...
# A program that crashes, hangs (UNIT_TIMEOUT, 300 s) or prints no summary counts as a failed test.
set -u
timeout=${UNIT_TIMEOUT:-300}
tail=${UNIT_TAIL:-60}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export work timeout tail
# Check gives a test 4 s, which a sanitized one on a busy machine may need: it is there for those that hang.
export CK_DEFAULT_TIMEOUT=${CK_DEFAULT_TIMEOUT:-60}

run_one() {
    local name=${1##*/} started=$EPOCHREALTIME status summary word=ok checks=1 failures errors bad=1 seconds
    TZ=UTC timeout -k 5 "$timeout" "$1" >"$work/$name.out" 2>&1 </dev/null
    status=$?
    seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $started }")
    summary=$(grep -E '^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+' "$work/$name.out" | tail -1)
    if [ -z "$summary" ]; then
        summary="no summary, exit status $status"
    else
        read -r checks failures errors < <(echo "$summary" | sed -E 's/.*Checks: ([0-9]+), Failures: ([0-9]+), Errors: ([0-9]+).*/\1 \2 \3/')
        bad=$((failures + errors))
        # Leaks and races are reported at exit, after Check's summary.
        [ "$bad" = 0 ] && [ "$status" != 0 ] && bad=1 checks=$((checks + 1))
    fi
    [ "$bad" = 0 ] || word=FAILED
    echo "$((checks - bad)) $bad" >"$work/$name.count"
    {
        flock 9
        printf '%-6s %s (%s s): %s\n' "$word" "$name" "$seconds" "$summary"
        [ "$bad" = 0 ] || tail -"$tail" "$work/$name.out"
    } 9>"$work/lock"
}
export -f run_one
# Large sources have the long tests: those begin first.
for program in "$@"; do
    echo "$(stat -c %s "tests/unit/${program##*/}.c" 2>/dev/null || echo 0) $program"
done | sort -rn | cut -d' ' -f2 | xargs -P "${UNIT_JOBS:-$(($(nproc) + 1))}" -I{} bash -c 'run_one {}'

passed=0
failed=0
for program in "$@"; do
    read -r good bad < <(cat "$work/${program##*/}.count" 2>/dev/null || echo "0 1")
    passed=$((passed + good))
    failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
