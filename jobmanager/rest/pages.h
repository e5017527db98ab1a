/* The web pages that REST serves where no route fits: Millrace's own below /millrace/ and, unless web.ui.dir names the folder of
 * another one (Flink's dashboard), at the root too. Routes win over files. Thread: the jobmanager's loop. */
#ifndef MILLRACE_REST_PAGES_H
#define MILLRACE_REST_PAGES_H

#include "common/config/config.h"
#include "common/http/http_request.h"

struct pages;

/* errors: INVALID_CONFIG naming web.ui.dir when that is no folder */
MUST_CHECK struct error *pages_create(const struct config *config, struct pages **out);
/* Accepts NULL. */
void pages_destroy(struct pages *pages);

/* Answers a GET or HEAD for a file. False: there is none, and nothing has been answered. */
bool pages_reply(const struct pages *pages, struct http_request *request);

#endif
