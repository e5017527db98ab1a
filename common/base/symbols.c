/* Symbol tables of loaded files (symbols.h). Thread: any, one lock around everything. */
#include "common/base/symbols.h"

#include "common/base/heap.h"
#include "common/base/vec.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (512u << 20)

struct symbol {
    uint64_t start; /* relative to the file's base */
    uint64_t bytes;
    char *name;
};

/* One loaded file. */
struct symbol_table {
    char *path;
    uintptr_t base;
    struct symbol *symbols; /* by start */
    size_t count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static VEC(struct symbol_table) tables;

static int compare_symbols(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* What a table of the file points to lies within the file. */
static bool is_within(uint64_t offset, uint64_t bytes, size_t length)
{
    return offset <= length && bytes <= length - offset;
}

static void read_section(struct symbol_table *table, const uint8_t *file, size_t length, const Elf64_Shdr *section, const Elf64_Shdr *strings)
{
    if (!is_within(section->sh_offset, section->sh_size, length) || !is_within(strings->sh_offset, strings->sh_size, length) ||
        strings->sh_size == 0 || file[strings->sh_offset + strings->sh_size - 1] != '\0' || section->sh_offset % sizeof(uint64_t) != 0)
        return;
    size_t count = section->sh_size / sizeof(Elf64_Sym);
    table->symbols = heap_alloc_array(count + 1, sizeof *table->symbols);
    for (size_t i = 0; i < count; i++) {
        Elf64_Sym symbol;
        memcpy(&symbol, file + section->sh_offset + i * sizeof symbol, sizeof symbol);
        if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0 || symbol.st_name >= strings->sh_size)
            continue;
        const char *name = (const char *)file + strings->sh_offset + symbol.st_name;
        table->symbols[table->count++] = (struct symbol){symbol.st_value, symbol.st_size, heap_strdup(name)};
    }
    qsort(table->symbols, table->count, sizeof *table->symbols, compare_symbols);
}

static void read_file(struct symbol_table *table, const uint8_t *file, size_t length)
{
    Elf64_Ehdr header;
    if (length < sizeof header)
        return;
    memcpy(&header, file, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof(Elf64_Shdr) ||
        !is_within(header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr), length))
        return;
    Elf64_Shdr *sections = heap_memdup(file + header.e_shoff, (size_t)header.e_shnum * sizeof *sections + 1);
    static const uint32_t kinds[] = {SHT_SYMTAB, SHT_DYNSYM};
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0] && table->count == 0; kind++) {
        for (size_t i = 0; i < header.e_shnum && table->count == 0; i++) {
            if (sections[i].sh_type == kinds[kind] && sections[i].sh_link < header.e_shnum) {
                free(table->symbols);
                table->symbols = NULL;
                read_section(table, file, length, &sections[i], &sections[sections[i].sh_link]);
            }
        }
    }
    free(sections);
}

static struct symbol_table load(const char *path, uintptr_t base)
{
    struct symbol_table table = {.path = heap_strdup(path), .base = base};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 && (uint64_t)status.st_size < FILE_BYTES_MAX) {
        size_t length = (size_t)status.st_size;
        void *file = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED) {
            read_file(&table, file, length);
            munmap(file, length);
        }
    }
    if (fd >= 0)
        close(fd);
    return table;
}

static const struct symbol_table *table_of(const Dl_info *info)
{
    for (size_t i = 0; i < tables.count; i++) {
        if (tables.items[i].base == (uintptr_t)info->dli_fbase && strcmp(tables.items[i].path, info->dli_fname) == 0)
            return &tables.items[i];
    }
    /* The program itself may be known by a name that was relative to where it was started. */
    struct symbol_table table = load(info->dli_fname, (uintptr_t)info->dli_fbase);
    if (table.count == 0 && strstr(info->dli_fname, ".so") == NULL) {
        struct symbol_table own = load("/proc/self/exe", (uintptr_t)info->dli_fbase);
        free(own.path);
        own.path = table.path;
        table = own;
    }
    vec_push(&tables, table);
    return &tables.items[tables.count - 1];
}

static const struct symbol *find(const struct symbol_table *table, uint64_t offset)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->symbols[middle].start <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    const struct symbol *symbol = low > 0 ? &table->symbols[low - 1] : NULL;
    return symbol != NULL && (symbol->bytes == 0 || offset - symbol->start < symbol->bytes) ? symbol : NULL;
}

void symbols_describe(const void *address, char *out, size_t length)
{
    Dl_info info;
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL) {
        snprintf(out, length, "%p", address);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    const char *file = slash != NULL ? slash + 1 : info.dli_fname;
    pthread_mutex_lock(&lock);
    const struct symbol_table *table = table_of(&info);
    uint64_t offset = (uintptr_t)address - table->base;
    const struct symbol *symbol = find(table, offset);
    if (symbol != NULL)
        snprintf(out, length, "%s (%s)", symbol->name, file);
    else if (info.dli_sname != NULL)
        snprintf(out, length, "%s (%s)", info.dli_sname, file);
    else
        snprintf(out, length, "0x%llx (%s)", (unsigned long long)offset, file);
    pthread_mutex_unlock(&lock);
}
