/* Files of web pages as HTTP answers (pages.h). Thread: the jobmanager's loop. Owner: the REST server. */
#include "jobmanager/rest/pages.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"
#include "common/http/static_files.h"
#include "jobmanager/web/web_page.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct pages {
    struct static_files *own;
    struct static_files *dashboard; /* NULL: our own page is at the root */
};

struct error *pages_create(const struct config *config, struct pages **out)
{
    struct pages *pages = heap_new(struct pages);
    const char *directory = config_text(config, OPTION_WEB_UI_DIR);
    if (directory[0] != '\0') {
        struct error *err = static_files_create_directory(directory, &pages->dashboard);
        if (err != NULL) {
            free(pages);
            struct error *wrapped = error_wrap(err, "web.ui.dir names no folder that can be served: %s", directory);
            wrapped->code = ERR_INVALID_CONFIG;
            return wrapped;
        }
    }
    size_t count;
    const struct static_file *files = web_page_files(&count);
    pages->own = static_files_create_table(files, count, 0);
    *out = pages;
    return NULL;
}

void pages_destroy(struct pages *pages)
{
    if (pages == NULL)
        return;
    static_files_destroy(pages->own);
    static_files_destroy(pages->dashboard);
    free(pages);
}

/* A folder without its last slash: relative, so that it also holds behind a proxy's prefix. What a path decodes to may be
 * anything, a line break too: only plain characters go into the header as they are. */
static void redirect_to_folder(struct http_request *request)
{
    const char *slash = strrchr(request->path, '/');
    struct str_buf location = {0};
    for (const char *c = slash != NULL ? slash + 1 : request->path; *c != '\0'; c++) {
        if (isalnum((unsigned char)*c) || strchr("-._~", *c) != NULL)
            str_buf_append_char(&location, *c);
        else
            str_buf_printf(&location, "%%%02X", (unsigned char)*c);
    }
    str_buf_append_char(&location, '/');
    http_request_set_header(request, "Location", str_buf_text(&location));
    str_buf_finish(&location);
    http_reply_static(request, 301, NULL, "", 0);
}

/* Our own files are asked for anew each time (most answers are 304): after an upgrade no module of the old page meets one of the new. */
static void reply_file(struct http_request *request, const struct static_files_answer *answer, bool is_own)
{
    http_request_set_header(request, "ETag", answer->etag);
    if (answer->last_modified[0] != '\0')
        http_request_set_header(request, "Last-Modified", answer->last_modified);
    if (answer->cache_control != NULL)
        http_request_set_header(request, "Cache-Control", is_own ? "no-cache" : answer->cache_control);
    http_request_set_header(request, "X-Content-Type-Options", "nosniff");
    if (answer->status == 304)
        http_reply_static(request, 304, NULL, "", 0);
    else if (answer->fd >= 0)
        http_reply_fd(request, answer->content_type, answer->fd, answer->length);
    else
        http_reply_static(request, 200, answer->content_type, answer->bytes, (size_t)answer->length);
}

bool pages_reply(const struct pages *pages, struct http_request *request)
{
    size_t root_length = strlen(WEB_PAGE_ROOT) - 1; /* without the last slash */
    bool is_below = strncmp(request->path, WEB_PAGE_ROOT, root_length) == 0;
    if (is_below && request->path[root_length] == '\0') {
        redirect_to_folder(request);
        return true;
    }
    is_below = is_below && request->path[root_length] == '/';
    bool is_own = is_below || pages->dashboard == NULL;
    struct static_files_answer answer = static_files_find(is_own ? pages->own : pages->dashboard,
                                                          is_below ? request->path + root_length : request->path,
                                                          http_request_header(request, "If-None-Match"),
                                                          http_request_header(request, "If-Modified-Since"));
    if (answer.status == 404)
        return false;
    if (is_own)
        http_request_set_header(request, "Content-Security-Policy", WEB_PAGE_POLICY);
    if (answer.status == 301)
        redirect_to_folder(request);
    else
        reply_file(request, &answer, is_own);
    return true;
}
