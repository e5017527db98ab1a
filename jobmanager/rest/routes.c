/* Finds the handler of a request in routes.def. Pure but for the answer 404. Thread: the jobmanager's loop. */
#include "common/base/heap.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/pages.h"
#include "jobmanager/rest/rest_server.h"

#include <string.h>

struct route {
    enum http_method method;
    const char *path;
    void (*handler)(struct jobmanager *jobmanager, struct rest_request *request);
};

static const struct route routes[] = {
#define UPLOAD(path)
#define ROUTE(method, path, handler, doc) {HTTP_##method, path, handle_##handler},
#include "jobmanager/rest/routes.def"
#undef ROUTE
#undef UPLOAD
};

/* "/v1/jobs/" is the same as "/jobs"; "/v1/" alone and "/v2/…" are nothing. */
static const char *strip_version(const char *url)
{
    return strncmp(url, "/v1/", 4) == 0 && url[4] != '\0' ? url + 3 : url;
}

/* Length of the segment at text, which stands behind a slash. */
static size_t segment_length(const char *text)
{
    return strcspn(text, "/");
}

/* Compares segment by segment; fills parameters when params is not NULL. */
static bool path_matches(const char *pattern, const char *url, struct rest_request *request)
{
    while (*pattern == '/' && *url == '/') {
        pattern++;
        url++;
        size_t pattern_length = segment_length(pattern);
        size_t url_length = segment_length(url);
        if (pattern[0] == ':') {
            if (url_length == 0)
                return false;
            if (request != NULL) {
                struct rest_param *param = &request->path_params[request->path_param_count++];
                param->name = heap_strndup(pattern + 1, pattern_length - 1);
                param->value = heap_strndup(url, url_length);
            }
        } else if (pattern_length != url_length || memcmp(pattern, url, url_length) != 0) {
            return false;
        }
        pattern += pattern_length;
        url += url_length;
    }
    return *pattern == '\0' && (*url == '\0' || strcmp(url, "/") == 0);
}

/* As in Flink, a cluster that takes no programs has no routes for them. */
static bool is_off(const struct config *config, const char *url)
{
    bool is_program = strncmp(url, "/jars", 5) == 0 && (url[5] == '/' || url[5] == '\0');
    return is_program && !config_bool(config, OPTION_WEB_SUBMIT_ENABLE);
}

bool rest_route_exists(const struct jobmanager *jobmanager, const char *path)
{
    const char *url = strip_version(path);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (path_matches(routes[i].path, url, NULL))
            return !is_off(jobmanager->config, url);
    }
    return false;
}

bool rest_route_takes_upload(const struct jobmanager *jobmanager, enum http_method method, const char *path)
{
    const char *url = strip_version(path);
    static const char *const uploads[] = {
#define UPLOAD(path) path,
#define ROUTE(method, path, handler, doc)
#include "jobmanager/rest/routes.def"
#undef ROUTE
#undef UPLOAD
    };
    for (size_t i = 0; i < sizeof uploads / sizeof uploads[0]; i++) {
        if (method == HTTP_POST && path_matches(uploads[i], url, NULL))
            return !is_off(jobmanager->config, url);
    }
    return false;
}

void rest_dispatch(struct jobmanager *jobmanager, struct rest_request *request)
{
    const char *url = strip_version(request->url);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0] && !is_off(jobmanager->config, url); i++) {
        if (routes[i].method == request->method && path_matches(routes[i].path, url, NULL)) {
            path_matches(routes[i].path, url, request);
            routes[i].handler(jobmanager, request);
            return;
        }
    }
    /* An unknown GET path is a file of a page. */
    if (request->method == HTTP_GET && pages_reply(jobmanager->pages, request->http))
        return;
    if (request->method == HTTP_GET)
        rest_reply_error(request, 404, "Unable to load requested file %s.", strcmp(request->url, "/") == 0 ? "/index.html" : request->url);
    else
        rest_reply_error(request, 404, "Not found: %s", request->url);
}
