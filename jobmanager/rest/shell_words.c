/* Splitting of argument lines (shell_words.h). */
#include "jobmanager/rest/shell_words.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Appends one word and returns where it ends. line stands on its first character. */
static const char *take_word(const char *line, struct str_buf *word)
{
    char quote = '\0';
    for (; *line != '\0' && (quote != '\0' || !is_blank(*line)); line++) {
        if (quote == '\0' && (*line == '\'' || *line == '"'))
            quote = *line;
        else if (*line == quote)
            quote = '\0';
        else if (*line == '\\' && quote != '\'' && line[1] != '\0')
            str_buf_append_char(word, *++line);
        else
            str_buf_append_char(word, *line);
    }
    return line;
}

void shell_words_split(const char *line, struct word_list *out)
{
    for (;;) {
        while (is_blank(*line))
            line++;
        if (*line == '\0')
            return;
        struct str_buf word = {0};
        line = take_word(line, &word);
        char *text = str_buf_detach(&word);
        vec_push(out, text);
    }
}

void word_list_finish(struct word_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    vec_finish(list);
}
