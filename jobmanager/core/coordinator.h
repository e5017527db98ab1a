/* The coordinator core: jobs, executions, slots, taskmanagers, checkpoints and savepoints as one pure machine.
 * coordinator_handle takes an event and the time, changes the state, and appends actions; it does no I/O, reads no clock and
 * draws no randomness but from its own generator, seeded at create. The daemon (jobmanager/) turns messages, timers and
 * REST calls into events and actions into messages and files; tests/sim drives the same code in virtual time.
 *
 * Owner: the jobmanager's loop thread. REST reads the structs below on that thread; nobody outside jobmanager/core writes
 * them, except where a member says so. All times are milliseconds since the epoch; -1 (or 0 in arrays of time stamps) is
 * "not yet". Costs: an event costs O(its job's tasks) at most; timers lie in one heap. */
#ifndef MILLRACE_CORE_COORDINATOR_H
#define MILLRACE_CORE_COORDINATOR_H

#include "common/base/error.h"
#include "common/base/hash_map.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/vec.h"
#include "common/config/config.h"
#include "common/graph/job_graph.h"
#include "jobmanager/core/job_settings.h"
#include "jobmanager/core/life_cycle.h"
#include "jobmanager/core/restart_strategy.h"
#include "jobmanager/core/stat_summary.h"

#include <jansson.h>

struct coordinator;
struct job;
struct job_subtask;
struct checkpoint;

/* ---------------------------------------------------------------- taskmanagers and slots */

struct slot {
    struct job *job; /* NULL: free */
};

struct taskmanager {
    char *id;            /* "localhost:37041-8c63d6" */
    uint64_t connection; /* the shell's number of the connection it registered on */
    char *host;
    uint16_t data_port;
    int64_t pid;
    uint32_t cpu_cores;
    uint64_t memory_bytes;
    char *version;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t free_slot_count;
    int64_t registered_ms;
    int64_t last_heartbeat_ms;
    struct taskmanager *older, *newer; /* private: list by last_heartbeat_ms */
};

/* ---------------------------------------------------------------- jobs and their tasks */

/* One attempt of one subtask. */
struct execution {
    char *id;             /* "<graph attempt>_<vertex>_<subtask>_<attempt>", Flink's ExecutionAttemptID: `execution` of all messages */
    struct job_subtask *subtask;
    uint32_t attempt;     /* 0, 1, … : also the attempt number that REST shows */
    uint64_t epoch;
    enum execution_state state;
    int64_t timestamps[EXECUTION_STATE_COUNT]; /* when each state was entered; 0 = never */
    /* Where it runs. The texts stay after the taskmanager is gone. "(unassigned)" in REST while taskmanager_id is NULL. */
    char *taskmanager_id;
    char *host;
    uint16_t data_port;
    uint32_t slot_index;
    char *failure;        /* "code: text" of the failure, NULL */
    /* The last METRICS entry of this task. Set by the shell (json_decref the old one), freed by the core. */
    json_t *metrics;
    /* Once it acknowledged with is_finished, its last state: carried into each later checkpoint. */
    json_t *final_state;         /* handles */
    json_t *final_books;
    uint64_t final_checkpoint;   /* whose directory holds the files */
    char *final_directory;
};

struct job_subtask {
    struct job_task_vertex *vertex;
    uint32_t index;
    struct execution *current; /* never NULL once the job was CREATED */
    struct execution **past;   /* earlier attempts, oldest first, at most attempts_history_size */
    uint32_t past_count;
};

struct job_task_vertex { /* run-time side of graph->vertices[index] */
    struct job *job;
    uint32_t index;
    struct job_subtask *subtasks;
    uint32_t parallelism;
    uint32_t slot_group;       /* index into job.slot_groups */
    /* Vertices that feed it, once per non-chained edge. */
    struct job_input { uint32_t source_vertex; enum partitioning partitioning; } *inputs;
    uint32_t input_count;
    uint32_t state_counts[EXECUTION_STATE_COUNT]; /* of the current executions */
    /* Their aggregated state as Flink's AggregatedState shows it: coordinator_vertex_state(). */
};

