/* The Prometheus endpoint of a daemon: GET /metrics (and /, as Flink's) on a port of its own.
 *   metrics.reporters                     names of reporters; the endpoint is on when one of them is `prom`, or has Flink's
 *                                         PrometheusReporter(Factory) as its class. Default: prom. Empty: off
 *   metrics.reporter.prom.factory.class   (or .class) another class than that: off
 *   metrics.reporter.prom.port            "9249", "9249-9260", "9249,9300-9310", 0 for any: the first free one is taken
 *   metrics.reporter.prom.filterLabelValueCharacters
 * When the port was not configured and 9249 is taken, the next ones are tried, so that several daemons share a host. A daemon whose ports
 * are all taken runs on without the endpoint and says so: metrics are no reason to stand still.
 * Thread: the loop's. Owner: the daemon. */
#ifndef MILLRACE_METRICS_PROMETHEUS_REPORTER_H
#define MILLRACE_METRICS_PROMETHEUS_REPORTER_H

#include "common/config/config.h"
#include "common/http/http_server.h"
#include "common/metrics/prometheus.h"

struct prometheus_reporter;

struct prometheus_reporter_options {
    const struct config *config;
    const char *bind_host; /* "" is every address */
    /* Called for each scrape: adds everything that there is now. labels: without any, to be copied for each subject. */
    void (*collect)(void *context, struct prometheus *out, const struct prometheus_labels *labels);
    void *context;
};

/* NULL when it is off or no port is free. */
struct prometheus_reporter *prometheus_reporter_create(uv_loop_t *loop, const struct prometheus_reporter_options *options);
uint16_t prometheus_reporter_port(const struct prometheus_reporter *reporter);
/* The loop must run on until its handles are closed. Accepts NULL. */
void prometheus_reporter_destroy(struct prometheus_reporter *reporter);

/* ---- for tests ---- */

#define PROMETHEUS_RANGES_MAX 16

struct prometheus_ports {
    struct prometheus_port_range {
        uint16_t first, last;
    } ranges[PROMETHEUS_RANGES_MAX];
    size_t count;
};

/* errors: INVALID_CONFIG */
MUST_CHECK struct error *prometheus_ports_parse(const char *text, struct prometheus_ports *out);

#endif
