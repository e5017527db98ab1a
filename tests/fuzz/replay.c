/* Feeds files to a fuzz target without a fuzzer: each argument is one input. With --prefixes every truncation of an input
 * is fed too. Run under the address and undefined sanitizers. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed(const char *path, int with_prefixes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    uint8_t *data = NULL;
    size_t size = 0;
    for (size_t capacity = 0;;) {
        if (size == capacity) {
            capacity = capacity != 0 ? capacity * 2 : 4096;
            data = realloc(data, capacity);
            if (data == NULL)
                abort();
        }
        size_t n = fread(data + size, 1, capacity - size, file);
        if (n == 0)
            break;
        size += n;
    }
    fclose(file);
    for (size_t length = with_prefixes && size <= 4096 ? 0 : size; length <= size; length++) {
        /* A copy of exactly this length, so that the sanitizer sees a read past its end. */
        uint8_t *exact = malloc(length != 0 ? length : 1);
        if (exact == NULL)
            abort();
        memcpy(exact, data, length);
        LLVMFuzzerTestOneInput(exact, length);
        free(exact);
    }
    free(data);
}

int main(int argc, char **argv)
{
    int with_prefixes = argc > 1 && strcmp(argv[1], "--prefixes") == 0;
    for (int i = 1 + with_prefixes; i < argc; i++)
        feed(argv[i], with_prefixes);
    return EXIT_SUCCESS;
}
