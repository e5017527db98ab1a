/* An uploaded program, before anything of it runs: its ELF tables are read on the jobmanager's loop. */
#include "common/base/check.h"
#include "jobmanager/program_store.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    char path[32];
    bool has_main = false;
    if (fd < 0)
        fd = memfd_create("program", MFD_CLOEXEC);
    check(fd >= 0 && ftruncate(fd, (off_t)size) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct error *err = program_inspect(path, "main", &has_main);
    check(err == NULL || !has_main);
    error_free(err);
    return 0;
}
