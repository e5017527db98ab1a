/* Splits a line of arguments as a shell does: blanks separate, '…' and "…" hold together, a backslash takes the next
 * character as it is (not inside '…'). Nothing is expanded. Thread: any. */
#ifndef MILLRACE_REST_SHELL_WORDS_H
#define MILLRACE_REST_SHELL_WORDS_H

#include "common/base/vec.h"

struct word_list {
    char **items;
    size_t count;
    size_t capacity;
};

/* Appends to out; the words are malloced. An unclosed quote ends with the line. */
void shell_words_split(const char *line, struct word_list *out);
void word_list_finish(struct word_list *list);

#endif
