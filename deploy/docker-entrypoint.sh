#!/bin/sh
# What the image does with its command:
#   jobmanager [-D key=value …]      a jobmanager; logs go to standard output
#   taskmanager [-D key=value …]     a taskmanager
#   submit-once NAME COMMAND …       runs COMMAND (flink run …) unless the jobmanager knows a job of this name already
#   healthcheck                      0 when what this container was started for works
#   anything else                    runs it: flink list, curl jobmanager:8081/jobs, clickevent-generator …
# Configuration: FLINK_PROPERTIES (lines of key: value), and as in Flink's image JOB_MANAGER_RPC_ADDRESS and
# TASK_MANAGER_NUMBER_OF_TASK_SLOTS. Programs replace this shell, so that signals reach them.
set -eu

role_file=/tmp/millrace-role

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
}

# Lines that rank below those of FLINK_PROPERTIES stand before them.
if [ -n "${TASK_MANAGER_NUMBER_OF_TASK_SLOTS:-}" ]; then
    FLINK_PROPERTIES="taskmanager.numberOfTaskSlots: $TASK_MANAGER_NUMBER_OF_TASK_SLOTS
${FLINK_PROPERTIES:-}"
fi
if [ -n "${JOB_MANAGER_RPC_ADDRESS:-}" ]; then
    FLINK_PROPERTIES="jobmanager.rpc.address: $JOB_MANAGER_RPC_ADDRESS
${FLINK_PROPERTIES:-}"
fi
[ -z "${FLINK_PROPERTIES:-}" ] || export FLINK_PROPERTIES

# The configured value of a key; FLINK_PROPERTIES beats the file, the last line wins.
configured() {
    { cat "$FLINK_CONF_DIR/config.yaml"; printf '%s\n' "${FLINK_PROPERTIES:-}"; } |
        sed -n "s/^ *$1: *//p" | tail -n 1
}

# rest HOST PATH: what REST answers, with TLS and token if they are configured.
rest() {
    scheme=http
    [ "$(configured security.ssl.rest.enabled)" != true ] || scheme=https
    url=$scheme://$1:$(configured rest.port)$2
    token_file=$(configured security.rest.token-file)
    if [ -n "$token_file" ]; then
        curl -fsSk --max-time 4 -H "Authorization: Bearer $(cat "$token_file")" "$url"
    else
        curl -fsSk --max-time 4 "$url"
    fi
}

# A jobmanager answers; a taskmanager is registered with the jobmanager (under the address of its connection to it).
healthcheck() {
    case $(cat "$role_file" 2>/dev/null) in
    jobmanager) rest localhost /overview ;;
    taskmanager)
        registered=$(rest "$(configured jobmanager.rpc.address)" /taskmanagers)
        for address in $(hostname -i); do
            case $registered in *"\"$address:"*) return 0 ;; esac
        done
        echo "not registered with the jobmanager"
        return 1 ;;
    esac
}

# The jobmanager forgets its jobs when it ends, and remembers those that ended: one submission per life of the jobmanager. A
# job that somebody stopped or cancelled is not started again behind their back.
submit_once() {
    name=$1
    shift
    tries=0
    until known=$(flink list -a 2>&1); do
        tries=$((tries + 1))
        if [ "$tries" -ge 60 ]; then
            printf 'No answer from the jobmanager at %s:%s; "%s" was not submitted.\n%s\n' \
                "$(configured jobmanager.rpc.address)" "$(configured rest.port)" "$name" "$known" >&2
            return 1
        fi
        sleep 1
    done
    if printf '%s\n' "$known" | grep -qF " : $name ("; then
        printf 'The jobmanager knows "%s" already; nothing is submitted. To start it once more:\n  %s\n' "$name" "$*"
        printf '%s\n' "$known" | grep -F " : $name ("
        return 0
    fi
    exec "$@"
}

case "${1:-help}" in
jobmanager | taskmanager)
    role=$1
    shift
    echo "$role" >"$role_file"
    exec "$role" "$@" ;;
jobmanager.sh | taskmanager.sh)
    # The names and the word that Flink's own compose files use.
    role=${1%.sh}
    shift
    [ "${1:-}" != start-foreground ] || shift
    echo "$role" >"$role_file"
    exec "$role" "$@" ;;
healthcheck) healthcheck ;;
submit-once)
    if [ $# -lt 3 ]; then
        echo "submit-once takes the name of a job and the command that submits it" >&2
        exit 2
    fi
    shift
    submit_once "$@" ;;
help) usage ;;
*) exec "$@" ;;
esac
