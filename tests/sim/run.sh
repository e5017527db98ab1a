#!/bin/bash
# Shares seeds among the processors.   tests/sim/run.sh SIM SEEDS FIRST [ARGUMENT...]
set -eu
sim=$1 seeds=$2 first=$3
shift 3
jobs=$(($(nproc) < seeds ? $(nproc) : seeds))
share=$(((seeds + jobs - 1) / jobs))
end=$((first + seeds))
export sim share end

run_share() {
    local from=$1 left=$((end - $1))
    shift
    "$sim" --seeds $((left < share ? left : share)) --seed "$from" "$@"
}
export -f run_share
seq "$first" "$share" $((end - 1)) | xargs -P "$jobs" -I{} bash -c 'run_share "$@"' share {} "$@"
