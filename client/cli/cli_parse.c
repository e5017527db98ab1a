/* Command line: options by table, as Apache Commons CLI reads them (one or two dashes before a long name, `=` or a blank before a
 * value), and their help. */
#include "client/cli/cli.h"

#include "common/base/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option_row {
    const char *short_name;
    const char *long_name;
    const char *argument;
    unsigned actions;
    const char *help;
} rows[CLI_OPTION_COUNT] = {
#define CLI_OPTION(name, short_name, long_name, argument, actions, help) {short_name, long_name, argument, actions, help},
#include "client/cli/cli_options.def"
#undef CLI_OPTION
};

static const struct {
    enum cli_action_bit action;
    const char *name;
    const char *does;
    const char *syntax;
} actions[] = {
    {ACTION_RUN, "run", "runs a program.", "run [OPTIONS] <shared-object> <arguments>"},
    {ACTION_INFO, "info", "shows the execution plan of a program (JSON).", "info [OPTIONS] <shared-object> <arguments>"},
    {ACTION_LIST, "list", "lists running and scheduled programs.", "list [OPTIONS]"},
    {ACTION_STOP, "stop", "stops a running program with a savepoint.", "stop [OPTIONS] <Job ID>"},
    {ACTION_CANCEL, "cancel", "cancels a running program.", "cancel [OPTIONS] <Job ID>"},
    {ACTION_SAVEPOINT, "savepoint", "takes a savepoint of a running job, or disposes an existing one.", "savepoint [OPTIONS] <Job ID> [<directory>]"},
    {ACTION_CHECKPOINT, "checkpoint", "takes a checkpoint of a running job.", "checkpoint [OPTIONS] <Job ID>"},
    {ACTION_DIAGNOSE, "diagnose", "says in sentences why nothing comes out of a job; ends with 2 when it finds an error, 0 otherwise.",
     "diagnose [OPTIONS] <Job ID>"},
};

/* The option of this action that a word names, without its dashes. */
static int find_option(enum cli_action_bit action, const char *name, size_t length, bool is_long_only)
{
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        if ((rows[i].actions & (unsigned)action) == 0)
            continue;
        const char *names[] = {is_long_only ? NULL : rows[i].short_name, rows[i].long_name};
        for (size_t n = 0; n < 2; n++) {
            if (names[n] != NULL && strlen(names[n]) == length && memcmp(names[n], name, length) == 0)
                return i;
        }
    }
    return -1;
}

static struct error *add_property(struct cli_command *command, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t length = equals != NULL ? (size_t)(equals - text) : strlen(text);
    if (length == 0)
        return error_new(INVALID_ARGUMENT, "-D needs property=value, not \"%s\".", text);
    char *key = heap_strndup(text, length);
    int status = json_object_set_new(command->properties, key, json_string(equals != NULL ? equals + 1 : "true"));
    free(key);
    return status == 0 ? NULL : error_new(INVALID_ARGUMENT, "The value of -D %s is not UTF-8.", text);
}

/* joined: the value that the word brings along; NULL: the next word may be it. */
static struct error *take_option(struct cli_command *command, int option, const char *joined, int argc, char **argv, int *index)
{
    command->is_given[option] = true;
    if (rows[option].argument == NULL)
        return joined == NULL ? NULL : error_new(INVALID_ARGUMENT, "Unrecognized option: %s", argv[*index]);
    bool is_optional = rows[option].argument[0] == '[';
    if (joined != NULL)
        command->values[option] = joined;
    else if (*index + 1 < argc && (argv[*index + 1][0] != '-' || !is_optional))
        command->values[option] = argv[++*index];
    else if (!is_optional)
        return error_new(INVALID_ARGUMENT, "Missing argument for option: %s",
                         rows[option].short_name != NULL ? rows[option].short_name : rows[option].long_name);
    return NULL;
}

/* "-dp3" is "-d -p 3": flags, and at last one that takes the rest of the word. */
static struct error *take_letters(struct cli_command *command, int argc, char **argv, int *index)
{
    const char *word = argv[*index];
    for (const char *letter = word + 1; *letter != '\0'; letter++) {
        int option = find_option(command->action, letter, 1, false);
        if (option < 0)
            return error_new(INVALID_ARGUMENT, "Unrecognized option: %s", word);
        bool takes_rest = rows[option].argument != NULL && letter[1] != '\0';
        TRY(take_option(command, option, takes_rest ? letter + 1 : NULL, argc, argv, index));
        if (takes_rest)
            break;
    }
    return NULL;
}

