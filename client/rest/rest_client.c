/* REST calls over one kept-alive connection: see rest_client.h. */
#include "client/rest/rest_client.h"

#include "common/base/heap.h"
#include "common/base/str_buf.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ANSWER_BYTES_MAX (64u << 20)

struct rest_client {
    CURL *curl;
    char *base; /* "http://127.0.0.1:8081/v1" */
    char *address;
    uint32_t retry_count;
    int64_t retry_delay_ms;
    struct str_buf answer;
};

static bool is_numeric_host(const char *host)
{
    return strspn(host, "0123456789.") == strlen(host) || strchr(host, ':') != NULL;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *user)
{
    struct rest_client *client = user;
    if (client->answer.length + size * count > ANSWER_BYTES_MAX)
        return 0;
    str_buf_append_bytes(&client->answer, bytes, size * count);
    return size * count;
}

struct error *rest_client_create(const struct rest_client_options *options, struct rest_client **out)
{
    /* Plain HTTP only: setting up TLS would cost more than the call. */
    if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
        return error_new(INTERNAL, "could not initialise libcurl");
    struct rest_client *client = heap_new(struct rest_client);
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        free(client);
        return error_new(OUT_OF_MEMORY, "could not create a libcurl handle");
    }
    /* Without this a look-up would start a thread and try IPv6 first. */
    const char *host = strcmp(options->host, "localhost") == 0 ? "127.0.0.1" : options->host;
    bool is_ipv6 = strchr(host, ':') != NULL && host[0] != '[';
    client->base = heap_printf(is_ipv6 ? "http://[%s]:%u/v1" : "http://%s:%u/v1", host, options->port);
    client->address = is_numeric_host(options->host) ? heap_printf("/%s:%u", host, options->port)
                                                     : heap_printf(host == options->host ? "%s:%u" : "%s/127.0.0.1:%u", options->host, options->port);
    client->retry_count = options->retry_count;
    client->retry_delay_ms = options->retry_delay_ms;
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(client->curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(client->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, (long)options->call_timeout_ms);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, client);
    *out = client;
    return NULL;
}

void rest_client_destroy(struct rest_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    curl_global_cleanup();
    free(client->base);
    free(client->address);
    str_buf_finish(&client->answer);
    free(client);
}

static bool is_noise(const char *line, size_t length)
{
    static const char *const begins[] = {"\tat ", "\t... ", "<Exception on server side:", "End of exception on server side>"};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        if (length >= strlen(begins[i]) && memcmp(line, begins[i], strlen(begins[i])) == 0)
            return true;
    }
    return length == 0;
}

char *rest_strip_frames(const char *text)
{
    struct str_buf out = {0};
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        if (!is_noise(text, length)) {
            if (out.length > 0)
                str_buf_append_char(&out, '\n');
            str_buf_append_bytes(&out, text, length);
        }
        text += length + (text[length] == '\n');
    }
    return str_buf_detach(&out);
}

/* {"errors": ["…", …]}; Flink puts "Internal server error." before the reason. */
static char *errors_text(const json_t *answer)
{
    struct str_buf text = {0};
    const json_t *errors = json_object_get(answer, "errors");
    for (size_t i = 0; i < json_array_size(errors); i++) {
        const char *item = json_string_value(json_array_get(errors, i));
        if (item == NULL || (strcmp(item, "Internal server error.") == 0 && json_array_size(errors) > 1))
            continue;
        char *stripped = rest_strip_frames(item);
        if (text.length > 0)
            str_buf_append_char(&text, '\n');
        str_buf_append(&text, stripped);
        free(stripped);
    }
    return str_buf_detach(&text);
}

static struct error *http_error(long status, const json_t *answer)
{
    char *text = errors_text(answer);
    enum error_code code = status == 404 ? ERR_NOT_FOUND : status == 409 ? ERR_CONFLICT : status < 500 ? ERR_INVALID_ARGUMENT : ERR_INTERNAL;
    struct error *err = text[0] != '\0' ? error_create(code, __FILE__, __LINE__, "%s", text)
                                        : error_create(code, __FILE__, __LINE__, "the server answered with HTTP status %ld", status);
    free(text);
    return err;
}

static struct error *network_error(const struct rest_client *client, CURLcode code)
{
    if (code == CURLE_COULDNT_CONNECT)
        return error_new(NETWORK, "Connection refused: %s", client->address);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return error_new(TIMEOUT, "no answer in time from %s", client->address);
    return error_new(NETWORK, "%s: %s", curl_easy_strerror(code), client->address);
}

/* Nothing was sent when the connection was refused, so any call may be tried again. */
static CURLcode perform(struct rest_client *client)
{
    CURLcode code = CURLE_OK;
    for (uint32_t attempt = 0; attempt <= client->retry_count; attempt++) {
        if (attempt > 0)
            nanosleep(&(struct timespec){client->retry_delay_ms / 1000, client->retry_delay_ms % 1000 * 1000000}, NULL);
        str_buf_clear(&client->answer);
        code = curl_easy_perform(client->curl);
        if (code != CURLE_COULDNT_CONNECT)
            break;
    }
    return code;
}

static struct error *exchange(struct rest_client *client, const char *path, json_t **out)
{
    char *url = heap_printf("%s%s", client->base, path);
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    CURLcode code = perform(client);
    free(url);
    if (code != CURLE_OK)
        return network_error(client, code);
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *answer = json_loadb(str_buf_text(&client->answer), client->answer.length, 0, NULL);
    struct error *err = NULL;
    if (status >= 400)
        err = http_error(status, answer);
    else if (answer == NULL)
        err = error_new(PROTOCOL, "%s answered %s with something that is no JSON: is this a jobmanager?", client->address, path);
    if (err == NULL && out != NULL)
        *out = json_incref(answer);
    json_decref(answer);
    return err;
}

struct error *rest_call(struct rest_client *client, const char *method, const char *path, const json_t *body, json_t **out)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json; charset=UTF-8");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_MIMEPOST, NULL);
    if (text != NULL) {
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, text);
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
    } else {
        curl_easy_setopt(client->curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    struct error *err = exchange(client, path, out);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    free(text);
    return err;
}

struct error *rest_upload(struct rest_client *client, const char *path, const char *file, json_t **out)
{
    curl_mime *form = curl_mime_init(client->curl);
    curl_mimepart *part = curl_mime_addpart(form);
    curl_mime_name(part, "jarfile");
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    struct error *err = NULL;
    if (curl_mime_filedata(part, file) != CURLE_OK) {
        err = error_new(IO, "could not read %s", file);
    } else {
        curl_mime_type(part, "application/x-java-archive");
        curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, NULL);
        curl_easy_setopt(client->curl, CURLOPT_MIMEPOST, form);
        err = exchange(client, path, out);
        curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(client->curl, CURLOPT_MIMEPOST, NULL);
    }
    curl_slist_free_all(headers);
    curl_mime_free(form);
    return err;
}
