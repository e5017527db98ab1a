/* What the taskmanager (agent) and its children (task-runner) agree upon, besides the messages of common/rpc.
 *
 * The agent starts:  task-runner --taskmanager ID --job HEX --epoch N --heartbeat-timeout MS
 *   fd 0  /dev/null
 *   fd 1  the taskmanager's .out file (or its standard output, without a log directory)
 *   fd 2  read by the agent: lines in the format of common/base/log.h go to the taskmanager's log, others to its .out
 *   fd 3  control pipe: frames, as on the RPC port, without handshake (rpc_conn_open_pipe)
 *   fd 4  crash pipe: written only when the process goes down, see below
 * The runner is the leader of a session of its own; the agent kills the whole process group. The runner itself asks for the
 * parent-death signal, and exits when fd 3 closes or was silent for the heartbeat timeout.
 *
 * To the runner: DEPLOY (with these members more than the jobmanager sent: `library_path`, the local file; `config` is completed
 * with the taskmanager's options, and taskmanager.task.memory-limit is the limit in force), CANCEL (graceful only: kill is
 * SIGKILL), TRIGGER_CHECKPOINT, CHECKPOINT_COMPLETE, CHECKPOINT_ABORTED, DATA_CONNECTION with its handle, HEARTBEAT.
 * From the runner: TASK_STATE, CHECKPOINT_ACK, CHECKPOINT_DECLINE, METRICS, HEARTBEAT_ACK. Any frame is a sign of life.
 * When all tasks have ended, the runner exits with status 0 by itself (the agent kills it after RUNNER_EXIT_MS).
 *
 * Crash pipe: lines `key=value`, written by async-signal-safe code, in any order, all optional; any other line is a stack
 * frame, innermost first (as backtrace_symbols_fd writes them):
 *   signal=SIGSEGV            exit=3 (exit or _exit was called while tasks ran)   limit=memory | time
 *   detail=address 0x0        (free text behind the signal or limit)
 *   function=count_clicks     the user function that the thread was in
 *   task=ClickEvent Counter (1/2)
 *   execution=<execution id> */
#ifndef MILLRACE_AGENT_RUNNER_CONTRACT_H
#define MILLRACE_AGENT_RUNNER_CONTRACT_H

#define RUNNER_CONTROL_FD 3
#define RUNNER_CRASH_FD 4
#define RUNNER_EXIT_MS 2000

#endif