/* argv[*index] begins with a dash. */
static struct error *parse_option(struct cli_command *command, int argc, char **argv, int *index)
{
    const char *word = argv[*index];
    if (strncmp(word, "-D", 2) == 0) {
        if (word[2] != '\0')
            return add_property(command, word + 2);
        if (*index + 1 >= argc)
            return error_new(INVALID_ARGUMENT, "Missing argument for option: D");
        return add_property(command, argv[++*index]);
    }
    const char *name = word + (word[1] == '-' ? 2 : 1);
    const char *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    int option = find_option(command->action, name, length, word[1] == '-');
    if (option >= 0)
        return take_option(command, option, equals != NULL ? equals + 1 : NULL, argc, argv, index);
    if (word[1] == '-')
        return error_new(INVALID_ARGUMENT, "Unrecognized option: %s", word);
    return take_letters(command, argc, argv, index);
}

struct error *cli_parse(enum cli_action_bit action, int argc, char **argv, struct cli_command *out)
{
    *out = (struct cli_command){.action = action, .properties = json_object()};
    out->arguments = heap_alloc_array((size_t)argc + 1, sizeof *out->arguments);
    bool has_program = (action & (ACTION_RUN | ACTION_INFO)) != 0;
    for (int i = 0; i < argc; i++) {
        bool is_rest = has_program && out->argument_count > 0;
        if (!is_rest && strcmp(argv[i], "--") == 0)
            continue;
        if (is_rest || argv[i][0] != '-' || argv[i][1] == '\0') {
            out->arguments[out->argument_count++] = argv[i];
            continue;
        }
        struct error *err = parse_option(out, argc, argv, &i);
        if (err != NULL) {
            cli_command_finish(out);
            return err;
        }
    }
    return NULL;
}

void cli_command_finish(struct cli_command *command)
{
    json_decref(command->properties);
    free(command->arguments);
    *command = (struct cli_command){0};
}

/* ---- help ---- */

#define HELP_WIDTH 80

/* text, broken at blanks, each further line indented. */
static void print_wrapped(const char *text, size_t indent)
{
    size_t column = indent;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column > indent && column + 1 + length > HELP_WIDTH) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)length, text);
        column += length;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

static char *option_label(const struct cli_option_row *row)
{
    const char *argument = row->argument != NULL ? row->argument : "";
    const char *left = row->argument == NULL ? "" : row->argument[0] == '[' ? " " : " <";
    const char *right = row->argument == NULL || row->argument[0] == '[' ? "" : ">";
    if (row->short_name == NULL)
        return heap_printf("--%s%s%s%s", row->long_name, left, argument, right);
    return heap_printf("-%s,--%s%s%s%s", row->short_name, row->long_name, left, argument, right);
}

static void print_options(enum cli_action_bit action, bool is_general)
{
    char *labels[CLI_OPTION_COUNT + 1] = {0};
    size_t width = is_general ? strlen("-D <property=value>") : 0;
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        if ((rows[i].actions & (unsigned)action) == 0 || (rows[i].actions == ACTION_ANY) != is_general)
            continue;
        labels[i] = option_label(&rows[i]);
        width = strlen(labels[i]) > width ? strlen(labels[i]) : width;
    }
    if (is_general) {
        printf("     %-*s   ", (int)width, "-D <property=value>");
        print_wrapped("Configuration for this call and, with \"run\", for the job; may be repeated.", width + 8);
    }
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        if (labels[i] == NULL)
            continue;
        printf("     %-*s   ", (int)width, labels[i]);
        print_wrapped(rows[i].help, width + 8);
        free(labels[i]);
    }
}

static void print_action(size_t index)
{
    printf("\nAction \"%s\" %s\n\n  Syntax: %s\n  \"%s\" action options:\n", actions[index].name, actions[index].does, actions[index].syntax,
           actions[index].name);
    print_options(actions[index].action, false);
}

void cli_print_action_help(enum cli_action_bit action)
{
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (actions[i].action == action)
            print_action(i);
    }
    puts("  Options of every action:");
    print_options(action, true);
    putchar('\n');
}

void cli_print_help(void)
{
    puts("./flink <ACTION> [OPTIONS] [ARGUMENTS]\n\nThe following actions are available:");
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        print_action(i);
    puts("\n  Options of every action:");
    print_options(ACTION_ANY, true);
    putchar('\n');
}
