/* TLS and tokens between the HTTP server and the REST client: PEM and PKCS#12 stores, trust in both directions, and what users read
 * when a side is set up wrongly. The certificates are made by openssl for each run. */
#include "client/rest/rest_client.h"
#include "common/base/heap.h"
#include "common/base/log.h"
#include "common/fs/fs.h"
#include "common/http/http_server.h"
#include "common/http/http_tls.h"
#include "common/http/http_token.h"
#include "common/loop/loop.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[] = "/tmp/test-tls-XXXXXX";

/* ---- certificates ---- */

static const char make_certificates[] =
    "set -e\n"
    "new() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout $1.key -out $1.pem "
    "-subj /CN=$1 -addext subjectAltName=$2; }\n"
    "new server IP:127.0.0.1,DNS:localhost\n"
    "new other DNS:elsewhere\n"
    "new client DNS:client\n"
    "openssl pkcs12 -export -in server.pem -inkey server.key -out server.p12 -passout pass:secret\n"
    "openssl pkcs12 -export -nokeys -in server.pem -out trust.p12 -passout pass:secret\n"
    "openssl pkcs12 -export -in client.pem -inkey client.key -out client.p12 -passout pass:secret\n"
    "openssl ec -in server.key -aes128 -passout pass:secret -out locked.key\n"
    "cat server.pem server.key > both.pem\n"
    "printf '\\376\\355\\376\\355 java' > store.jks\n"
    "printf ' the-token\\n' > token\n"
    "printf ' \\n' > empty-token\n";

static void make_files(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    char *command = heap_printf("cd %s && { %s } >openssl.log 2>&1", directory, make_certificates);
    int status = system(command);
    ck_assert_msg(status == 0, "openssl failed: see %s/openssl.log", directory);
    free(command);
}

static void delete_files(void)
{
    error_free(fs_remove_tree(directory));
}

/* In a ring, so that a few may be used at once. */
static const char *in_directory(const char *name)
{
    static char paths[32][128];
    static unsigned next;
    char *path = paths[next++ % 32];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

/* ---- a server, and a call from another thread ---- */

struct fixture {
    uv_loop_t loop;
    struct http_tls *tls;
    struct http_server *server;
};

static void on_request(void *context, struct http_request *request)
{
    (void)context;
    char *text = heap_printf("{\"header\": \"%s\"}", http_request_header(request, "X-Test") != NULL ? http_request_header(request, "X-Test") : "");
    http_reply_take(request, 200, "application/json", text, strlen(text));
}

static const struct http_handler handler = {.on_request = on_request};

static void start(struct fixture *fixture, const struct http_tls_options *tls, const char *token)
{
    memset(fixture, 0, sizeof *fixture);
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&fixture->loop);
    loop_own(&fixture->loop);
    if (tls != NULL) {
        struct error *err = http_tls_create(tls, &fixture->tls);
        ck_assert_msg(err == NULL, "%s", err != NULL ? error_text(err) : "");
    }
    struct http_server_options options = {
        .name = "test", .bind_address = "127.0.0.1", .limits = http_limits_default(), .token = token, .tls = fixture->tls, .handler = &handler};
    struct error *err = http_server_create(&fixture->loop, &options, &fixture->server);
    ck_assert_ptr_null(err);
}

static void stop(struct fixture *fixture)
{
    http_server_destroy(fixture->server);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&fixture->loop), 0);
    http_tls_destroy(fixture->tls);
}

struct call {
    struct rest_client_options options;
    const char *upload; /* a file; NULL: GET */
    json_t *answer;
    struct error *err;
    atomic_bool is_done;
};

static void *call_run(void *argument)
{
    struct call *call = argument;
    struct rest_client *client = NULL;
    call->err = rest_client_create(&call->options, &client);
    if (call->err == NULL)
        call->err = call->upload != NULL ? rest_upload(client, "/jars/upload", call->upload, &call->answer)
                                         : rest_call(client, "GET", "/jobs", NULL, &call->answer);
    rest_client_destroy(client);
    atomic_store(&call->is_done, true);
    return NULL;
}

/* NULL when the answer came; else the error's text, which the caller frees. */
static char *ask(struct fixture *fixture, const char *host, const struct rest_client_tls *tls, const char *token, const char *upload)
{
    struct call call = {.options = {.host = host,
                                    .port = http_server_port(fixture->server),
                                    .connect_timeout_ms = 20000,
                                    .call_timeout_ms = 20000,
                                    .token = token,
                                    .tls = tls},
                        .upload = upload};
    pthread_t thread;
    atomic_init(&call.is_done, false);
    ck_assert_int_eq(pthread_create(&thread, NULL, call_run, &call), 0);
    for (; !atomic_load(&call.is_done); usleep(200))
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    pthread_join(thread, NULL);
    char *text = call.err != NULL ? error_text(call.err) : NULL;
    ck_assert(call.err != NULL || call.answer != NULL);
    json_decref(call.answer);
    error_free(call.err);
    return text;
}

