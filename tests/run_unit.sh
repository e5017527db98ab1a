#!/bin/bash
# Runs unit test programs, two at a time, and adds up Check's summaries.   tests/run_unit.sh PROGRAM...
# A program that crashes, hangs (UNIT_TIMEOUT, 300 s) or prints no summary counts as a failed test.
set -u
timeout=${UNIT_TIMEOUT:-300}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export work timeout

run_one() {
    local name=${1##*/} started=$SECONDS
    TZ=UTC timeout -k 5 "$timeout" "$1" >"$work/$name.out" 2>&1 </dev/null
    echo $? >"$work/$name.status"
    echo $((SECONDS - started)) >"$work/$name.seconds"
}
export -f run_one
printf '%s\n' "$@" | xargs -P "${UNIT_JOBS:-2}" -I{} bash -c 'run_one {}'

passed=0
failed=0
for program in "$@"; do
    name=${program##*/}
    summary=$(grep -E '^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+' "$work/$name.out" | tail -1)
    status=$(cat "$work/$name.status" 2>/dev/null || echo 1)
    if [ -z "$summary" ]; then
        checks=1 bad=1
        summary="no summary, exit status $status"
    else
        read -r checks failures errors < <(echo "$summary" | sed -E 's/.*Checks: ([0-9]+), Failures: ([0-9]+), Errors: ([0-9]+).*/\1 \2 \3/')
        bad=$((failures + errors))
        # Leaks and races are reported at exit, after Check's summary.
        [ "$bad" = 0 ] && [ "$status" != 0 ] && bad=1 checks=$((checks + 1))
    fi
    passed=$((passed + checks - bad))
    failed=$((failed + bad))
    if [ "$bad" != 0 ]; then
        echo "FAILED $name ($(cat "$work/$name.seconds") s): $summary"
        tail -${UNIT_TAIL:-60} "$work/$name.out"
    else
        echo "ok     $name ($(cat "$work/$name.seconds") s): $summary"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
