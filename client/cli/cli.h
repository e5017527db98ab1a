/* The `flink` program: actions, their options, and how outcomes are printed. Wording, streams and exit codes are Flink's.
 * One thread. */
#ifndef MILLRACE_CLIENT_CLI_H
#define MILLRACE_CLIENT_CLI_H

#include "client/rest/rest_client.h"
#include "common/base/id.h"
#include "common/config/config.h"

/* diagnose: the job has findings of severity error. 1 stays what it is for all actions: the call failed. */
#define CLI_EXIT_FINDINGS 2

/* Options of all actions; what an action accepts is in cli_options.def. */
enum cli_option {
#define CLI_OPTION(name, short_name, long_name, argument, actions, help) CLI_##name,
#include "client/cli/cli_options.def"
#undef CLI_OPTION
    CLI_OPTION_COUNT
};

/* Bits: which actions an option belongs to. */
enum cli_action_bit {
    ACTION_RUN = 1,
    ACTION_INFO = 2,
    ACTION_LIST = 4,
    ACTION_STOP = 8,
    ACTION_CANCEL = 16,
    ACTION_SAVEPOINT = 32,
    ACTION_CHECKPOINT = 64,
    ACTION_DIAGNOSE = 128,
    ACTION_ANY = 255,
};

struct cli_command {
    enum cli_action_bit action;
    bool is_given[CLI_OPTION_COUNT];
    const char *values[CLI_OPTION_COUNT]; /* borrowed from argv */
    json_t *properties;                   /* -D, in order */
    char **arguments;                     /* what is no option; for run and info: the program and everything after it */
    int argument_count;
    int *exit_code;                       /* 0; an action that succeeded may have something to say with it */
};

/* Parses what follows the action. errors: INVALID_ARGUMENT, whose message is for the user as it is. */
MUST_CHECK struct error *cli_parse(enum cli_action_bit action, int argc, char **argv, struct cli_command *out);
void cli_command_finish(struct cli_command *command);
void cli_print_action_help(enum cli_action_bit action);
void cli_print_help(void);

/* Configuration files, FLINK_PROPERTIES and -D. */
MUST_CHECK struct error *cli_load_config(const struct cli_command *command, struct config **out);
/* -m, else rest.address and rest.port. */
MUST_CHECK struct error *cli_connect(const struct cli_command *command, struct rest_client **out);

/* An error that shows as Flink's exception block; code INTERNAL. cause (taken) may be NULL. The storeys are printed one a line,
 * a storey's own lines (of a REST error) as they are. */
#define cli_failure(cause, ...) cli_create_failure(cause, __FILE__, __LINE__, __VA_ARGS__)
MUST_CHECK struct error *cli_create_failure(struct error *cause, const char *file, int line, const char *format, ...) PRINTF_LIKE(4, 5);
/* A storey for what the server said was the cause: {"class":…, "stack-trace":…}. */
MUST_CHECK struct error *cli_error_of_cause(const json_t *failure_cause);
/* Prints err as Flink does (arguments to stdout, failures to stderr), frees it, and returns the exit code. */
int cli_report(struct error *err);

MUST_CHECK struct error *cli_parse_job_id(const char *text, struct id *out);
/* Asks for an asynchronous operation until it is done; *out: its "operation" object (new reference). */
MUST_CHECK struct error *cli_wait_operation(struct rest_client *client, const char *path, json_t **out);

/* ---- actions: cmd_*.c ---- */
MUST_CHECK struct error *cmd_list(const struct cli_command *command);
MUST_CHECK struct error *cmd_run(const struct cli_command *command);
MUST_CHECK struct error *cmd_info(const struct cli_command *command);
MUST_CHECK struct error *cmd_cancel(const struct cli_command *command);
MUST_CHECK struct error *cmd_stop(const struct cli_command *command);
MUST_CHECK struct error *cmd_savepoint(const struct cli_command *command);
MUST_CHECK struct error *cmd_checkpoint(const struct cli_command *command);
MUST_CHECK struct error *cmd_diagnose(const struct cli_command *command);

/* main without the process: argv[0] is the program's name. Returns the exit code. */
int cli_main(int argc, char **argv);

#endif