static void expect(struct fixture *fixture, const char *host, const struct rest_client_tls *tls, const char *token, const char *text)
{
    char *err = ask(fixture, host, tls, token, NULL);
    if (text == NULL)
        ck_assert_msg(err == NULL, "%s", err != NULL ? err : "");
    else
        ck_assert_msg(err != NULL && strstr(err, text) != NULL, "%s is not in %s", text, err != NULL ? err : "success");
    free(err);
}

/* ---- tests ---- */

START_TEST(stores_may_be_pem_or_pkcs12)
{
    const struct http_tls_options servers[] = {
        {.certificate = in_directory("server.pem"), .key = in_directory("server.key")},
        {.keystore = in_directory("both.pem")},
        {.keystore = in_directory("server.p12"), .keystore_password = "secret"},
        {.certificate = in_directory("server.pem"), .key = in_directory("locked.key"), .key_password = "secret"},
    };
    for (size_t i = 0; i < sizeof servers / sizeof servers[0]; i++) {
        struct rest_client_tls pem = {.truststore = in_directory("server.pem"), .verifies_host = true};
        struct rest_client_tls pkcs12 = {.truststore = in_directory("trust.p12"), .truststore_password = "secret", .verifies_host = true};
        struct fixture fixture;
        start(&fixture, &servers[i], NULL);
        expect(&fixture, "127.0.0.1", &pem, NULL, NULL);
        expect(&fixture, "localhost", &pkcs12, NULL, NULL);
        stop(&fixture);
    }
}
END_TEST

START_TEST(distrust_is_explained)
{
    struct http_tls_options server = {.keystore = in_directory("both.pem")};
    struct http_tls_options stranger = {.certificate = in_directory("other.pem"), .key = in_directory("other.key")};
    struct rest_client_tls trust = {.truststore = in_directory("server.pem"), .verifies_host = true};
    struct rest_client_tls trust_other = {.truststore = in_directory("other.pem"), .verifies_host = true};
    struct rest_client_tls careless = {.truststore = in_directory("other.pem")};
    struct rest_client_tls bad_password = {.truststore = in_directory("trust.p12"), .truststore_password = "wrong"};
    struct rest_client_tls jks = {.truststore = in_directory("store.jks")};
    struct rest_client_tls nothing = {.truststore = in_directory("server.key")};
    struct fixture fixture;
    start(&fixture, &server, NULL);
    expect(&fixture, "127.0.0.1", &trust_other, NULL, "security.ssl.rest.truststore names whom to trust");
    expect(&fixture, "127.0.0.1", NULL, NULL, "does the server expect TLS");
    expect(&fixture, "127.0.0.1", &bad_password, NULL, "could not be opened with the given password");
    expect(&fixture, "127.0.0.1", &jks, NULL, "keytool -importkeystore");
    expect(&fixture, "127.0.0.1", &nothing, NULL, "holds no certificate");
    stop(&fixture);
    start(&fixture, &stranger, NULL);
    expect(&fixture, "127.0.0.1", &trust_other, NULL, "is not trusted");
    expect(&fixture, "127.0.0.1", &careless, NULL, NULL);
    stop(&fixture);
    start(&fixture, NULL, NULL);
    expect(&fixture, "127.0.0.1", &trust, NULL, "is security.ssl.rest.enabled the same on both sides?");
    stop(&fixture);
}
END_TEST

START_TEST(clients_show_their_certificates)
{
    struct http_tls_options server = {.keystore = in_directory("both.pem"), .truststore = in_directory("client.pem"), .requires_client = true};
    struct rest_client_tls pkcs12 = {.truststore = in_directory("server.pem"), .keystore = in_directory("client.p12"), .keystore_password = "secret"};
    struct rest_client_tls pem = {
        .truststore = in_directory("server.pem"), .certificate = in_directory("client.pem"), .key = in_directory("client.key")};
    struct rest_client_tls other = {
        .truststore = in_directory("server.pem"), .certificate = in_directory("other.pem"), .key = in_directory("other.key")};
    struct rest_client_tls none = {.truststore = in_directory("server.pem")};
    struct fixture fixture;
    start(&fixture, &server, NULL);
    expect(&fixture, "127.0.0.1", &pkcs12, NULL, NULL);
    expect(&fixture, "127.0.0.1", &pem, NULL, NULL);
    expect(&fixture, "127.0.0.1", &other, NULL, "asks for a client certificate that it trusts");
    expect(&fixture, "127.0.0.1", &none, NULL, "asks for a client certificate that it trusts");
    stop(&fixture);
}
END_TEST

