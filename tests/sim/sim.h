/* The simulator of the coordinator core: a world of taskmanagers, runners, tasks and a disk in virtual time, driven by one
 * seed. The core is the real one; the world is a model of what surrounds it, with its faults:
 *   sim.c        options, seeds, the schedule of faults, liveness at the end
 *   sim_shell.c  the daemon's part: actions become messages and files, messages become events
 *   sim_world.c  agents, runners, tasks, barriers, and the invariants that are checked where things happen
 * One thread. A broken invariant prints how to replay the seed and exits with 1. */
#ifndef MILLRACE_TESTS_SIM_H
#define MILLRACE_TESTS_SIM_H

#include "jobmanager/core/coordinator.h"

#define SIM_TASKMANAGERS_MAX 4
#define SIM_JOBS_MAX 6
#define SIM_PARALLELISM_MAX 3
#define SIM_VERTICES_MAX 3
#define SIM_KEY_GROUPS 4 /* so few that ranges of different parallelisms share single ones */
#define SIM_TASKS_MAX (SIM_PARALLELISM_MAX * SIM_VERTICES_MAX)

/* Bugs that can be put between core and world, or into the core's settings: each must be found. */
enum sim_injection {
    INJECT_NONE,
    INJECT_EARLY_COMMIT,   /* metadata is reported as written before it is */
    INJECT_NO_FENCE,       /* no fencing delay after a silent loss */
    INJECT_NO_KILL_WAIT,   /* runners are reported gone when they are told to go */
    INJECT_WRONG_RESTORE,  /* one task is restored from another checkpoint */
    INJECT_SLOT_LEAK,      /* RUNNER_GONE gets lost */
    INJECT_DELETE_LATEST,  /* the newest checkpoint's directory is deleted instead of the oldest's */
    INJECT_LOST_DELETE,    /* one deletion in eight is forgotten */
    INJECT_COUNT
};

struct sim_job;
struct sim_runner;

struct sim_task {
    struct sim_runner *runner;
    char *execution;
    uint32_t vertex, subtask;
    enum execution_state state;
    uint64_t passed[SIM_PARALLELISM_MAX];   /* by producer: newest barrier that came; UINT64_MAX: it has finished */
    int64_t channel_ms[SIM_PARALLELISM_MAX]; /* by consumer: when the last element sent there arrives */
    bool producer_ended[SIM_PARALLELISM_MAX];
    uint64_t last_checkpoint, final_checkpoint, stop_checkpoint, pending_trigger;
    bool is_data_ended;
    json_t *restore;
};

struct sim_runner { /* a task-runner process */
    struct sim_taskmanager *taskmanager;
    struct sim_job *job;
    uint64_t epoch;
    bool is_alive;
    bool is_confirmed_gone;  /* the jobmanager was told; what a lost one wrote late stays */
    VEC(struct sim_task *) tasks;
    VEC(uint64_t) aborted;   /* checkpoints that it was told to forget */
};

struct sim_taskmanager { /* an agent */
    uint32_t index;
    char id[32];
    uint32_t slots;
    bool is_alive, is_stopped, is_cut; /* cut: no packet gets through, either way */
    bool is_connected;                 /* the agent believes in its connection */
    uint64_t connection;               /* 0: none */
    bool jm_open;                      /* the jobmanager's end of it is open */
    int64_t to_jm_ms, to_tm_ms;        /* arrival of the last message each way: connections are in order */
    int64_t jm_hold_ms, tm_hold_ms;    /* nothing arrives before: the network or the process holds it back */
    int64_t reset_ms;                  /* until then both ends see that the connection was reset */
    int64_t lease_ms;                  /* when the last answer to a heartbeat came; passed on to the runners */
    uint64_t incarnation;
    VEC(struct sim_runner *) runners;
};

struct sim_checkpoint { /* what the world knows of a checkpoint */
    uint64_t id;
    enum checkpoint_kind kind;
    char *directory;
    bool was_written;       /* its metadata got onto the disk */
    size_t state_count;     /* with so many state handles */
};

struct sim_job {
    struct sim *sim;
    uint32_t index;
    struct id id;
    uint32_t vertex_count, parallelism[SIM_VERTICES_MAX], task_count;
    bool is_bounded, has_checkpoints;
    bool is_unaligned;        /* barriers of its checkpoints overtake what is on the way, also the end of the data */
    VEC(struct sim_checkpoint) checkpoints;
    uint64_t committed;       /* newest checkpoint that any task was told is complete */
    bool has_damage;          /* a checkpoint of it was broken on purpose: going back further is legal then */
    uint64_t restored_epoch, restored_id;
    struct sim_task *tasks[SIM_TASKS_MAX]; /* of the newest epoch, by ordinal */
    uint64_t tasks_epoch;
    char *initial_directory;
    uint32_t split_count;
};

