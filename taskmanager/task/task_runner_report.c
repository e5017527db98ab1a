/* What a runner reports: task states, acks and declines of checkpoints, metrics. Tasks call from their threads; everything
 * is sent from the loop. Thread: as noted. */
#include "taskmanager/task/task_runner_private.h"

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/loop/worker.h"
#include "common/rpc/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOGGER "TaskRunner"
#define NS_PER_MS 1000000
#define DELIVERY_LOOK_MS 2
#define NS_PER_S 1000000000.0

json_t *task_runner_header(const struct task_runner *runner)
{
    return json_pack("{s:s,s:I}", "job", id_format(runner->job).hex, "epoch", (json_int_t)runner->epoch);
}

void task_runner_send(struct task_runner *runner, uint16_t type, json_t *json)
{
    if (!runner->is_closing && runner->options.on_message != NULL)
        runner->options.on_message(runner->options.context, type, json);
    json_decref(json);
}

/* ---- states ---- */

void task_runner_send_state(struct task_runner *runner, const char *execution, const char *state, const struct error *err)
{
    json_t *json = task_runner_header(runner);
    json_object_set_new(json, "execution", json_string(execution));
    json_object_set_new(json, "state", json_string(state));
    if (err != NULL)
        json_object_set_new(json, "error", message_error_to_json(err));
    task_runner_send(runner, MESSAGE_TASK_STATE, json);
}

struct state_mail {
    struct task_runner *runner;
    struct task *task;
    enum task_state state;
    struct error *err;
};

static void runner_all_ended(struct task_runner *runner)
{
    if (runner->is_closing)
        task_runner_close_ended(runner);
    else if (runner->options.on_all_ended != NULL)
        runner->options.on_all_ended(runner->options.context);
}

static void on_delivery_timer(void *argument);

/* Loop. */
static void on_state_mail(void *argument, bool is_closed)
{
    struct state_mail *mail = argument;
    struct task_runner *runner = mail->runner;
    check(!is_closed); /* the mailbox closes after the last task has ended */
    if (mail->state == TASK_FINISHED && !runner->is_closing && task_has_undelivered(mail->task)) {
        /* Finished means that nobody needs this process for the task any more. */
        vec_push(&runner->undelivered, mail);
        if (runner->delivery_timer == NULL)
            runner->delivery_timer = loop_timer_start(runner->options.loop, DELIVERY_LOOK_MS, DELIVERY_LOOK_MS, on_delivery_timer, runner);
        return;
    }
    bool is_final = task_state_is_final(mail->state);
    if (is_final) {
        task_runner_task_ended(runner, mail->task);
        task_runner_send_metrics(runner);
    }
    task_runner_send_state(runner, task_execution(mail->task), task_state_name(mail->state), mail->err);
    error_free(mail->err);
    free(mail);
    if (is_final && runner->ended_count == runner->tasks.count)
        runner_all_ended(runner);
}

void task_runner_look_at_undelivered(struct task_runner *runner)
{
    struct state_mail **mails = runner->undelivered.items;
    size_t count = runner->undelivered.count;
    runner->undelivered.items = NULL;
    runner->undelivered.count = runner->undelivered.capacity = 0;
    for (size_t i = 0; i < count; i++)
        on_state_mail(mails[i], false); /* puts it back when it is not delivered yet */
    free(mails);
    if (runner->undelivered.count == 0)
        loop_timer_stop(&runner->delivery_timer);
}

static void on_delivery_timer(void *argument)
{
    task_runner_look_at_undelivered(argument);
}

/* Task thread. */
static void on_state(void *arg, struct task *task, enum task_state state, struct error *err)
{
    struct task_runner *runner = arg;
    struct state_mail mail = {runner, task, state, err};
    mailbox_post(runner->mailbox, on_state_mail, heap_memdup(&mail, sizeof mail));
}

/* ---- checkpoints ---- */

static json_t *checkpoint_message(const struct task_runner *runner, const struct task *task, uint64_t checkpoint_id)
{
    json_t *json = task_runner_header(runner);
    json_object_set_new(json, "checkpoint", json_integer((json_int_t)checkpoint_id));
    json_object_set_new(json, "execution", json_string(task_execution(task)));
    return json;
}

static void send_decline(struct task_runner *runner, const struct task *task, uint64_t checkpoint_id, const struct error *err)
{
    json_t *json = checkpoint_message(runner, task, checkpoint_id);
    json_object_set_new(json, "error", message_error_to_json(err));
    task_runner_send(runner, MESSAGE_CHECKPOINT_DECLINE, json);
}

static void send_ack(struct task_runner *runner, struct checkpoint_report *report)
{
    json_t *json = checkpoint_message(runner, report->task, report->barrier.checkpoint_id);
    json_object_set_new(json, "state", report->result.handles);
    json_object_set_new(json, "books", report->books);
    report->result.handles = report->books = NULL; /* moved: JSON values stay on one thread */
    json_object_set_new(json, "metrics", checkpoint_report_metrics(report));
    json_object_set_new(json, "is_finished", json_boolean(report->is_finished));
    task_runner_send(runner, MESSAGE_CHECKPOINT_ACK, json);
}

struct report_mail {
    struct task_runner *runner;
    struct checkpoint_report *report;
};

/* Worker. */
static struct error *report_work(void *argument)
{
    struct report_mail *mail = argument;
    return checkpoint_report_write(mail->report);
}