START_TEST(tokens_go_with_every_call)
{
    struct http_tls_options server = {.keystore = in_directory("both.pem")};
    struct rest_client_tls trust = {.truststore = in_directory("server.pem"), .verifies_host = true};
    struct fixture fixture;
    char *token;
    ck_assert_ptr_null(http_token_load(in_directory("token"), &token));
    ck_assert_str_eq(token, "the-token");
    start(&fixture, &server, token);
    expect(&fixture, "127.0.0.1", &trust, token, NULL);
    expect(&fixture, "127.0.0.1", &trust, NULL, "set security.rest.token-file");
    expect(&fixture, "127.0.0.1", &trust, "another", "the bearer token is wrong");
    /* Flink's way to add headers. */
    setenv("FLINK_REST_CLIENT_HEADERS", "X-Test: yes\nskipped\nAuthorization: Bearer the-token", 1);
    expect(&fixture, "127.0.0.1", &trust, NULL, NULL);
    unsetenv("FLINK_REST_CLIENT_HEADERS");
    stop(&fixture);
    free(token);
}
END_TEST

START_TEST(large_bodies_are_refused_over_tls_too)
{
    struct http_tls_options server = {.keystore = in_directory("both.pem")};
    struct rest_client_tls trust = {.truststore = in_directory("server.pem"), .verifies_host = true};
    struct fixture fixture;
    const char *path = in_directory("large");
    char *bytes = heap_alloc(8u << 20);
    ck_assert_ptr_null(fs_write_atomic(path, bytes, 8u << 20));
    free(bytes);
    start(&fixture, &server, NULL);
    char *err = ask(&fixture, "127.0.0.1", &trust, NULL, path);
    ck_assert_msg(err != NULL && strstr(err, "larger than the limit") != NULL, "%s", err != NULL ? err : "success");
    free(err);
    stop(&fixture);
}
END_TEST

static void expect_refused(const struct http_tls_options *options, const char *text)
{
    struct http_tls *tls = NULL;
    struct error *err = http_tls_create(options, &tls);
    ck_assert_ptr_nonnull(err);
    char *message = error_text(err);
    ck_assert_msg(strstr(message, text) != NULL, "%s is not in %s", text, message);
    free(message);
    error_free(err);
}

START_TEST(mistakes_show_at_the_start)
{
    const struct {
        struct http_tls_options options;
        const char *text;
    } rows[] = {
        {{0}, "set security.ssl.rest.keystore"},
        {{.keystore = "/no/such/file"}, "/no/such/file"},
        {{.keystore = in_directory("server.p12"), .keystore_password = "wrong"}, "the password of the store"},
        {{.keystore = in_directory("trust.p12"), .keystore_password = "secret"}, "holds no private key"},
        {{.keystore = in_directory("store.jks")}, "keytool -importkeystore"},
        {{.keystore = in_directory("token")}, "neither PEM nor PKCS#12"},
        {{.keystore = in_directory("server.pem")}, "could not use the certificate and private key"},
        {{.certificate = in_directory("server.pem"), .key = in_directory("client.key")}, "could not use the certificate and private key"},
        {{.keystore = in_directory("both.pem"), .requires_client = true}, "set security.ssl.rest.truststore"},
        {{.keystore = in_directory("both.pem"), .truststore = in_directory("server.key")}, "holds no certificate"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_refused(&rows[i].options, rows[i].text);
    char *token = NULL;
    struct error *err = http_token_load(in_directory("empty-token"), &token);
    ck_assert_ptr_nonnull(err);
    ck_assert_ptr_nonnull(strstr(err->message, "is empty"));
    error_free(err);
    err = http_token_load("/no/such/token", &token);
    ck_assert_ptr_nonnull(err);
    error_free(err);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("http_tls");
    TCase *tcase = tcase_create("http_tls");
    tcase_add_unchecked_fixture(tcase, make_files, delete_files);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, stores_may_be_pem_or_pkcs12);
    tcase_add_test(tcase, distrust_is_explained);
    tcase_add_test(tcase, clients_show_their_certificates);
    tcase_add_test(tcase, tokens_go_with_every_call);
    tcase_add_test(tcase, large_bodies_are_refused_over_tls_too);
    tcase_add_test(tcase, mistakes_show_at_the_start);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    log_set_level(LOG_WARN);
    return run_suite(suite());
}