struct slot_group {
    char *name;
    struct id id;              /* REST: slotSharingGroupId; from the coordinator's generator */
    uint32_t size;             /* slots = the largest parallelism in the group */
    uint32_t first_slot;       /* index into job.slots */
};

struct job_slot {
    struct taskmanager *taskmanager; /* NULL: not allocated */
    uint32_t slot_index;
    char *previous_taskmanager;      /* where it was last: preferred; NULL */
};

/* A task-runner process of the current epoch: one per taskmanager that tasks were deployed to. It holds the job's slots
 * there until RUNNER_GONE (or the loss of its taskmanager). */
struct job_runner {
    struct taskmanager *taskmanager;
    uint64_t epoch;
};

struct exception_entry {
    char *name;           /* Flink's class name: "org.apache.flink.runtime.jobmaster.JobMasterException", or the error code's for task errors */
    char *text;           /* "name: message\nCaused by: …", no frames */
    int64_t timestamp_ms;
    char *task_name;      /* "Source: ClickEvent Source (1/1) - execution #0"; NULL: a failure of the whole job */
    char *location;       /* "localhost:42607"; NULL */
    char *taskmanager_id; /* NULL */
};

/* ---------------------------------------------------------------- checkpoints */

enum checkpoint_kind { CHECKPOINT_KIND_CHECKPOINT, CHECKPOINT_KIND_SAVEPOINT, CHECKPOINT_KIND_STOP, CHECKPOINT_KIND_DRAIN };
const char *checkpoint_kind_name(enum checkpoint_kind kind); /* as in TRIGGER_CHECKPOINT: checkpoint savepoint stop drain */

struct checkpoint_subtask {
    bool is_acknowledged;
    bool was_finished;         /* finished before the checkpoint: its state was carried, it was not asked */
    int64_t ack_ms;
    int64_t sync_ms, async_ms, alignment_ms, start_delay_ms;
    int64_t bytes;
    int64_t processed_bytes;   /* during the alignment */
    int64_t persisted_bytes;   /* of what was in flight; part of bytes */
    bool is_unaligned;
};

struct checkpoint {
    struct job *job;
    uint64_t id;
    enum checkpoint_kind kind;
    enum checkpoint_state state;
    uint64_t epoch;
    char *directory;           /* path of its own directory */
    int64_t trigger_ms;
    int64_t latest_ack_ms;     /* -1 */
    int64_t complete_ms;       /* when it reached COMPLETED or FAILED; -1 */
    int64_t failure_ms;        /* -1 */
    char *failure;             /* REST failure_message; NULL */
    int64_t bytes;             /* sum over subtasks */
    int64_t processed_bytes, persisted_bytes;
    bool is_unaligned;         /* at some subtask the barrier overtook */
    uint32_t subtask_count, acknowledged_count;
    struct checkpoint_subtask *subtasks; /* all subtasks of the job, vertices in graph order: coordinator_checkpoint_subtask */
    bool is_discarded;         /* files deleted */
    bool books_balance;        /* valid when COMPLETED */
    json_t *books;             /* object: operator id hex -> books summed over its subtasks; NULL before COMPLETED */
    json_t *books_faults;      /* array of texts naming each edge or operator that does not balance; NULL: none */
    json_t *metadata;          /* contents of _metadata; kept while it can be restored from */
    /* private */
    json_t **acked_state;      /* while IN_PROGRESS: by subtask ordinal, handles; NULL: none yet */
    json_t **acked_books;
    int64_t finalize_ms;       /* when FINALIZING began */
    struct id trigger_id;      /* the request it answers */
    bool has_trigger;          /* false: periodic */
    bool cancel_job_after;
    uint32_t reference_count;  /* history, latest_*, pending, retained */
};

