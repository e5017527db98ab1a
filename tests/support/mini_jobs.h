/* Jobs on a mini_cluster in Check tests: what several test programs do with them. All abort the test with the job's own words when
 * something is not as it should be. Thread: the test's. */
#ifndef MILLRACE_SUPPORT_MINI_JOBS_H
#define MILLRACE_SUPPORT_MINI_JOBS_H

#include "tests/support/mini_cluster.h"

#define MINI_WAIT_MS 30000

void mini_require(struct error *err);
json_t *mini_parse(const char *text);
/* With quick heartbeats and restarts (5 of them, 50 ms apart). more: JSON object of further settings; may be NULL. */
struct mini_cluster *mini_start(uint32_t taskmanager_count, uint32_t slot_count, const char *more);
/* A file of that name in the cluster's directory; malloced. */
char *mini_path(const struct mini_cluster *cluster, const char *name);
/* Why the job is not where it should be; borrowed until the loop runs. */
const char *mini_failure(const struct mini_cluster *cluster, struct id job);
/* Waits for its end and that nothing of it is left. */
void mini_finish(struct mini_cluster *cluster, struct id job);
void mini_wait_completed(struct mini_cluster *cluster, struct id job, uint64_t checkpoint_count);
/* Takes one (kind and directory as in mini_cluster_trigger) and gives its location, malloced. Once more when a task ended just then, as a user
 * has to. */
char *mini_trigger(struct mini_cluster *cluster, struct id job, enum checkpoint_kind kind, const char *directory);
/* Kills the taskmanager that has the job's slot, starts another, and waits until the job runs again. */
void mini_kill_and_recover(struct mini_cluster *cluster, struct id job, uint32_t slot, uint32_t slot_count);
void mini_assert_balanced(const struct mini_cluster *cluster, struct id job);
/* The rows that collect sinks have written to `name`, by up to file_count subtasks. */
json_t *mini_rows(const struct mini_cluster *cluster, const char *name, uint32_t file_count);

#endif
