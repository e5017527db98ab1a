/* Taskmanagers: what they registered with, their slots, and their log files, which they are asked for.
 * Thread: the loop. */
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "jobmanager/job_metrics.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/json_build.h"
#include "jobmanager/taskmanager_link.h"

#include <stdlib.h>
#include <string.h>

/* ---- views ---- */

static int64_t metric_of(const json_t *metrics, const char *name)
{
    return job_metrics_whole(json_number_value(json_object_get(metrics, name)));
}

/* Shares of the taskmanager's memory (MiB) and cores for so many of its slots. */
static json_t *resource_view(const struct taskmanager *taskmanager, uint32_t slots)
{
    double share = taskmanager->slot_count > 0 ? (double)slots / (double)taskmanager->slot_count : 0;
    json_t *json = json_object();
    put_real(json, "cpuCores", (double)taskmanager->cpu_cores * share);
    put_int(json, "taskHeapMemory", (int64_t)((double)(taskmanager->memory_bytes >> 20) * share));
    put_int(json, "taskOffHeapMemory", 0);
    put_int(json, "managedMemory", 0);
    put_int(json, "networkMemory", 0);
    put_json(json, "extendedResources", json_object());
    return json;
}

static json_t *hardware_view(const struct taskmanager *taskmanager, const json_t *metrics)
{
    int64_t physical = metric_of(metrics, "Status.JVM.Memory.Heap.Max");
    int64_t free_bytes = metric_of(metrics, "Status.Host.Memory.Free");
    json_t *json = json_object();
    put_int(json, "cpuCores", taskmanager->cpu_cores);
    put_int(json, "physicalMemory", physical > 0 ? physical : (int64_t)taskmanager->memory_bytes);
    put_int(json, "freeMemory", free_bytes > 0 ? free_bytes : (int64_t)taskmanager->memory_bytes);
    put_int(json, "managedMemory", metric_of(metrics, "Status.Flink.Memory.Managed.Total"));
    return json;
}

/* Millrace does not carve its memory up: all of it is there for tasks. */
static json_t *memory_view(const struct taskmanager *taskmanager)
{
    static const char *const zeros[] = {"frameworkOffHeap", "taskOffHeap", "networkMemory", "managedMemory", "jvmMetaspace", "jvmOverhead"};
    json_t *json = json_object();
    put_int(json, "frameworkHeap", 0);
    put_int(json, "taskHeap", (int64_t)taskmanager->memory_bytes);
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        put_int(json, zeros[i], 0);
    put_int(json, "totalFlinkMemory", (int64_t)taskmanager->memory_bytes);
    put_int(json, "totalProcessMemory", (int64_t)taskmanager->memory_bytes);
    return json;
}

static json_t *taskmanager_view(const struct jobmanager *jobmanager, const struct taskmanager *taskmanager)
{
    const json_t *metrics = taskmanager_link_metrics(jobmanager, taskmanager);
    json_t *json = json_object();
    put_text(json, "id", taskmanager->id);
    put_json(json, "path", json_sprintf("millrace.tcp://%s/taskmanager", taskmanager->id));
    put_int(json, "dataPort", taskmanager->data_port);
    put_int(json, "jmxPort", -1);
    put_int(json, "timeSinceLastHeartbeat", taskmanager->last_heartbeat_ms);
    put_int(json, "slotsNumber", taskmanager->slot_count);
    put_int(json, "freeSlots", taskmanager->free_slot_count);
    put_json(json, "totalResource", resource_view(taskmanager, taskmanager->slot_count));
    put_json(json, "freeResource", resource_view(taskmanager, taskmanager->free_slot_count));
    put_json(json, "hardware", hardware_view(taskmanager, metrics));
    put_json(json, "memoryConfiguration", memory_view(taskmanager));
    return json;
}

static json_t *slots_view(const struct taskmanager *taskmanager)
{
    json_t *slots = json_array();
    for (uint32_t i = 0; i < taskmanager->slot_count; i++) {
        const struct job *job = taskmanager->slots[i].job;
        if (job == NULL)
            continue;
        json_t *slot = json_object();
        put_text(slot, "jobId", id_format(job->id).hex);
        put_json(slot, "resource", resource_view(taskmanager, 1));
        json_array_append_new(slots, slot);
    }
    return slots;
}

static json_t *metrics_view(const json_t *metrics)
{
    static const struct {
        const char *name;
        const char *metric;
    } rows[] = {
        {"heapUsed", "Status.JVM.Memory.Heap.Used"},
        {"heapCommitted", "Status.JVM.Memory.Heap.Committed"},
        {"heapMax", "Status.JVM.Memory.Heap.Max"},
        {"nonHeapUsed", "Status.JVM.Memory.NonHeap.Used"},
        {"nonHeapCommitted", "Status.JVM.Memory.NonHeap.Committed"},
        {"nonHeapMax", "Status.JVM.Memory.NonHeap.Max"},
        {"directCount", "Status.JVM.Memory.Direct.Count"},
        {"directUsed", "Status.JVM.Memory.Direct.MemoryUsed"},
        {"directMax", "Status.JVM.Memory.Direct.TotalCapacity"},
        {"mappedCount", "Status.JVM.Memory.Mapped.Count"},
        {"mappedUsed", "Status.JVM.Memory.Mapped.MemoryUsed"},
        {"mappedMax", "Status.JVM.Memory.Mapped.TotalCapacity"},
        {"memorySegmentsAvailable", "Status.Network.AvailableMemorySegments"},
        {"memorySegmentsTotal", "Status.Network.TotalMemorySegments"},
        {"nettyShuffleMemorySegmentsAvailable", "Status.Shuffle.Netty.AvailableMemorySegments"},
        {"nettyShuffleMemorySegmentsUsed", "Status.Shuffle.Netty.UsedMemorySegments"},
        {"nettyShuffleMemorySegmentsTotal", "Status.Shuffle.Netty.TotalMemorySegments"},
        {"nettyShuffleMemoryAvailable", "Status.Shuffle.Netty.AvailableMemory"},
        {"nettyShuffleMemoryUsed", "Status.Shuffle.Netty.UsedMemory"},
        {"nettyShuffleMemoryTotal", "Status.Shuffle.Netty.TotalMemory"},
    };
    json_t *json = json_object();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        put_int(json, rows[i].name, metric_of(metrics, rows[i].metric));
    json_t *collectors = json_array();
    json_array_append_new(collectors, json_pack("{s:s,s:i,s:i}", "name", "All", "count", 0, "time", 0));
    put_json(json, "garbageCollectors", collectors);
    return json;
}

