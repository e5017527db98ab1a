/* Books: counters of one operator subtask and their JSON form, which travels with checkpoint acks and metric reports.
 * Thread: the task thread of the subtask. Owner: the operator chain.
 * JSON: {"rows_in":[n,n],"rows_out":n,"side_rows_out":[n…],"filtered":n,"late":n,"unparsable":n,"rows_read":n,
 *   "rows_written":n,"rows_committed":n,"digest":"16 hex","digest_committed":"16 hex",
 *   "splits":{name:{"records":n,"bytes":n}},"samples":[{"split":s,"offset":n,"reason":s,"excerpt":s,"time":n}]}
 * Digests are hex text because JSON integers end at 2^63. */
#include "taskmanager/task/books.h"

#include "common/base/heap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void books_init(struct books *books, uint32_t side_count)
{
    *books = (struct books){.side_count = side_count};
    if (side_count > 0)
        books->side_rows_out = heap_alloc_array(side_count, sizeof *books->side_rows_out);
}

void books_finish(struct books *books)
{
    for (uint32_t i = 0; i < books->split_count; i++)
        free(books->splits[i].name);
    for (uint32_t i = 0; i < books->sample_count; i++) {
        free(books->samples[i].split);
        free(books->samples[i].reason);
        free(books->samples[i].excerpt);
    }
    free(books->splits);
    free(books->side_rows_out);
    *books = (struct books){0};
}

struct books_split *books_split(struct books *books, const char *name)
{
    for (uint32_t i = 0; i < books->split_count; i++)
        if (strcmp(books->splits[i].name, name) == 0)
            return &books->splits[i];
    books->splits = heap_realloc(books->splits, books->split_count + 1u, sizeof *books->splits);
    struct books_split *split = &books->splits[books->split_count++];
    *split = (struct books_split){.name = heap_strdup(name)};
    return split;
}

static void books_add_sample(struct books *books, const struct books_sample *sample)
{
    if (books->sample_count == BOOKS_SAMPLE_MAX)
        return;
    books->samples[books->sample_count++] = (struct books_sample){.split = heap_strdup(sample->split),
                                                                  .offset = sample->offset,
                                                                  .reason = heap_strdup(sample->reason),
                                                                  .excerpt = heap_strdup(sample->excerpt),
                                                                  .time_ms = sample->time_ms};
}

void books_add_unparsable(struct books *books, const struct books_sample *sample)
{
    books->unparsable++;
    books_add_sample(books, sample);
}

/* ---- JSON ---- */

struct books_counter {
    const char *name;
    size_t offset;
};

static const struct books_counter books_counters[] = {
    {"rows_out", offsetof(struct books, rows_out)},         {"filtered", offsetof(struct books, filtered)},
    {"late", offsetof(struct books, late)},                 {"unparsable", offsetof(struct books, unparsable)},
    {"rows_read", offsetof(struct books, rows_read)},       {"rows_written", offsetof(struct books, rows_written)},
    {"rows_committed", offsetof(struct books, rows_committed)},
};
#define BOOKS_COUNTER_COUNT (sizeof books_counters / sizeof books_counters[0])

static json_t *count_to_json(uint64_t count)
{
    return json_integer((json_int_t)count);
}

static json_t *digest_to_json(uint64_t digest)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, digest);
    return json_string(text);
}

