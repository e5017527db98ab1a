/* Uploads, blobs, and a look into ELF files without running them (program_store.h). Thread: the loop. */
#include "jobmanager/program_store.h"

#include "common/base/heap.h"
#include "common/base/id.h"
#include "common/fs/fs.h"
#include "common/loop/worker.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Far more than programs have; a file that claims to have more must not keep the loop busy. */
#define SYMBOLS_MAX (256u << 10)

struct blob_hold {
    uint32_t count;
};

/* ---- ELF ---- */

struct elf_view {
    const uint8_t *bytes;
    size_t length;
};

static const void *elf_at(const struct elf_view *view, uint64_t offset, uint64_t length)
{
    if (offset > view->length || length > view->length - offset)
        return NULL;
    return view->bytes + offset;
}

static bool elf_name_is(const struct elf_view *view, const Elf64_Shdr *strings, uint32_t name, const char *wanted)
{
    size_t length = strlen(wanted) + 1;
    if (name >= strings->sh_size || length > strings->sh_size - name)
        return false;
    const void *text = elf_at(view, strings->sh_offset + name, length);
    return text != NULL && memcmp(text, wanted, length) == 0;
}

static bool elf_section_defines(const struct elf_view *view, const Elf64_Shdr *symbols, const Elf64_Shdr *strings, const char *wanted)
{
    uint64_t count = symbols->sh_size / sizeof(Elf64_Sym);
    for (uint64_t i = 0; i < count && i < SYMBOLS_MAX; i++) {
        Elf64_Sym symbol;
        const void *raw = elf_at(view, symbols->sh_offset + i * sizeof symbol, sizeof symbol);
        if (raw == NULL)
            return false;
        memcpy(&symbol, raw, sizeof symbol);
        if (symbol.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && elf_name_is(view, strings, symbol.st_name, wanted))
            return true;
    }
    return false;
}

static bool elf_section(const struct elf_view *view, const Elf64_Ehdr *header, uint64_t index, Elf64_Shdr *out)
{
    if (index >= header->e_shnum || header->e_shentsize != sizeof *out)
        return false;
    const void *raw = elf_at(view, header->e_shoff + index * sizeof *out, sizeof *out);
    if (raw == NULL)
        return false;
    memcpy(out, raw, sizeof *out);
    return true;
}

/* In the first table of dynamic symbols: the dynamic loader knows only one. */
static bool elf_defines(const struct elf_view *view, const Elf64_Ehdr *header, const char *symbol)
{
    for (uint64_t i = 0; i < header->e_shnum; i++) {
        Elf64_Shdr symbols, strings;
        if (elf_section(view, header, i, &symbols) && symbols.sh_type == SHT_DYNSYM)
            return elf_section(view, header, symbols.sh_link, &strings) && elf_section_defines(view, &symbols, &strings, symbol);
    }
    return false;
}

static struct error *elf_inspect(const struct elf_view *view, const char *symbol, bool *has_symbol)
{
    Elf64_Ehdr header;
    const void *raw = elf_at(view, 0, sizeof header);
    if (view->length >= 2 && memcmp(view->bytes, "PK", 2) == 0)
        return error_with_hint(error_new(INVALID_PROGRAM, "the file is a Java archive, not a Millrace program"),
                               "a Millrace program is a shared object: gcc -shared -fPIC");
    if (raw == NULL || memcmp(raw, ELFMAG, SELFMAG) != 0)
        return error_with_hint(error_new(INVALID_PROGRAM, "the file is no shared object (no ELF header)"),
                               "a Millrace program is a shared object: gcc -shared -fPIC");
    memcpy(&header, raw, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return error_new(INVALID_PROGRAM, "the shared object is for another kind of machine");
    if (header.e_type != ET_DYN)
        return error_new(INVALID_PROGRAM, "the file is an ELF file but no shared object (type %u)", header.e_type);
    *has_symbol = elf_defines(view, &header, symbol);
    return NULL;
}

struct error *program_inspect(const char *path, const char *symbol, bool *has_symbol)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(errno, "could not open %s", path);
    struct stat status;
    if (fstat(fd, &status) != 0 || status.st_size == 0) {
        close(fd);
        return error_new(INVALID_PROGRAM, "the file is empty");
    }
    size_t length = (size_t)status.st_size;
    void *bytes = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        return error_errno(errno, "could not map %s", path);
    struct elf_view view = {bytes, length};
    struct error *err = elf_inspect(&view, symbol, has_symbol);
    munmap(bytes, length);
    return err;
}

/* ---- uploads ---- */