void handle_taskmanagers(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct hash_map *taskmanagers = &jobmanager->coordinator->taskmanagers;
    json_t *list = json_array();
    for (size_t i = 0; i < taskmanagers->count; i++)
        json_array_append_new(list, taskmanager_view(jobmanager, taskmanagers->entries[i].value));
    json_t *json = json_object();
    put_json(json, "taskmanagers", list);
    rest_reply_json(request, 200, json);
}

void handle_taskmanager(struct jobmanager *jobmanager, struct rest_request *request)
{
    const char *id = rest_path_param(request, "taskmanagerid");
    const struct taskmanager *taskmanager = coordinator_taskmanager(jobmanager->coordinator, id);
    if (taskmanager == NULL) {
        rest_reply_internal(request, EX_NO_TM ": No TaskExecutor registered under %s.", id);
        return;
    }
    json_t *json = taskmanager_view(jobmanager, taskmanager);
    put_json(json, "allocatedSlots", slots_view(taskmanager));
    put_json(json, "metrics", metrics_view(taskmanager_link_metrics(jobmanager, taskmanager)));
    rest_reply_json(request, 200, json);
}

/* ---- files ---- */

struct file_wait {
    struct rest_request *request;
    char *taskmanager;
    char *name;   /* of the file asked for; NULL: the kind says it */
    bool is_json; /* the bytes are a JSON answer of their own: list, thread-dump */
};

static void on_taskmanager_file(struct error *err, const json_t *header, const uint8_t *bytes, size_t length, void *argument)
{
    struct file_wait *wait = argument;
    (void)header;
    if (err != NULL && err->code == ERR_NOT_FOUND && wait->name != NULL) {
        rest_reply_internal(wait->request, EX_FLINK ": Failed to transfer file from TaskExecutor %s.\nCaused by: " EX_FILE
                                                    ": The file %s does not exist on the TaskExecutor.",
                            wait->taskmanager, wait->name);
        error_free(err);
    } else if (err != NULL) {
        char *lines = rest_error_lines(err);
        rest_reply_internal(wait->request, EX_FLINK ": Failed to transfer file from TaskExecutor %s.\nCaused by: %s%s", wait->taskmanager,
                            err->code == ERR_NOT_FOUND ? EX_FILE ": " : "", lines);
        free(lines);
        error_free(err);
    } else if (wait->is_json) {
        json_t *json = json_loadb((const char *)bytes, length, 0, NULL);
        if (json != NULL)
            rest_reply_json(wait->request, 200, json);
        else
            rest_reply_internal(wait->request, EX_FLINK ": TaskExecutor %s gave an answer that is no JSON.", wait->taskmanager);
    } else {
        rest_reply_text(wait->request, 200, bytes, length);
    }
    free(wait->taskmanager);
    free(wait->name);
    free(wait);
}

static void get_file(struct jobmanager *jobmanager, struct rest_request *request, const char *kind, const char *name, bool is_json)
{
    const char *id = rest_path_param(request, "taskmanagerid");
    const struct taskmanager *taskmanager = coordinator_taskmanager(jobmanager->coordinator, id);
    if (taskmanager == NULL) {
        rest_reply_error(request, 404,
                         EX_NOT_FOUND ": Failed to transfer file from TaskExecutor %s because it was unknown.\nCaused by: " EX_NO_TM
                                      ": No TaskExecutor registered under %s.\n",
                         id, id);
        return;
    }
    struct file_wait *wait = heap_new(struct file_wait);
    wait->request = request;
    wait->taskmanager = heap_strdup(id);
    wait->name = name != NULL ? heap_strdup(name) : NULL;
    wait->is_json = is_json;
    rest_request_defer(request);
    taskmanager_link_get_file(jobmanager, taskmanager, kind, name, on_taskmanager_file, wait);
}

void handle_taskmanager_logs(struct jobmanager *jobmanager, struct rest_request *request)
{
    get_file(jobmanager, request, "list", NULL, true);
}

void handle_taskmanager_log_file(struct jobmanager *jobmanager, struct rest_request *request)
{
    get_file(jobmanager, request, "file", rest_path_param(request, "filename"), false);
}

void handle_taskmanager_log(struct jobmanager *jobmanager, struct rest_request *request)
{
    get_file(jobmanager, request, "log", NULL, false);
}

void handle_taskmanager_stdout(struct jobmanager *jobmanager, struct rest_request *request)
{
    get_file(jobmanager, request, "stdout", NULL, false);
}

void handle_taskmanager_thread_dump(struct jobmanager *jobmanager, struct rest_request *request)
{
    get_file(jobmanager, request, "thread-dump", NULL, true);
}
