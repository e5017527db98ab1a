/* The page's files, laid into the program by the assembler as they are on disk (web_page.h). mk/web.mk says what this object
 * depends on. No state. Thread: any. */
#include "jobmanager/web/web_page.h"

/* The path is relative to where the compiler runs: the root of the source tree. */
#define WEB_FILE(symbol, name)                                            \
    __asm__(".section .rodata\n"                                          \
            ".balign 16\n"                                                \
            "millrace_web_" #symbol ":\n"                                 \
            ".incbin \"jobmanager/web/" name "\"\n"                       \
            "millrace_web_" #symbol "_end:\n"                             \
            ".byte 0\n"                                                   \
            ".globl millrace_web_" #symbol ", millrace_web_" #symbol "_end\n" \
            ".previous\n");                                               \
    extern const char millrace_web_##symbol[], millrace_web_##symbol##_end[];
#include "jobmanager/web/web_files.def"
#undef WEB_FILE

#define WEB_FILE(symbol, name) +1
enum { FILE_COUNT = 0
#include "jobmanager/web/web_files.def"
};
#undef WEB_FILE

const struct static_file *web_page_files(size_t *out_count)
{
    /* Lengths are differences of two symbols, which only the linker knows: filled in here, each time the same. */
    static struct static_file files[FILE_COUNT];
    size_t count = 0;
#define WEB_FILE(symbol, name)                                                                                    \
    files[count++] = (struct static_file){name, NULL, millrace_web_##symbol,                                      \
                                          (size_t)((uintptr_t)millrace_web_##symbol##_end - (uintptr_t)millrace_web_##symbol)};
#include "jobmanager/web/web_files.def"
#undef WEB_FILE
    *out_count = count;
    return files;
}