json_t *books_to_json(const struct books *books)
{
    json_t *json = json_object();
    json_object_set_new(json, "rows_in", json_pack("[o,o]", count_to_json(books->rows_in[0]), count_to_json(books->rows_in[1])));
    for (size_t i = 0; i < BOOKS_COUNTER_COUNT; i++) {
        uint64_t count;
        memcpy(&count, (const char *)books + books_counters[i].offset, sizeof count);
        json_object_set_new(json, books_counters[i].name, count_to_json(count));
    }
    json_t *sides = json_array();
    for (uint32_t i = 0; i < books->side_count; i++)
        json_array_append_new(sides, count_to_json(books->side_rows_out[i]));
    json_object_set_new(json, "side_rows_out", sides);
    json_object_set_new(json, "digest", digest_to_json(books->digest));
    json_object_set_new(json, "digest_committed", digest_to_json(books->digest_committed));
    json_t *splits = json_object();
    for (uint32_t i = 0; i < books->split_count; i++)
        json_object_set_new(splits, books->splits[i].name,
                            json_pack("{s:o,s:o}", "records", count_to_json(books->splits[i].records), "bytes",
                                      count_to_json(books->splits[i].bytes)));
    json_object_set_new(json, "splits", splits);
    json_t *samples = json_array();
    for (uint32_t i = 0; i < books->sample_count; i++) {
        json_t *sample = json_object();
        json_object_set_new(sample, "split", json_string(books->samples[i].split));
        json_object_set_new(sample, "offset", json_integer(books->samples[i].offset));
        json_t *reason = json_string(books->samples[i].reason);
        json_object_set_new(sample, "reason", reason != NULL ? reason : json_string("(not UTF-8)"));
        json_object_set_new(sample, "excerpt", json_string(books->samples[i].excerpt));
        json_object_set_new(sample, "time", json_integer(books->samples[i].time_ms));
        json_array_append_new(samples, sample);
    }
    json_object_set_new(json, "samples", samples);
    return json;
}

/* A member that is absent counts as 0: books of an older version may lack it. */
static struct error *count_from_json(const json_t *json, const char *name, uint64_t *count)
{
    if (json == NULL)
        return NULL;
    if (!json_is_integer(json))
        return error_new(CORRUPT, "books: member %s is not a number", name);
    *count += (uint64_t)json_integer_value(json);
    return NULL;
}

static struct error *digest_from_json(const json_t *json, const char *name, uint64_t *digest)
{
    if (json == NULL)
        return NULL;
    const char *text = json_string_value(json);
    char *end = NULL;
    if (text != NULL && text[0] != '\0') {
        uint64_t value = strtoull(text, &end, 16);
        if (*end == '\0') {
            *digest += value;
            return NULL;
        }
    }
    return error_new(CORRUPT, "books: member %s is not a hexadecimal number", name);
}

struct error *books_add_json(struct books *books, const json_t *json)
{
    if (!json_is_object(json))
        return error_new(CORRUPT, "books are not a JSON object");
    const json_t *rows_in = json_object_get(json, "rows_in");
    for (size_t i = 0; i < 2; i++)
        TRY(count_from_json(json_array_get(rows_in, i), "rows_in", &books->rows_in[i]));
    for (size_t i = 0; i < BOOKS_COUNTER_COUNT; i++) {
        uint64_t count = 0;
        char *place = (char *)books + books_counters[i].offset;
        memcpy(&count, place, sizeof count);
        TRY(count_from_json(json_object_get(json, books_counters[i].name), books_counters[i].name, &count));
        memcpy(place, &count, sizeof count);
    }
    const json_t *sides = json_object_get(json, "side_rows_out");
    for (uint32_t i = 0; i < books->side_count; i++)
        TRY(count_from_json(json_array_get(sides, i), "side_rows_out", &books->side_rows_out[i]));
    TRY(digest_from_json(json_object_get(json, "digest"), "digest", &books->digest));
    TRY(digest_from_json(json_object_get(json, "digest_committed"), "digest_committed", &books->digest_committed));
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(json, "splits"), name, entry)
    {
        struct books_split *split = books_split(books, name);
        TRY(count_from_json(json_object_get(entry, "records"), "records", &split->records));
        TRY(count_from_json(json_object_get(entry, "bytes"), "bytes", &split->bytes));
    }
    size_t index;
    json_array_foreach(json_object_get(json, "samples"), index, entry)
    {
        /* Only read: books_add_sample copies. */
        struct books_sample sample = {.split = (char *)(uintptr_t)json_string_value(json_object_get(entry, "split")),
                                      .offset = json_integer_value(json_object_get(entry, "offset")),
                                      .reason = (char *)(uintptr_t)json_string_value(json_object_get(entry, "reason")),
                                      .excerpt = (char *)(uintptr_t)json_string_value(json_object_get(entry, "excerpt")),
                                      .time_ms = json_integer_value(json_object_get(entry, "time"))};
        if (sample.excerpt == NULL)
            sample.excerpt = (char[]){""};
        if (sample.split != NULL && sample.reason != NULL)
            books_add_sample(books, &sample);
    }
    return NULL;
}