struct checkpoint_counts { uint64_t restored, total, in_progress, completed, failed; };

/* The checkpoint the job was last restored from. */
struct restored_info {
    bool is_set;
    uint64_t id;
    int64_t restore_ms;
    bool is_savepoint;
    char *path;
};

struct checkpoint_stats {
    struct checkpoint_counts counts;
    struct stat_summary bytes, duration, processed_bytes, persisted_bytes;
    VEC(struct checkpoint *) history; /* newest last, at most history_size; holds references */
    struct checkpoint *latest_completed, *latest_savepoint, *latest_failed; /* references; NULL */
    struct restored_info restored;
};

struct job {
    struct id id;
    struct coordinator *coordinator;
    struct job_graph *graph;
    struct job_settings settings;
    json_t *config;            /* merged flat configuration (cluster's, then the job's): REST /jobs/:id/config and checkpoints/config */
    char *graph_attempt;       /* 32 hex: first part of the execution ids */
    enum job_state state;
    int64_t timestamps[JOB_STATE_COUNT];
    int64_t start_ms, end_ms;  /* end -1 while it runs */
    uint64_t epoch;            /* 1 for the first attempt; every message of the data plane names it */
    uint32_t restart_count;
    struct job_task_vertex *vertices; /* graph->vertex_count */
    uint32_t task_count;       /* subtasks */
    uint32_t state_counts[EXECUTION_STATE_COUNT]; /* of all current executions */
    struct slot_group *slot_groups;
    uint32_t slot_group_count;
    struct job_slot *slots;
    uint32_t slot_count;
    bool has_slots;
    int64_t slots_missing_since_ms; /* since when it has asked for slots in vain, over all attempts; 0: it has them */
    VEC(struct job_runner) runners; /* still alive */
    struct hash_map executions;     /* id text -> struct execution, current and past */
    int64_t slot_deadline_ms;  /* waiting for slots until then; INT64_MAX: not waiting */
    VEC(struct exception_entry) exceptions; /* oldest first; the last is the root exception while FAILED or RESTARTING */
    char *failure;             /* why it FAILED (text with causes), NULL */
    char *failure_class;
    struct checkpoint_stats checkpoints;
    bool is_stoppable;
    bool books_balance;        /* false after a completed checkpoint whose books did not */
    void *shell;               /* the shell's own data (graph JSON, connections …); it frees it at ACTION_JOB_REMOVED */

    /* private to the core */
    uint64_t next_checkpoint_id;
    VEC(struct checkpoint *) pending;   /* IN_PROGRESS and FINALIZING */
    VEC(struct checkpoint *) retained;  /* COMPLETED, restorable, oldest first */
    json_t *initial_metadata;           /* savepoint it was submitted with; NULL */
    char *initial_path;
    bool initial_is_damaged;
    bool initial_is_savepoint;
    bool owns_initial;                  /* claimed: deleted when newer checkpoints subsume it, or with the job's own */
    uint64_t restore_checkpoint_id;     /* what the current epoch was restored from; 0 none */
    struct restart_state restart;
    int64_t restart_at_ms;              /* RESTARTING: the timer; INT64_MAX while tasks still live */
    int64_t restart_not_before_ms;      /* what the restart strategy says */
    int64_t fenced_until_ms;            /* no new epoch before: runners of a silently lost taskmanager may still live */
    bool is_stopping;                   /* a stop or drain savepoint is under way or done */
    bool is_finish_announced;           /* all tasks FINISHED; runners were told to end */
    struct id stop_trigger_id;          /* its request, answered when the job FINISHED or the stop failed */
    struct checkpoint *stop_savepoint;  /* once COMPLETED; a reference */
    /* wait for a free place */
    VEC(struct checkpoint_request { struct id trigger_id; enum checkpoint_kind kind; char *directory; bool cancel_job; }) requests;
    json_t *books_baseline;             /* "<operator>:<input>" -> rows, where a restore changed the graph: see books_balance.c */
    VEC(struct checkpoint *) orphans;   /* failed while their metadata was being written: deleted when the answer comes */
    int64_t next_checkpoint_ms;         /* periodic trigger; INT64_MAX: none */
    int64_t last_checkpoint_end_ms;
    uint32_t consecutive_failed_checkpoints;
    int64_t kill_deadline_ms;           /* runners that are still there then are killed (again); INT64_MAX */
    int64_t next_deadline_ms;           /* its key in the timer heap */
    uint32_t heap_index;                /* + 1; 0: not in the heap */
    VEC(struct deferred_delete { uint64_t checkpoint; char *directory; }) deferred_deletes;
    bool is_archived;
};

