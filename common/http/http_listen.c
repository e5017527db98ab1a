/* Where a server listens, and how libmicrohttpd is started on it (http_server.h). Thread: the loop's. */
#include "common/http/http_private.h"

#include "common/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTION_MEMORY_BYTES (64u << 10)
/* Room for connections that are being closed for newer ones. */
#define CONNECTIONS_SPARE 64

__attribute__((format(printf, 2, 0))) static void on_daemon_log(void *context, const char *format, va_list args)
{
    (void)context;
    char line[512];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    log_debug(HTTP_LOGGER, "%s", line);
}

static struct error *listen_on(const struct http_server_options *options, int *out_fd, uint16_t *out_port)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;
    socklen_t length = sizeof *v4;
    const char *address = options->bind_address != NULL && options->bind_address[0] != '\0' ? options->bind_address : "0.0.0.0";
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(options->port);
    } else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(options->port);
        length = sizeof *v6;
    } else {
        return error_new(INVALID_CONFIG, "the bind address of %s is no numeric address: %s", options->name, address);
    }
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(errno, "could not create a socket for %s", options->name);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&storage, length) != 0 || listen(fd, 4096) != 0) {
        struct error *err = error_errno(errno, "could not listen on %s:%u for %s", address, options->port, options->name);
        close(fd);
        return err;
    }
    length = sizeof storage;
    getsockname(fd, (struct sockaddr *)&storage, &length);
    *out_port = ntohs(storage.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
    *out_fd = fd;
    return NULL;
}

/* Half of the descriptors at most: the others are for files and for the cluster's own connections. */
static uint32_t affordable_connections(uint32_t wanted)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / 2 < wanted)
        return (uint32_t)(files.rlim_cur / 2);
    return wanted;
}

/* Ends with the row of MHD_OPTION_END. */
static void tls_options(const struct http_tls *tls, struct MHD_OptionItem items[6])
{
    size_t count = 0;
    if (tls != NULL) {
        items[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, tls->certificates};
        items[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, tls->key};
        items[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
        if (tls->key_password != NULL)
            items[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_KEY_PASSWORD, 0, tls->key_password};
        if (tls->requires_client)
            items[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, tls->authorities};
    }
    items[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

struct error *http_listen(struct http_server *server, MHD_AccessHandlerCallback on_access,
                          void *(*on_request_line)(void *, const char *, struct MHD_Connection *), MHD_RequestCompletedCallback on_completed)
{
    const struct http_server_options *options = &server->options;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[6];
    int fd = -1;
    TRY(listen_on(options, &fd, &server->port));
    tls_options(options->tls, tls);
    server->options.limits.connections_max = affordable_connections(options->limits.connections_max);
    server->daemon = MHD_start_daemon(
        options->tls != NULL ? flags | MHD_USE_TLS : flags, 0, NULL, NULL, on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_daemon_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify, server, MHD_OPTION_CONNECTION_LIMIT,
        server->options.limits.connections_max + CONNECTIONS_SPARE, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (server->daemon != NULL)
        return NULL;
    close(fd);
    return error_new(INTERNAL, "could not start the server of %s", options->name);
}
