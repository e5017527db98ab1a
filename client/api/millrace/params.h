/* Parameters from the command line, as Flink's ParameterTool reads them: `--key value`, `-key value`, and `--flag` alone.
 * Parameters live until the program ends. */
#ifndef MILLRACE_PARAMS_H
#define MILLRACE_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

struct mr_params;

/* argv as main gets it (argv[0] is the program's name). A word that is neither key nor value is a mistake that mr_execute
 * reports. */
struct mr_params *mr_params_parse(int argc, char **argv);
/* Was it given, with or without a value? */
bool mr_params_has(const struct mr_params *params, const char *key);
/* The value, or otherwise when it was not given or has none. */
const char *mr_params_get(const struct mr_params *params, const char *key, const char *otherwise);
/* Values that are no number (no boolean) are a mistake that mr_execute reports. */
int64_t mr_params_get_int(const struct mr_params *params, const char *key, int64_t otherwise);
double mr_params_get_double(const struct mr_params *params, const char *key, double otherwise);
/* `--key` alone is true. */
bool mr_params_get_bool(const struct mr_params *params, const char *key, bool otherwise);
/* Like mr_params_get, but missing is a mistake; "" is returned then. */
const char *mr_params_get_required(const struct mr_params *params, const char *key);

#endif
