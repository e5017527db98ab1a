/* What a dying task-runner left in its crash pipe: always an error with a message. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "taskmanager/agent/agent_private.h"

#include <signal.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = heap_strndup((const char *)data, size);
    struct error *err = runner_crash_error(text, 1, size % 2 != 0 ? SIGSEGV : 0, NULL);
    check(err != NULL);
    json_t *json = message_error_to_json(err);
    check(json_is_object(json));
    json_decref(json);
    error_free(err);
    free(text);
    return 0;
}
