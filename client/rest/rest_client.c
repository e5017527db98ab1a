/* REST calls over one kept-alive connection: see rest_client.h. */
#include "client/rest/rest_client.h"

#include "client/rest/truststore.h"
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
    struct curl_slist *headers; /* of every call */
    struct str_buf answer;
    bool has_tls;
    char reason[CURL_ERROR_SIZE];
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

static bool is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static void add_header_take(struct rest_client *client, char *line)
{
    client->headers = curl_slist_append(client->headers, line);
    free(line);
}

/* Lines without a colon are skipped, as by Flink's client. */
static void add_headers_of_environment(struct rest_client *client)
{
    const char *text = getenv("FLINK_REST_CLIENT_HEADERS");
    for (; text != NULL && *text != '\0'; text += text[0] == '\n') {
        size_t length = strcspn(text, "\n");
        if (memchr(text, ':', length) != NULL)
            add_header_take(client, heap_strndup(text, length));
        text += length;
    }
}

static struct error *use_tls(struct rest_client *client, const struct rest_client_tls *tls)
{
    CURL *curl = client->curl;
    bool has_store = is_given(tls->keystore);
    if (is_given(tls->truststore)) {
        char *pem;
        TRY(truststore_load(tls->truststore, tls->truststore_password, &pem));
        struct curl_blob blob = {pem, strlen(pem), CURL_BLOB_COPY};
        curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &blob);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
        free(pem);
    }
    if (has_store || is_given(tls->certificate)) {
        bool is_pem = true;
        if (has_store)
            TRY(truststore_is_pem(tls->keystore, &is_pem));
        curl_easy_setopt(curl, CURLOPT_SSLCERT, has_store ? tls->keystore : tls->certificate);
        curl_easy_setopt(curl, CURLOPT_SSLCERTTYPE, is_pem ? "PEM" : "P12");
        curl_easy_setopt(curl, CURLOPT_SSLKEY, has_store ? tls->keystore : tls->key);
        curl_easy_setopt(curl, CURLOPT_SSLKEYTYPE, is_pem ? "PEM" : "P12");
        const char *password = is_pem ? tls->key_password : tls->keystore_password;
        if (is_given(password))
            curl_easy_setopt(curl, CURLOPT_KEYPASSWD, password);
    }
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, tls->verifies_host ? 2L : 0L);
    client->has_tls = true;
    return NULL;
}

static void set_base(struct rest_client *client, const struct rest_client_options *options)
{
    /* Without this a look-up would start a thread and try IPv6 first; but certificates name the host as it is called. */
    bool is_local = strcmp(options->host, "localhost") == 0 && options->tls == NULL;
    const char *host = is_local ? "127.0.0.1" : options->host;
    const char *scheme = options->tls != NULL ? "https" : "http";
    bool is_ipv6 = strchr(host, ':') != NULL && host[0] != '[';
    client->base = heap_printf(is_ipv6 ? "%s://[%s]:%u/v1" : "%s://%s:%u/v1", scheme, host, options->port);
    client->address = is_numeric_host(options->host) ? heap_printf("/%s:%u", host, options->port)
                      : is_local                     ? heap_printf("%s/127.0.0.1:%u", options->host, options->port)
                                                     : heap_printf("%s:%u", host, options->port);
}

struct error *rest_client_create(const struct rest_client_options *options, struct rest_client **out)
{
    /* Setting up TLS would cost more than the call, where it is not needed. */
    if (curl_global_init(options->tls != NULL ? CURL_GLOBAL_SSL : CURL_GLOBAL_NOTHING) != CURLE_OK)
        return error_new(INTERNAL, "could not initialise libcurl");
    struct rest_client *client = heap_new(struct rest_client);
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        free(client);
        return error_new(OUT_OF_MEMORY, "could not create a libcurl handle");
    }
    set_base(client, options);
    client->retry_count = options->retry_count;
    client->retry_delay_ms = options->retry_delay_ms;
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(client->curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(client->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, (long)options->call_timeout_ms);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, client);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, client->reason);
    if (options->token != NULL)
        add_header_take(client, heap_printf("Authorization: Bearer %s", options->token));
    add_headers_of_environment(client);
    struct error *err = options->tls != NULL ? use_tls(client, options->tls) : NULL;
    if (err != NULL) {
        rest_client_destroy(client);
        return err;
    }
    *out = client;
    return NULL;
}

void rest_client_destroy(struct rest_client *client)
{
    if (client == NULL)
        return;
    curl_slist_free_all(client->headers);
    curl_easy_cleanup(client->curl);
    curl_global_cleanup();
    free(client->base);
    free(client->address);
    str_buf_finish(&client->answer);
    free(client);
}

char *rest_escape(const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = heap_strdup(escaped != NULL ? escaped : text);
    curl_free(escaped);
    return copy;
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
    enum error_code code = status == 401 || status == 403 ? ERR_UNAUTHORIZED
                           : status == 404                ? ERR_NOT_FOUND
                           : status == 409                ? ERR_CONFLICT
                           : status < 500                 ? ERR_INVALID_ARGUMENT
                                                          : ERR_INTERNAL;
    struct error *err = text[0] != '\0' ? error_create(code, __FILE__, __LINE__, "%s", text)
                                        : error_create(code, __FILE__, __LINE__, "the server answered with HTTP status %ld", status);
    free(text);
    return status == 401 ? error_with_hint(err, "set security.rest.token-file to a file with the cluster's token") : err;
}

/* Two sides that do not agree about TLS, or do not trust each other. */
static struct error *tls_error(const struct rest_client *client, CURLcode code)
{
    const char *reason = client->reason[0] != '\0' ? client->reason : curl_easy_strerror(code);
    switch ((int)code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        return error_with_hint(error_new(UNAUTHORIZED, "the certificate of %s is not trusted: %s", client->address, reason),
                               "security.ssl.rest.truststore names whom to trust");
    case CURLE_SSL_CERTPROBLEM:
        return error_with_hint(error_new(UNAUTHORIZED, "the client's own certificate cannot be used: %s", reason),
                               "look at security.ssl.rest.keystore and its password");
    case CURLE_SSL_CONNECT_ERROR:
        return error_with_hint(error_new(UNAUTHORIZED, "no TLS connection to %s: %s", client->address, reason),
                               "is security.ssl.rest.enabled the same on both sides?");
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return client->has_tls ? NULL
                               : error_with_hint(error_new(NETWORK, "%s: %s", reason, client->address),
                                                 "does the server expect TLS (security.ssl.rest.enabled)?");
    default:
        return NULL;
    }
}

static struct error *network_error(const struct rest_client *client, CURLcode code)
{
    if (code == CURLE_COULDNT_CONNECT)
        return error_new(NETWORK, "Connection refused: %s", client->address);
    struct error *err = tls_error(client, code);
    if (err != NULL)
        return err;
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
        client->reason[0] = '\0';
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

/* Those of every call, and those of this one; the caller frees the list. */
static struct curl_slist *headers_with(const struct rest_client *client, const char *line)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (line != NULL)
        headers = curl_slist_append(headers, line);
    for (const struct curl_slist *at = client->headers; at != NULL; at = at->next)
        headers = curl_slist_append(headers, at->data);
    return headers;
}

struct error *rest_call(struct rest_client *client, const char *method, const char *path, const json_t *body, json_t **out)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct curl_slist *headers = headers_with(client, "Content-Type: application/json; charset=UTF-8");
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
    struct curl_slist *headers = headers_with(client, NULL);
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
