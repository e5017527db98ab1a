#!/bin/bash
# The Click Event Count playground without Docker or Kafka: an in-memory broker, a jobmanager, two taskmanagers, the click
# generator and the job, all below one temporary directory. Ends on Ctrl-C, or by itself after DEMO_SECONDS.
#   BUILD         where the programs are (build)
#   DEMO_SECONDS  run this long, then check, sum up and exit (0 = until Ctrl-C)
#   DEMO_RATE     click events a second (1000)
set -u

build=$(cd "${BUILD:-build}" && pwd) || exit 1
bin=$build/bin
seconds=${DEMO_SECONDS:-0}
rate=${DEMO_RATE:-1000}
case $seconds in *[!0-9]*|"") echo "DEMO_SECONDS must be a whole number, not \"$seconds\"" >&2; exit 2 ;; esac

work=$(mktemp -d "${TMPDIR:-/tmp}/millrace-demo.XXXXXX") || exit 1
pids=()
is_stopping=0

# Children first in, last out: the job's data sources stop before the daemons do.
cleanup() {
    local i pid
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null
    done
    for pid in "${pids[@]}"; do
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'is_stopping=1' INT TERM

fail() {
    echo "demo: $1" >&2
    for log in "$work"/*.log; do
        [ -s "$log" ] && echo "---- ${log##*/}" >&2 && tail -20 "$log" >&2
    done
    exit 1
}

port_is_free() {
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The first free port from $1 on; says so when it is not $1 itself.
pick_port() {
    local port=$1
    while ! port_is_free "$port"; do
        port=$((port + 1))
    done
    [ "$port" = "$1" ] || echo "Port $1 ($2) is in use; taking $port." >&2
    echo "$port"
}

# Starts a program in the background, out of reach of the terminal's Ctrl-C: this script stops it.
start() {
    local name=$1
    shift
    setsid "$@" >"$work/$name.log" 2>&1 </dev/null &
    pids+=($!)
}

await() {
    local what=$1 tries=$2
    shift 2
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] && [ "$is_stopping" = 0 ] || fail "$what"
        sleep 0.05
    done
}

rest_port=$(pick_port 8081 "REST")
rpc_port=$(pick_port 6123 "jobmanager RPC")
rest=localhost:$rest_port

cat >"$work/config.yaml" <<END
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: $rpc_port
rest.address: localhost
rest.port: $rest_port
rest.bind-address: 127.0.0.1
taskmanager.host: 127.0.0.1
taskmanager.numberOfTaskSlots: 1
state.checkpoints.dir: file://$work/checkpoints
state.savepoints.dir: file://$work/savepoints
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 2147483647
restart-strategy.fixed-delay.delay: 1 s
END

start broker "$bin/kafka-mock-broker" --topic input:2 --topic output:1
await "the broker did not start" 100 test -s "$work/broker.log"
broker=$(head -n 1 "$work/broker.log")

start jobmanager "$bin/jobmanager" --config "$work/config.yaml"
await "the jobmanager did not answer on $rest" 100 "$bin/flink" list -m "$rest"
start taskmanager-1 "$bin/taskmanager" --config "$work/config.yaml"
taskmanager_pid=$!
start taskmanager-2 "$bin/taskmanager" --config "$work/config.yaml"
start generator "$bin/clickevent-generator" --bootstrap.servers "$broker" --topic input --partitions 2 --rate "$rate"

job_args="--bootstrap.servers $broker --checkpointing --event-time"
# shellcheck disable=SC2086
submitted=$("$bin/flink" run -d -m "$rest" -p 1 "$bin/ClickCountJob.so" $job_args 2>&1) || fail "the job was not accepted: $submitted"
job=$(echo "$submitted" | sed -n 's/.*JobID \([0-9a-f]\{32\}\).*/\1/p')

shown=${bin#"$PWD"/}
cat <<END

Click Event Count is running: clicks on six pages, counted in windows of 15 seconds of event time.
Each page is clicked exactly 1000 times a window; at $rate clicks a second a window takes $((6000 / rate)) s.

  web page        http://$rest
  REST            http://$rest        (try: curl $rest/jobs/overview)
  list jobs       $shown/flink list -m $rest
  kill one        kill -9 $taskmanager_pid        (a taskmanager; the other one takes over, no count changes)
  stop            $shown/flink stop -m $rest $job
  resume          $shown/flink run -d -m $rest -s <savepoint path> $shown/ClickCountJob.so $job_args
  logs            $work/*.log
The broker keeps its last 5 MiB a partition in memory: resume within a minute or two.
Ctrl-C ends everything and leaves nothing behind.

END

args=(--bootstrap.servers "$broker" --topic output)
[ "$seconds" -gt 0 ] && args+=(--seconds "$seconds")
setsid "$bin/click-count-verify" "${args[@]}" > >(tee "$work/verify.out") 2>"$work/verify.log" &
verify=$!
pids+=("$verify")
while kill -0 "$verify" 2>/dev/null && [ "$is_stopping" = 0 ]; do
    wait "$verify"
    status=$?
done
if [ "$is_stopping" = 1 ]; then
    kill -TERM "$verify" 2>/dev/null
    wait "$verify"
    status=$?
fi
sleep 0.1
windows=$(sed -n 's/.*"windows": \([0-9]*\).*/\1/p' "$work/verify.out" | tail -1)
if [ "$status" = 0 ]; then
    echo "Every page had exactly 1000 clicks in each of ${windows:-0} windows."
elif [ "${windows:-0}" = 0 ] && [ "$is_stopping" = 1 ]; then
    echo "Stopped before the first window was complete."
    exit 0
else
    fail "the counts are not right (see above)"
fi
