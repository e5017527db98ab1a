/* What the formats' files share with format.c: their constructors. Options have been checked for unknown names. */
#ifndef MILLRACE_FORMATS_FORMAT_IMPL_H
#define MILLRACE_FORMATS_FORMAT_IMPL_H

#include "taskmanager/formats/format.h"

struct csv_options {
    char field_delimiter;
    char quote;  /* '\0': quoting is off */
    char escape; /* '\0': none */
    const char *null_literal; /* NULL: none; borrowed from the JSON */
    bool allow_comments;
};

MUST_CHECK struct error *csv_options_parse(const json_t *json, struct csv_options *out);

MUST_CHECK struct error *json_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected,
                                             struct format_decoder **out);
MUST_CHECK struct error *json_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out);
MUST_CHECK struct error *csv_decoder_create(const json_t *options, struct schema *schema, const bool *is_projected,
                                            struct format_decoder **out);
MUST_CHECK struct error *csv_encoder_create(const json_t *options, struct schema *schema, struct format_encoder **out);

#endif