struct coordinator_counters {
    uint64_t events;
    uint64_t ignored_stale;    /* messages of an old epoch, execution or connection */
    uint64_t ignored_unknown;  /* of unknown jobs or taskmanagers */
    uint64_t ignored_illegal;  /* state reports that the life cycle does not allow */
};

struct coordinator_options {
    const struct config *config; /* the cluster's; borrowed for the coordinator's life */
    uint64_t seed;             /* of its generator (execution graph ids, savepoint names, jitter) */
    int64_t now_ms;            /* start of the start-up period */
    const char *checkpoint_directory; /* for jobs without execution.checkpointing.dir; copied. NULL: those take no checkpoints */
};

struct coordinator {
    struct cluster_settings settings;
    const struct config *config;
    char *checkpoint_directory;
    struct hash_map jobs;         /* job id bytes -> struct job, live and terminal */
    struct hash_map taskmanagers; /* id text -> struct taskmanager */
    VEC(struct job *) archived;   /* terminal jobs, oldest first */
    VEC(struct job *) waiting;    /* for slots, oldest first */
    VEC(struct job *) timers;     /* binary heap by next_deadline_ms */
    struct taskmanager *silent_longest, *heard_last; /* ends of the list by last_heartbeat_ms */
    int64_t started_ms;
    uint64_t generator;
    uint32_t slot_count, free_slot_count;
    struct coordinator_counters counters;
};

/* ---------------------------------------------------------------- events */

enum event_kind {
    EVENT_TASKMANAGER_REGISTERED, /* REGISTER came in. A second registration of the same id replaces the first, which is lost */
    EVENT_TASKMANAGER_CLOSED,     /* its connection closed */
    EVENT_TASKMANAGER_HEARTBEAT,  /* any sign of life */
    EVENT_JOB_SUBMITTED,
    EVENT_JOB_CANCEL,             /* the user cancels */
    EVENT_TASK_STATE,
    EVENT_RUNNER_GONE,            /* the process of (job, epoch) on a taskmanager is reaped */
    EVENT_CHECKPOINT_ACK,
    EVENT_CHECKPOINT_DECLINE,
    EVENT_METADATA_WRITTEN,       /* answer to ACTION_WRITE_METADATA; error NULL: written and synced */
    EVENT_TRIGGER,                /* the user wants a checkpoint, savepoint, or stop */
    EVENT_CHECKPOINT_DAMAGED,     /* the shell found a retained checkpoint broken */
    EVENT_SAVEPOINT_DISPOSE,
    EVENT_TICK,                   /* send when coordinator_next_deadline_ms has come */
};

/* Everything that an event points to is borrowed for the call, except where "taken" is said; of json_t the core may take a
 * reference, so they must not be changed afterwards. */
