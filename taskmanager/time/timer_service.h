/* Timers of an operator, per key, in event and in processing time. A timer is an entry (key, time) of a state table, so that
 * snapshots are copy-on-write and rescaling follows the key groups; a heap in memory gives them in time order and is
 * rebuilt on restore. Registering the same (key, time) twice keeps one timer. Thread: task. Owner: the operator. */
#ifndef MILLRACE_TIME_TIMER_SERVICE_H
#define MILLRACE_TIME_TIMER_SERVICE_H

#include "common/types/schema.h"
#include "taskmanager/state/snapshot.h"

#include <stdbool.h>

enum timer_domain { TIMER_EVENT, TIMER_PROCESSING, TIMER_DOMAIN_COUNT };

/* A key as state tables address it. */
struct state_key {
    const void *bytes;
    uint32_t length;
    uint32_t key_group;
    uint64_t hash;
};

struct timer_service;

/* key_schema may be NULL (opaque keys); referenced. */
struct timer_service *timer_service_create(struct schema *key_schema, uint32_t key_group_first, uint32_t key_group_last);
/* Accepts NULL. */
void timer_service_destroy(struct timer_service *service);

void timer_service_register(struct timer_service *service, enum timer_domain domain, const struct state_key *key, int64_t time);
void timer_service_delete(struct timer_service *service, enum timer_domain domain, const struct state_key *key, int64_t time);
/* Takes the earliest timer that is due at `until` (inclusive); false when there is none. key is valid until the next call. Timers
 * that are registered between two calls take part. */
bool timer_service_pop(struct timer_service *service, enum timer_domain domain, int64_t until, struct state_key *key, int64_t *time);
/* No timer is due before this time; INT64_MAX when there is none. May be early by timers that were deleted. */
int64_t timer_service_next(const struct timer_service *service, enum timer_domain domain);

/* Adds the tables "_timers_event" and "_timers_processing" unless they are empty. */
void timer_service_snapshot(struct timer_service *service, struct snapshot *snapshot);
MUST_CHECK struct error *timer_service_restore(struct timer_service *service, struct restored_state *state);

#endif
