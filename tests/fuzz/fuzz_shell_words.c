/* Program arguments as one line: splitting ends, and no word is longer than the line. */
#include "common/base/check.h"
#include "common/base/heap.h"
#include "jobmanager/rest/shell_words.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = heap_strndup((const char *)data, size);
    struct word_list words = {0};
    size_t length = 0;
    shell_words_split(line, &words);
    for (size_t i = 0; i < words.count; i++)
        length += strlen(words.items[i]);
    check(length <= strlen(line) && words.count <= strlen(line));
    word_list_finish(&words);
    free(line);
    return 0;
}
