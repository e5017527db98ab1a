/* Patience with connections that do not register, and the limits of a REGISTER (taskmanager_admission.h). Thread: the loop. */
#include "jobmanager/taskmanager_admission.h"

#include "common/loop/loop.h"

#include <inttypes.h>
#include <string.h>

enum { PATIENCE_MS = 10000, NEWCOMER_COUNT_MAX = 256, NAME_BYTES_MAX = 255, SLOT_COUNT_MAX = 65536, CORE_COUNT_MAX = 65536 };

static void on_patience_over(void *argument)
{
    struct taskmanager_link *link = argument;
    loop_timer_stop(&link->patience);
    rpc_conn_close(link->conn, error_new(TIMEOUT, "it did not register within %d s", PATIENCE_MS / 1000));
}

static bool is_newcomer(const struct taskmanager_link *link)
{
    return link->patience != NULL;
}

static void make_room(struct jobmanager *jobmanager)
{
    struct taskmanager_link *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < jobmanager->links.count; i++) {
        struct taskmanager_link *link = jobmanager->links.entries[i].value;
        if (!is_newcomer(link))
            continue;
        count++;
        if (first == NULL || link->number < first->number)
            first = link;
    }
    if (count <= NEWCOMER_COUNT_MAX)
        return;
    loop_timer_stop(&first->patience);
    rpc_conn_close(first->conn, error_new(PROTOCOL, "too many connections have not registered, and this one has waited for longest"));
}

void taskmanager_admission_begin(struct taskmanager_link *link)
{
    link->patience = loop_timer_start(link->jobmanager->loop, PATIENCE_MS, 0, on_patience_over, link);
    make_room(link->jobmanager);
}

void taskmanager_admission_end(struct taskmanager_link *link)
{
    loop_timer_stop(&link->patience);
}

/* ---- what REGISTER may say ---- */

static struct error *check_name(const json_t *registration, const char *member)
{
    const char *name = message_text(registration, member);
    size_t length = strlen(name);
    if (length == 0 || length > NAME_BYTES_MAX)
        return error_new(PROTOCOL, "the member \"%s\" of REGISTER has %zu bytes, expected 1 to %d", member, length, NAME_BYTES_MAX);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return error_new(PROTOCOL, "the member \"%s\" of REGISTER has control characters", member);
    return NULL;
}

static struct error *check_number(const json_t *registration, const char *member, int64_t min, int64_t max)
{
    int64_t number = message_int(registration, member);
    if (number < min || number > max)
        return error_new(PROTOCOL, "the member \"%s\" of REGISTER is %" PRId64 ", expected %" PRId64 " to %" PRId64, member, number, min, max);
    return NULL;
}

struct error *taskmanager_admission_check(const json_t *registration)
{
    TRY(check_name(registration, "tm"));
    TRY(check_name(registration, "host"));
    TRY(check_name(registration, "version"));
    TRY(check_number(registration, "data_port", 1, UINT16_MAX));
    TRY(check_number(registration, "slots", 1, SLOT_COUNT_MAX));
    TRY(check_number(registration, "pid", 0, INT32_MAX));
    TRY(check_number(registration, "cpu_cores", 0, CORE_COUNT_MAX));
    return check_number(registration, "memory_bytes", 0, INT64_MAX);
}
