/* What the Kafka source and sink share around librdkafka: configurations from `properties`, its log in ours, its errors as ours.
 * The only folder that includes rdkafka.h. Thread: as each function says; librdkafka's own threads call the log callback. */
#ifndef MILLRACE_KAFKA_CLIENT_H
#define MILLRACE_KAFKA_CLIENT_H

#include "common/base/error.h"

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>

struct kafka_setting {
    const char *key;
    const char *value;
};

/* A configuration: defaults first, then the user's properties, then forced ones. A key or value that librdkafka does not know
 * is an error that names it; without bootstrap.servers, too. */
MUST_CHECK struct error *kafka_conf_create(const json_t *properties, const struct kafka_setting *defaults, const struct kafka_setting *forced,
                                           rd_kafka_conf_t **out);
/* Takes conf. */
MUST_CHECK struct error *kafka_client_create(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **out);
/* Runs close(arg) on a thread of its own that nobody waits for: letting go of clients whose brokers do not answer takes
 * librdkafka seconds, and a cancelled task must not hold its slot that long. Their callbacks are not called any more. */
void kafka_close_later(void (*close)(void *arg), void *arg);
/* Drops what a producer still has, and destroys the client. A consumer's commits under way are waited for, unless the task is aborting:
 * then all of this happens in the background. */
void kafka_client_destroy(rd_kafka_t *client, bool is_aborting);
/* String property, or otherwise. Borrowed. */
const char *kafka_property(const json_t *properties, const char *key, const char *otherwise);

/* "could not <what>: <librdkafka's text>"; the code says whether another try can help. */
MUST_CHECK struct error *kafka_error(rd_kafka_resp_err_t code, const char *what, ...) PRINTF_LIKE(2, 3);
/* Takes kafka_err. */
MUST_CHECK struct error *kafka_error_take(rd_kafka_error_t *kafka_err, const char *what, ...) PRINTF_LIKE(2, 3);
/* Errors that go away by themselves when the broker is back: worth a log line, not a failure. */
bool kafka_error_is_transient(rd_kafka_resp_err_t code);
/* Errors that another try, or a restart, meets again. */
bool kafka_error_is_final(rd_kafka_resp_err_t code);

/* At most one line a second per limiter; the count of swallowed ones is told with the next. */
struct kafka_log_limit {
    int64_t next_ms;
    unsigned long swallowed;
};
void kafka_log_limited(struct kafka_log_limit *limit, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
