/* What the row codec's files share. Not for others. */
#ifndef MILLRACE_STATE_ROW_INTERNAL_H
#define MILLRACE_STATE_ROW_INTERNAL_H

#include "taskmanager/state/row_codec.h"

/* Room for length bytes at the writer's end, counted as written. */
uint8_t *row_reserve(struct bytes_writer *writer, size_t length);
/* sizeof and _Alignof of the C member for a field of this type. */
void row_record_layout(enum data_type type, uint32_t *size, uint32_t *alignment);

static inline bool row_field_is_null(const struct row_codec *codec, const uint8_t *bytes, uint32_t field)
{
    return codec->null_bytes != 0 && (bytes[field >> 3] >> (field & 7) & 1) != 0;
}

#endif
