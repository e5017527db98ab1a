/* Configuration, port and answers of the Prometheus endpoint (prometheus_reporter.h). */
#include "common/metrics/prometheus_reporter.h"

#include "common/base/heap.h"
#include "common/base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LOGGER "PrometheusReporter"
#define DEFAULT_NAME "prom"
#define DEFAULT_PORT_LAST 9299
#define CONNECTIONS_MAX 64

struct prometheus_reporter {
    struct prometheus_reporter_options options;
    struct http_server *server;
    bool keeps_values;
};

/* ---- configuration ---- */

/* One reporter of metrics.reporters. */
struct reporter_keys {
    char *name;
};

/* NULL when it is not set. Names but prom have no rows among the options: their keys are read as they were written. */
static const char *value_of(const struct config *config, const struct reporter_keys *keys, enum option option, const char *suffix)
{
    if (strcmp(keys->name, DEFAULT_NAME) == 0)
        return config_is_set(config, option) ? config_text(config, option) : NULL;
    char *key = heap_printf("metrics.reporter.%s.%s", keys->name, suffix);
    const char *value = config_raw(config, key);
    free(key);
    return value;
}

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), ending_length = strlen(ending);
    return length >= ending_length && strcmp(text + length - ending_length, ending) == 0;
}

static const char *class_of(const struct config *config, const struct reporter_keys *keys)
{
    const char *class = value_of(config, keys, OPTION_PROM_FACTORY_CLASS, "factory.class");
    return class != NULL ? class : value_of(config, keys, OPTION_PROM_FACTORY_CLASS, "class");
}

static bool is_ours(const struct config *config, const struct reporter_keys *keys)
{
    const char *class = class_of(config, keys);
    if (class == NULL)
        return strcmp(keys->name, DEFAULT_NAME) == 0;
    return ends_with(class, ".PrometheusReporterFactory") || ends_with(class, ".PrometheusReporter");
}

/* The first of metrics.reporters that is a Prometheus reporter; false when there is none. */
static bool find_reporter(const struct config *config, struct reporter_keys *out)
{
    const char *list = config_text(config, OPTION_METRICS_REPORTERS);
    while (*list != '\0') {
        size_t blanks = strspn(list, " ,;");
        size_t length = strcspn(list + blanks, " ,;");
        struct reporter_keys keys = {heap_strndup(list + blanks, length)};
        if (length > 0 && is_ours(config, &keys)) {
            *out = keys;
            return true;
        }
        if (length > 0)
            log_warn(LOGGER, "The metrics reporter %s of %s is left out: there is only Flink's PrometheusReporter, and its class is %s.", keys.name,
                     option_key(OPTION_METRICS_REPORTERS), class_of(config, &keys) != NULL ? class_of(config, &keys) : "not set");
        free(keys.name);
        list += blanks + length;
    }
    return false;
}

struct error *prometheus_ports_parse(const char *text, struct prometheus_ports *out)
{
    struct prometheus_ports ports = {0};
    for (const char *at = text;;) {
        char *end;
        long first = strtol(at, &end, 10);
        long last = first;
        bool is_good = end != at;
        if (is_good && *end == '-') {
            const char *second = end + 1;
            last = strtol(second, &end, 10);
            is_good = end != second;
        }
        end += strspn(end, " ");
        if (!is_good || first < 0 || last < first || last > 65535 || (*end != '\0' && *end != ',') || ports.count == PROMETHEUS_RANGES_MAX)
            return error_new(INVALID_CONFIG, "%s is \"%s\", expected ports and ranges such as 9249-9260 or 9249,9300", option_key(OPTION_PROM_PORT),
                             text);
        ports.ranges[ports.count++] = (struct prometheus_port_range){(uint16_t)first, (uint16_t)last};
        if (*end == '\0')
            break;
        at = end + 1;
    }
    *out = ports;
    return NULL;
}

/* ---- answers ---- */

