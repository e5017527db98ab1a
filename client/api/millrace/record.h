/* Typed records: a program declares a record's fields once and gets a C struct and its description.
 *
 *   #define CLICK_EVENT(FIELD)            \
 *       FIELD(timestamp, mr_timestamp)    \
 *       FIELD(page, mr_string)
 *   MR_RECORD(click_event, CLICK_EVENT)
 *
 * declares `struct click_event { mr_timestamp timestamp; mr_string page; }` and `click_event_type`. Field names are the
 * names in JSON, in CSV headers and in savepoints: state is matched by field name, so fields may be added, removed and
 * reordered between versions of a program. */
#ifndef MILLRACE_RECORD_H
#define MILLRACE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not NUL-terminated. A string that the engine hands out is valid until the function returns, one that a function hands
 * to the engine is copied before the call returns. data is never NULL in records that the engine hands out. */
typedef struct mr_string {
    const char *data;
    uint32_t length;
} mr_string;

typedef mr_string mr_bytes;
/* Milliseconds since the epoch, UTC. */
typedef int64_t mr_timestamp;

enum mr_type {
    MR_BOOLEAN,
    MR_INT8,
    MR_INT16,
    MR_INT32,
    MR_INT64,
    MR_FLOAT,
    MR_DOUBLE,
    MR_STRING,
    MR_BYTES,
    MR_TIMESTAMP,
};

struct mr_field {
    const char *name;
    enum mr_type type;
    uint16_t size_bytes; /* of the member */
    uint16_t alignment;  /* the engine derives offsets as the C ABI lays out a struct, and checks the total */
};

struct mr_record_type {
    const char *name;
    uint32_t size_bytes; /* sizeof the struct */
    uint32_t field_count;
    const struct mr_field *fields;
};

#define MR_TYPE_OF_bool MR_BOOLEAN
#define MR_TYPE_OF__Bool MR_BOOLEAN
#define MR_TYPE_OF_int8_t MR_INT8
#define MR_TYPE_OF_int16_t MR_INT16
#define MR_TYPE_OF_int32_t MR_INT32
#define MR_TYPE_OF_int64_t MR_INT64
#define MR_TYPE_OF_float MR_FLOAT
#define MR_TYPE_OF_double MR_DOUBLE
#define MR_TYPE_OF_mr_string MR_STRING
#define MR_TYPE_OF_mr_bytes MR_BYTES
#define MR_TYPE_OF_mr_timestamp MR_TIMESTAMP

#define MR_RECORD_MEMBER(name, type) type name;
#define MR_RECORD_FIELD(name, type) {#name, MR_TYPE_OF_##type, sizeof(type), _Alignof(type)},

#define MR_RECORD(record, FIELDS)                                                                                      \
    struct record {                                                                                                    \
        FIELDS(MR_RECORD_MEMBER)                                                                                       \
    };                                                                                                                 \
    static const struct mr_field record##_fields[] = {FIELDS(MR_RECORD_FIELD)};                                        \
    static const struct mr_record_type record##_type __attribute__((unused)) = {                                       \
        #record, sizeof(struct record), sizeof record##_fields / sizeof record##_fields[0], record##_fields}

#endif