/* Loop. */
static void report_done(struct error *err, void *argument)
{
    struct report_mail *mail = argument;
    const struct checkpoint_report *report = mail->report;
    /* The last state of a finished task is needed by later checkpoints too, whatever becomes of this one. */
    bool is_wanted = err != NULL || report->is_finished || json_array_size(report->result.handles) == 0 ||
                     written_files_add(&mail->runner->written, report->barrier.checkpoint_id, report->barrier.location->directory,
                                       json_string_value(json_object_get(json_array_get(report->result.handles, 0), "path")));
    if (err == NULL && is_wanted)
        send_ack(mail->runner, mail->report);
    else if (err != NULL)
        send_decline(mail->runner, mail->report->task, mail->report->barrier.checkpoint_id, err);
    error_free(err);
    checkpoint_report_release(mail->report);
    free(mail);
}

/* Loop. */
static void on_report_mail(void *argument, bool is_closed)
{
    struct report_mail *mail = argument;
    check(!is_closed);
    worker_run(mail->runner->options.loop, report_work, report_done, mail);
}

/* Task thread. */
static void on_snapshot(void *arg, struct checkpoint_report *report)
{
    struct task_runner *runner = arg;
    struct report_mail mail = {runner, report};
    mailbox_post(runner->mailbox, on_report_mail, heap_memdup(&mail, sizeof mail));
}

struct decline_mail {
    struct task_runner *runner;
    struct task *task;
    uint64_t checkpoint_id;
    struct error *err;
};

/* Loop. */
static void on_decline_mail(void *argument, bool is_closed)
{
    struct decline_mail *mail = argument;
    if (!is_closed)
        send_decline(mail->runner, mail->task, mail->checkpoint_id, mail->err);
    error_free(mail->err);
    free(mail);
}

/* Task thread. */
static void on_decline(void *arg, struct task *task, uint64_t checkpoint_id, struct error *err)
{
    struct task_runner *runner = arg;
    struct decline_mail mail = {runner, task, checkpoint_id, err};
    mailbox_post(runner->mailbox, on_decline_mail, heap_memdup(&mail, sizeof mail));
}

struct task_host task_runner_host(struct task_runner *runner)
{
    return (struct task_host){.arg = runner, .on_state = on_state, .on_snapshot = on_snapshot, .on_decline = on_decline};
}

/* ---- metrics ---- */

/* Milliseconds of each second since the last report: together they make 1000. */
static void add_time_rates(json_t *json, struct runner_task *entry)
{
    int64_t totals[TASK_TIME_COUNT];
    double spent[TASK_TIME_COUNT], sum = 0;
    task_times(entry->task, totals);
    for (int i = 0; i < TASK_TIME_COUNT; i++) {
        spent[i] = (double)(totals[i] - entry->reported_ns[i]);
        sum += spent[i];
        entry->reported_ns[i] = totals[i];
    }
    double scale = sum > 0 ? 1000 / sum : 0;
    json_object_set_new(json, "busyTimeMsPerSecond", json_real(spent[TASK_TIME_BUSY] * scale));
    json_object_set_new(json, "idleTimeMsPerSecond", json_real(spent[TASK_TIME_IDLE] * scale));
    json_object_set_new(json, "softBackPressuredTimeMsPerSecond", json_real(spent[TASK_TIME_SOFT_BLOCKED] * scale));
    json_object_set_new(json, "hardBackPressuredTimeMsPerSecond", json_real(spent[TASK_TIME_HARD_BLOCKED] * scale));
    json_object_set_new(json, "backPressuredTimeMsPerSecond",
                        json_real((spent[TASK_TIME_SOFT_BLOCKED] + spent[TASK_TIME_HARD_BLOCKED]) * scale));
}

/* Resident set and threads of this process, from Linux's proc(5). */
static json_t *process_metrics(void)
{
    long long pages = 0, ignored = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL && fscanf(file, "%lld %lld", &ignored, &pages) != 2)
        pages = 0;
    if (file != NULL)
        fclose(file);
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    int64_t cpu_ms = ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
    return json_pack("{s:i,s:I,s:I}", "pid", (int)getpid(), "rss_bytes", (json_int_t)(pages * sysconf(_SC_PAGESIZE)), "cpu_ms",
                     (json_int_t)cpu_ms);
}

static json_t *metrics_message(struct task_runner *runner, bool with_reported)
{
    json_t *json = task_runner_header(runner);
    json_t *tasks = json_array();
    for (size_t i = 0; i < runner->tasks.count; i++) {
        struct runner_task *entry = &runner->tasks.items[i];
        if (entry->is_reported && !with_reported)
            continue;
        json_t *task = task_metrics(entry->task);
        add_time_rates(task, entry);
        json_array_append_new(tasks, task);
    }
    json_object_set_new(json, "tasks", tasks);
    json_object_set_new(json, "process", process_metrics());
    return json;
}

json_t *task_runner_metrics(struct task_runner *runner)
{
    return metrics_message(runner, true);
}

void task_runner_send_metrics(struct task_runner *runner)
{
    json_t *json = metrics_message(runner, false);
    for (size_t i = 0; i < runner->tasks.count; i++)
        runner->tasks.items[i].is_reported = runner->tasks.items[i].is_ended;
    if (json_array_size(json_object_get(json, "tasks")) > 0)
        task_runner_send(runner, MESSAGE_METRICS, json);
    else
        json_decref(json);
}
