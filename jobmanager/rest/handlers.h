/* The handlers of routes.def, one for each row: handle_<name>(jobmanager, request). Each lives in the handler_*.c of its
 * noun, runs on the loop thread and answers by the rules of rest_request.h. */
#ifndef MILLRACE_REST_HANDLERS_H
#define MILLRACE_REST_HANDLERS_H

#include "jobmanager/jobmanager.h"
#include "jobmanager/rest/rest_request.h"

#define ROUTE(method, path, handler, doc) void handle_##handler(struct jobmanager *jobmanager, struct rest_request *request);
#define UPLOAD(path)
#include "jobmanager/rest/routes.def"
#undef ROUTE
#undef UPLOAD

#endif
