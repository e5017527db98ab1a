/* Opening a job's shared object and finding functions in it. Everything that a wrong upload can get wrong ends here, with
 * a message for the person who wrote the program. Owner: the task runner. */
#include "taskmanager/task/user_library.h"

#include "common/base/heap.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct user_library {
    void *handle;
    char *path;
    const char *name; /* last component of path */
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

#if defined(__x86_64__)
#define ELF_MACHINE_HERE EM_X86_64
#elif defined(__aarch64__)
#define ELF_MACHINE_HERE EM_AARCH64
#else
#define ELF_MACHINE_HERE EM_NONE
#endif

static struct error *not_an_object(const char *path, const char *what)
{
    return error_with_hint(error_new(INVALID_PROGRAM, "%s is not %s", base_name(path), what), "build it with cc -shared -fPIC");
}

/* The dynamic linker maps what the program headers say and dies of SIGBUS when the file is shorter than that. */
static struct error *check_segments(const char *path, int fd, const Elf64_Ehdr *header)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return error_errno(errno, "could not read library %s", path);
    uint64_t size = (uint64_t)info.st_size;
    bool has_dynamic = false;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        uint64_t at = header->e_phoff + i * sizeof segment;
        if (at > INT64_MAX || pread(fd, &segment, sizeof segment, (off_t)at) != (ssize_t)sizeof segment)
            return not_an_object(path, "a whole ELF shared object: its program headers are cut off");
        if (segment.p_type == PT_DYNAMIC)
            has_dynamic = true;
        if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC)
            continue;
        if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
            return not_an_object(path, "a whole ELF shared object: it is cut short");
    }
    return has_dynamic ? NULL : not_an_object(path, "an ELF shared object: it has no dynamic section");
}

/* The dynamic linker's own words for these cases ("invalid ELF header") name no remedy, and it accepts executables in
 * some versions. */
static struct error *check_elf_header(const char *path, int fd)
{
    Elf64_Ehdr header;
    ssize_t got = pread(fd, &header, sizeof header, 0);
    if (got < (ssize_t)sizeof header || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return not_an_object(path, "an ELF shared object");
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_type != ET_DYN || header.e_phentsize != sizeof(Elf64_Phdr))
        return not_an_object(path, "a 64-bit ELF shared object");
    if (ELF_MACHINE_HERE != EM_NONE && header.e_machine != ELF_MACHINE_HERE)
        return error_with_hint(error_new(INVALID_PROGRAM, "%s is built for another processor (ELF machine %u)", base_name(path),
                                         (unsigned)header.e_machine),
                               "build it on the kind of machine that the cluster runs on");
    return check_segments(path, fd, &header);
}

static struct error *check_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(errno, "could not open library %s", path);
    struct error *err = check_elf_header(path, fd);
    close(fd);
    return err;
}

static struct error *check_abi_version(void *handle, const char *name)
{
    const uint32_t *version = dlsym(handle, "millrace_abi_version");
    if (version == NULL)
        return error_with_hint(error_new(INVALID_PROGRAM, "%s is not a Millrace program: it has no symbol millrace_abi_version", name),
                               "include <millrace/function.h> and do not hide its symbols");
    if (*version != MR_ABI_VERSION)
        return error_with_hint(error_new(INVALID_PROGRAM, "%s has ABI version %" PRIu32 ", this cluster has %d", name, *version, MR_ABI_VERSION),
                               "rebuild it with the headers of this version");
    return NULL;
}

/* Takes handle. */
static struct error *adopt_handle(void *handle, const char *path, struct user_library **out)
{
    struct error *err = check_abi_version(handle, base_name(path));
    if (err != NULL) {
        dlclose(handle);
        return err;
    }
    struct user_library *library = heap_new(struct user_library);
    library->handle = handle;
    library->path = heap_strdup(path);
    library->name = base_name(library->path);
    *out = library;
    return NULL;
}

struct error *user_library_open(const char *path, struct user_library **out)
{
    TRY(check_file(path));
    /* A path without a slash would be searched for in the system's library folders. */
    char *full = realpath(path, NULL);
    if (full == NULL)
        return error_errno(errno, "could not resolve library %s", path);
    void *handle = dlopen(full, RTLD_NOW | RTLD_LOCAL);
    free(full);
    if (handle == NULL)
        return error_with_hint(error_new(INVALID_PROGRAM, "could not load %s: %s", base_name(path), dlerror()),
                               "link everything it needs into it, or install it on every taskmanager");
    return adopt_handle(handle, path, out);
}

struct error *user_library_open_program(struct user_library **out)
{
    void *handle = dlopen(NULL, RTLD_NOW);
    if (handle == NULL)
        return error_new(INTERNAL, "could not open the running program: %s", dlerror());
    return adopt_handle(handle, "(this program)", out);
}

void user_library_close(struct user_library *library)
{
    if (library == NULL)
        return;
    dlclose(library->handle);
    free(library->path);
    free(library);
}

const char *mr_function_kind_name(enum mr_function_kind kind)
{
    static const char *const names[] = {
        [MR_FUNCTION_MAP] = "map",
        [MR_FUNCTION_FLAT_MAP] = "flat map",
        [MR_FUNCTION_FILTER] = "filter",
        [MR_FUNCTION_PROCESS] = "process",
        [MR_FUNCTION_CO_PROCESS] = "co-process",
        [MR_FUNCTION_AGGREGATE] = "aggregate",
        [MR_FUNCTION_REDUCE] = "reduce",
        [MR_FUNCTION_WINDOW] = "window",
        [MR_FUNCTION_WINDOW_RESULT] = "window result",
        [MR_FUNCTION_TIMESTAMP] = "timestamp assigner",
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

struct error *user_library_function(const struct user_library *library, const char *symbol, enum mr_function_kind kind,
                                    const struct mr_function **out)
{
    if (library == NULL)
        return error_new(INVALID_PROGRAM, "function %s is needed, but the job has no library", symbol);
    const struct mr_function *function = dlsym(library->handle, symbol);
    if (function == NULL)
        return error_with_hint(error_new(INVALID_PROGRAM, "library %s has no function %s", library->name, symbol),
                               "define it with one of the MR_… macros and do not hide it from the dynamic symbol table");
    if (function->kind != kind)
        return error_with_hint(error_new(INVALID_PROGRAM, "function %s of library %s is a %s function, not a %s function", symbol,
                                         library->name, mr_function_kind_name(function->kind), mr_function_kind_name(kind)),
                               "define it with the macro of the operator that uses it");
    if (function->input == NULL || function->name == NULL)
        return error_new(INVALID_PROGRAM, "function %s of library %s has no input record type", symbol, library->name);
    *out = function;
    return NULL;
}