struct event {
    enum event_kind kind;
    union {
        struct {
            const char *taskmanager;
            uint64_t connection;      /* a number never used before */
            const char *host;
            uint16_t data_port;
            uint32_t slot_count;
            int64_t pid;
            uint32_t cpu_cores;
            uint64_t memory_bytes;
            const char *version;
        } registered;
        struct {                      /* CLOSED, HEARTBEAT */
            const char *taskmanager;
            uint64_t connection;
            const char *reason;       /* CLOSED: may be NULL */
        } taskmanager;
        struct {
            /* taken; chained (vertices set); job_id chosen by the client. The same id again: the first one stays, this is freed */
            struct job_graph *graph;
            const char *savepoint_path;       /* NULL: fresh start */
            const json_t *savepoint_metadata; /* what the shell read from there; NULL when it failed */
            const struct error *savepoint_error; /* why; the job then becomes FAILED (JobInitializationException) */
            bool allow_non_restored;
            bool claims_savepoint;            /* it is the job's from now on, like a checkpoint of its own */
        } job_submitted;
        struct {
            struct id job;
        } job_cancel;
        struct {
            const char *taskmanager;
            uint64_t connection;
            struct id job;
            uint64_t epoch;
            const char *execution;
            enum execution_state state;
            const struct error *error; /* FAILED: the task's error chain (also a crash report); else NULL */
        } task_state;
        struct {
            const char *taskmanager;
            uint64_t connection;
            struct id job;
            uint64_t epoch;
        } runner_gone;
        struct {
            const char *taskmanager;
            uint64_t connection;
            struct id job;
            uint64_t epoch;
            uint64_t checkpoint;
            const char *execution;
            const json_t *state;      /* array of handles */
            const json_t *books;      /* object: operator id -> books */
            const json_t *metrics;    /* sync_ms, async_ms … */
            bool is_finished;         /* the task has seen the end of its input: this is its last state */
            const struct error *error; /* DECLINE */
        } ack;                        /* ACK, DECLINE */
        struct {
            struct id job;
            uint64_t checkpoint;
            const struct error *error;
        } metadata_written;
        struct {
            struct id job;
            struct id trigger_id;     /* the answer, ACTION_REQUEST_FINISHED, names it. Exactly one answer, maybe in the same call */
            enum checkpoint_kind kind;
            const char *directory;    /* parent of the savepoint; NULL: execution.checkpointing.savepoint-dir */
            bool cancel_job;          /* SAVEPOINT: cancel the job after it completed */
        } trigger;
        struct {
            struct id job;
            uint64_t checkpoint;
            const char *file;         /* the broken file */
            const char *reason;
        } damaged;
        struct {
            struct id trigger_id;
            const char *path;
        } dispose;
    };
};

/* ---------------------------------------------------------------- actions */

enum action_kind {
    ACTION_LOG,
    ACTION_TASKMANAGER_ACCEPT,   /* send REGISTERED */
    ACTION_TASKMANAGER_CLOSE,    /* declared lost (or replaced): close that connection */
    ACTION_DEPLOY,
    ACTION_CANCEL,
    ACTION_TRIGGER_CHECKPOINT,
    ACTION_CHECKPOINT_COMPLETE,
    ACTION_CHECKPOINT_ABORTED,
    ACTION_WRITE_METADATA,       /* answer with EVENT_METADATA_WRITTEN, always, also long after the job ended */
    ACTION_DELETE_DIRECTORY,     /* a checkpoint's directory, with all in it; failures are only logged */
    ACTION_REQUEST_FINISHED,
    ACTION_JOB_STATE,            /* a job changed its state (job->state); terminal ones too: blobs can go when job_state_is_terminal */
    ACTION_JOB_REMOVED,          /* the job leaves the archive: free job->shell now; the pointer dies after the action list */
};

/* The file of a finished task that must be in the new checkpoint's directory too (hard link, or copy), before the metadata
 * is written: a checkpoint never refers to another one's files. */
struct file_copy {
    char *from;
    char *to;
};