static void on_request(void *context, struct http_request *request)
{
    struct prometheus_reporter *reporter = context;
    if (strcmp(request->path, "/metrics") != 0 && strcmp(request->path, "/") != 0) {
        http_reply_error(request, 404, "Not found: %s; metrics are at /metrics.", request->path);
        return;
    }
    if (request->method != HTTP_GET && request->method != HTTP_HEAD) {
        http_reply_error(request, 405, "/metrics can only be read (GET).");
        return;
    }
    struct prometheus *prometheus = prometheus_create();
    struct prometheus_labels labels = {.keeps_values = reporter->keeps_values};
    size_t length;
    reporter->options.collect(reporter->options.context, prometheus, &labels);
    char *text = prometheus_text(prometheus, &length);
    prometheus_labels_finish(&labels);
    prometheus_destroy(prometheus);
    http_reply_take(request, 200, PROMETHEUS_CONTENT_TYPE, text, length);
}

static const struct http_handler handler = {.on_request = on_request};

/* ---- start and stop ---- */

static const char *numeric_host(const char *host)
{
    return strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
}

static struct error *listen_on(struct prometheus_reporter *reporter, uv_loop_t *loop, uint16_t port)
{
    struct http_server_options options = {
        .name = "the Prometheus endpoint (metrics.reporter.prom.port)",
        .bind_address = numeric_host(reporter->options.bind_host),
        .port = port,
        .limits = http_limits_default(),
        .handler = &handler,
        .context = reporter,
    };
    options.limits.connections_max = CONNECTIONS_MAX;
    options.limits.body_bytes_max = 4096;
    return http_server_create(loop, &options, &reporter->server);
}

/* The first free port. */
static struct error *listen_on_any(struct prometheus_reporter *reporter, uv_loop_t *loop, const struct prometheus_ports *ports)
{
    struct error *err = NULL;
    for (size_t i = 0; i < ports->count; i++)
        for (uint32_t port = ports->ranges[i].first; port <= ports->ranges[i].last; port++) {
            error_free(err);
            err = listen_on(reporter, loop, (uint16_t)port);
            if (err == NULL || err->code == ERR_INVALID_CONFIG)
                return err;
        }
    return err;
}

static struct error *start(struct prometheus_reporter *reporter, uv_loop_t *loop, const struct reporter_keys *keys)
{
    const struct config *config = reporter->options.config;
    const char *configured = value_of(config, keys, OPTION_PROM_PORT, "port");
    const char *filter = value_of(config, keys, OPTION_PROM_FILTER_LABELS, "filterLabelValueCharacters");
    struct prometheus_ports ports;
    reporter->keeps_values = filter != NULL && strcasecmp(filter, "false") == 0;
    TRY(prometheus_ports_parse(configured != NULL ? configured : config_text(config, OPTION_PROM_PORT), &ports));
    uint16_t wanted = ports.ranges[0].first;
    if (configured == NULL)
        ports.ranges[0].last = DEFAULT_PORT_LAST;
    TRY(listen_on_any(reporter, loop, &ports));
    uint16_t port = http_server_port(reporter->server);
    log_info(LOGGER, "Started PrometheusReporter HTTP server on port %u.", port);
    if (configured == NULL && port != wanted)
        log_info(LOGGER, "Port %u was taken. A fixed port for this daemon: metrics.reporter.%s.port.", wanted, keys->name);
    return NULL;
}

struct prometheus_reporter *prometheus_reporter_create(uv_loop_t *loop, const struct prometheus_reporter_options *options)
{
    struct reporter_keys keys;
    if (!find_reporter(options->config, &keys)) {
        log_info(LOGGER, "No Prometheus endpoint: %s does not name one.", option_key(OPTION_METRICS_REPORTERS));
        return NULL;
    }
    struct prometheus_reporter *reporter = heap_new(struct prometheus_reporter);
    reporter->options = *options;
    struct error *err = start(reporter, loop, &keys);
    if (err != NULL) {
        log_error_chain(LOG_WARN, LOGGER, err, "There is no Prometheus endpoint; everything else runs on.");
        error_free(err);
        free(reporter);
        reporter = NULL;
    }
    free(keys.name);
    return reporter;
}

uint16_t prometheus_reporter_port(const struct prometheus_reporter *reporter)
{
    return http_server_port(reporter->server);
}

void prometheus_reporter_destroy(struct prometheus_reporter *reporter)
{
    if (reporter == NULL)
        return;
    http_server_destroy(reporter->server);
    free(reporter);
}