struct error *program_store_create(const char *upload_directory, const char *blob_directory, struct program_store **out)
{
    TRY(fs_make_directories(upload_directory));
    TRY(fs_make_directories(blob_directory));
    struct program_store *store = heap_new(struct program_store);
    store->upload_directory = heap_strdup(upload_directory);
    store->blob_directory = heap_strdup(blob_directory);
    *out = store;
    return NULL;
}

static void program_destroy(struct program *program)
{
    free(program->id);
    free(program->name);
    free(program->path);
    free(program->sha256);
    free(program->description);
    free(program);
}

void program_store_destroy(struct program_store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < store->programs.count; i++)
        program_destroy(store->programs.items[i]);
    vec_finish(&store->programs);
    for (size_t i = 0; i < store->blobs.count; i++)
        free(store->blobs.entries[i].value);
    hash_map_finish(&store->blobs);
    free(store->upload_directory);
    free(store->blob_directory);
    free(store);
}

static char *uuid_text(void)
{
    struct id_text hex = id_format(id_random());
    return heap_printf("%.8s-%.4s-%.4s-%.4s-%.12s", hex.hex, hex.hex + 8, hex.hex + 12, hex.hex + 16, hex.hex + 20);
}

struct error *program_store_add(struct program_store *store, const char *path, const char *name, const char *sha256, uint64_t size_bytes,
                                int64_t now_ms, struct program **out)
{
    char *uuid = uuid_text();
    struct program *program = heap_new(struct program);
    program->id = heap_printf("%s_%s", uuid, name);
    program->name = heap_strdup(name);
    program->path = heap_printf("%s/%s", store->upload_directory, program->id);
    program->sha256 = heap_strdup(sha256);
    program->size_bytes = size_bytes;
    program->uploaded_ms = now_ms;
    free(uuid);
    if (rename(path, program->path) != 0) {
        struct error *err = error_errno(errno, "could not move the upload to %s", program->path);
        program_destroy(program);
        return err;
    }
    /* As Flink, an upload that is no program is accepted and fails when it is run. */
    struct error *err = program_inspect(program->path, "main", &program->has_main);
    error_free(err);
    vec_push(&store->programs, program);
    *out = program;
    return NULL;
}

struct program *program_store_find(const struct program_store *store, const char *id)
{
    for (size_t i = 0; i < store->programs.count; i++) {
        if (strcmp(store->programs.items[i]->id, id) == 0)
            return store->programs.items[i];
    }
    return NULL;
}

struct error *program_store_remove(struct program_store *store, const char *id)
{
    for (size_t i = 0; i < store->programs.count; i++) {
        struct program *program = store->programs.items[i];
        if (strcmp(program->id, id) != 0)
            continue;
        if (unlink(program->path) != 0 && errno != ENOENT)
            return error_errno(errno, "could not delete %s", program->path);
        vec_remove(&store->programs, i);
        program_destroy(program);
        return NULL;
    }
    return error_new(NOT_FOUND, "File %s does not exist in %s.", id, store->upload_directory);
}

/* ---- blobs ---- */

static char *blob_path(const struct program_store *store, const char *sha256)
{
    return heap_printf("%s/%s", store->blob_directory, sha256);
}

struct hold_work {
    char *from;
    char *to;
    program_held *done;
    void *argument;
};

static struct error *hold_work(void *argument)
{
    const struct hold_work *work = argument;
    return fs_link_or_copy(work->from, work->to);
}

static void on_held(struct error *err, void *argument)
{
    struct hold_work *work = argument;
    work->done(err, work->argument);
    free(work->from);
    free(work->to);
    free(work);
}

/* The count goes first, so that nobody's release takes the file away before it is there; linking again does no harm. */
void program_store_hold(struct program_store *store, uv_loop_t *loop, const struct program *program, program_held *done, void *argument)
{
    struct blob_hold *hold = hash_map_get_text(&store->blobs, program->sha256);
    if (hold == NULL) {
        hold = heap_new(struct blob_hold);
        hash_map_put_text(&store->blobs, program->sha256, hold);
    }
    hold->count++;
    struct hold_work *work = heap_new(struct hold_work);
    *work = (struct hold_work){heap_strdup(program->path), blob_path(store, program->sha256), done, argument};
    worker_run(loop, hold_work, on_held, work);
}

void program_store_release(struct program_store *store, const char *sha256)
{
    struct blob_hold *hold = hash_map_get_text(&store->blobs, sha256);
    if (hold == NULL || --hold->count > 0)
        return;
    char *path = blob_path(store, sha256);
    unlink(path);
    free(path);
    free(hash_map_remove(&store->blobs, sha256, strlen(sha256)));
}

char *program_store_blob_path(const struct program_store *store, const char *sha256)
{
    return hash_map_get_text(&store->blobs, sha256) != NULL ? blob_path(store, sha256) : NULL;
}