/* Owns what it points to; ids are copies, so an action stays valid however late it is run. */
struct action {
    enum action_kind kind;
    char *taskmanager;           /* addressee; NULL when none */
    uint64_t connection;
    struct id job;
    uint64_t epoch;
    uint64_t checkpoint;
    union {
        struct {
            enum log_level level;
            const char *logger;  /* static */
            char *text;          /* whole text; continuation lines after \n */
        } log;
        struct {
            /* DEPLOY's `tasks`: [{execution, vertex, subtask, attempt, slot, restore {checkpoint, directory, handles {operator:
             * […]}, books {operator: {…}}}}]; restore only when restoring */
            json_t *tasks;
            /* DEPLOY's `peers`: {"<vertex>_<subtask>": {tm, host, data_port}} of all subtasks; shared between the actions of an epoch */
            json_t *peers;
        } deploy;
        struct {
            bool is_kill;        /* CANCEL's mode: kill, else graceful */
        } cancel;
        struct {
            int64_t timestamp;
            char *directory;
            enum checkpoint_kind kind;
            /* array of execution ids that start it on that taskmanager; may be empty (the directory is announced all the same) */
            json_t *executions;
        } trigger;
        struct {
            char *directory;     /* make it if it isn't there */
            json_t *metadata;
            struct file_copy *copies;
            uint32_t copy_count;
        } write;
        struct {
            char *directory;
            struct id trigger_id; /* of EVENT_SAVEPOINT_DISPOSE: the shell answers it by the result; zero otherwise */
        } delete_directory;
        struct {
            struct id trigger_id;
            enum checkpoint_kind request; /* what was asked */
            struct error *error; /* NULL: done */
            char *error_class;   /* Flink's exception class for failure-cause; NULL without error */
            char *location;      /* directory of the savepoint or checkpoint; the checkpoint's id is action.checkpoint */
        } finished;
        struct {
            enum job_state state;
            struct job *borrowed; /* JOB_REMOVED only: valid until action_list_finish */
        } job_state;
    };
};

struct action_list {
    VEC(struct action) actions;
};

/* Frees the actions' contents (and removed jobs) and empties the list. */
void action_list_finish(struct action_list *list);

/* ---------------------------------------------------------------- the machine */

/* Errors: INVALID_CONFIG naming the key. */
MUST_CHECK struct error *coordinator_create(const struct coordinator_options *options, struct coordinator **out);
/* Accepts NULL. Jobs still running are freed as they are. */
void coordinator_destroy(struct coordinator *coordinator);
/* Appends to actions. now_ms never goes back between calls. */
void coordinator_handle(struct coordinator *coordinator, const struct event *event, int64_t now_ms, struct action_list *actions);
/* When EVENT_TICK is due; INT64_MAX: nothing pending. O(1). */
int64_t coordinator_next_deadline_ms(const struct coordinator *coordinator);

/* NULL when unknown. */
struct job *coordinator_job(const struct coordinator *coordinator, struct id id);
struct taskmanager *coordinator_taskmanager(const struct coordinator *coordinator, const char *id);
/* The current or past execution of that id, NULL. */
struct execution *coordinator_execution(const struct job *job, const char *execution_id);
/* Flink's aggregate of the subtasks' states, for `status` of a vertex. */
enum execution_state coordinator_vertex_state(const struct job_task_vertex *vertex);
/* Position of a subtask in checkpoint.subtasks. */
uint32_t coordinator_subtask_ordinal(const struct job *job, uint32_t vertex, uint32_t subtask);
const struct checkpoint_subtask *coordinator_checkpoint_subtask(const struct checkpoint *checkpoint, uint32_t vertex, uint32_t subtask);
/* From the history or what is pending or retained; NULL. */
const struct checkpoint *coordinator_checkpoint(const struct job *job, uint64_t id);
/* "Source: ClickEvent Source (1/2)"; malloced. */
char *coordinator_task_name(const struct execution *execution);
/* Internal consistency (slots, counters, heap): aborts when broken. For tests; O(everything). */
void coordinator_verify(const struct coordinator *coordinator);

#endif