struct sim_file {
    char *directory, *path;
    uint64_t token;
    const struct sim_runner *writer; /* NULL: a copy of the jobmanager's */
    bool is_final;                   /* the last state of a finished task: its runner keeps it when the checkpoint is aborted */
};

struct sim_directory {
    char *path;
    json_t *metadata;
    bool is_damaged;
};

struct sim_item { /* something that happens at a time */
    int64_t time_ms;
    uint64_t seq;
    void (*run)(struct sim *sim, struct sim_item *item);
    struct sim_taskmanager *taskmanager;
    struct sim_task *task;
    struct sim_job *job;
    struct sim_runner *runner;
    uint64_t number, connection;
    int64_t sent_ms;
    struct event event;       /* to the jobmanager: texts below are its own */
    char *execution, *text;
    struct error *error;
    json_t *json, *json2;
    struct action action;     /* to a taskmanager: moved out of the action list */
    bool has_action;
};

struct sim {
    uint64_t seed, generator;
    bool is_verbose;
    enum sim_injection injection;
    int64_t now_ms;
    int64_t faults_end_ms;
    uint64_t seq;
    VEC(struct sim_item *) items;
    struct coordinator *coordinator;
    struct config *config;
    struct sim_taskmanager taskmanagers[SIM_TASKMANAGERS_MAX];
    uint32_t taskmanager_count;
    struct sim_job jobs[SIM_JOBS_MAX];
    uint32_t job_count;
    VEC(struct sim_runner *) all_runners;
    VEC(struct sim_file) files;
    VEC(struct sim_directory) directories;
    VEC(struct sim_request { struct id id; uint32_t answers; }) requests;
    uint64_t next_connection, next_token, events, checkpoints_completed, restores, losses;
    bool is_stopping;
};

/* ---- sim.c ---- */
uint64_t sim_random(struct sim *sim);
int64_t sim_between(struct sim *sim, int64_t low, int64_t high); /* inclusive */
bool sim_chance(struct sim *sim, uint32_t percent);
bool sim_faulty(struct sim *sim, uint32_t percent); /* never after the faults have ended */
struct sim_item *sim_at(struct sim *sim, int64_t time_ms, void (*run)(struct sim *, struct sim_item *));
void sim_fail(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);
void sim_trace(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);
void sim_submit(struct sim *sim, const char *savepoint_directory, const struct sim_job *like, bool claims);
void sim_request(struct sim *sim, struct sim_job *job, enum checkpoint_kind kind, bool cancel);
void sim_answered(struct sim *sim, struct id request);

/* ---- sim_shell.c ---- */
void sim_event(struct sim *sim, const struct event *event);
void sim_tick_arm(struct sim *sim);
/* A message of the agent on its present connection. Takes what the item owns. */
void sim_send_to_jm(struct sim *sim, struct sim_taskmanager *taskmanager, struct sim_item *item);
struct sim_item *sim_item_create(void);
void sim_item_destroy(struct sim_item *item);
struct sim_directory *sim_directory(struct sim *sim, const char *path, bool create);
struct sim_file *sim_file_write(struct sim *sim, const char *directory, const char *path, uint64_t token);
void sim_file_remove(struct sim *sim, size_t index);
/* Whether anything lies there that the core could have known of. */
bool sim_disk_has(const struct sim *sim, const char *directory);
uint64_t sim_file_token(const struct sim *sim, const char *directory, const char *path); /* 0: not there */
void sim_close(struct sim *sim, struct sim_taskmanager *taskmanager, int64_t jm_delay_ms);
void sim_disk_finish(struct sim *sim);

/* ---- sim_world.c ---- */
void world_start(struct sim *sim, struct sim_taskmanager *taskmanager);
void world_kill(struct sim *sim, struct sim_taskmanager *taskmanager);
void world_reset(struct sim *sim, struct sim_taskmanager *taskmanager);
void world_message(struct sim *sim, struct sim_taskmanager *taskmanager, struct sim_item *item);
void world_connection_ended(struct sim *sim, struct sim_taskmanager *taskmanager);
void world_heartbeat_answered(struct sim *sim, struct sim_taskmanager *taskmanager, int64_t answered_ms);
void world_runner_kill(struct sim *sim, struct sim_runner *runner);
void world_task_fail(struct sim *sim, struct sim_task *task, struct error *error);
void world_runner_crash(struct sim *sim, struct sim_runner *runner);
struct sim_checkpoint *sim_checkpoint(struct sim_job *job, uint64_t id);
struct sim_job *sim_job_by_id(struct sim *sim, struct id id);
void world_finish(struct sim *sim);

#endif
