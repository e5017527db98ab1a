/* A TCP relay on the loop: listens on a port of its own, connects each comer to the target and passes bytes both ways, until it
 * is cut: then everything stays open and silent. For tests of lost networks. Thread: the loop's. */
#ifndef MILLRACE_SUPPORT_MINI_RELAY_H
#define MILLRACE_SUPPORT_MINI_RELAY_H

#include "common/base/error.h"

#include <stdint.h>
#include <uv.h>

struct mini_relay;

/* Both ends are 127.0.0.1. errors: NETWORK */
MUST_CHECK struct error *mini_relay_create(uv_loop_t *loop, uint16_t target_port, struct mini_relay **out);
uint16_t mini_relay_port(const struct mini_relay *relay);
void mini_relay_cut(struct mini_relay *relay);
/* Closes what was cut, and passes new connections again. */
void mini_relay_heal(struct mini_relay *relay);
/* Closes all connections, as they are. */
void mini_relay_reset(struct mini_relay *relay);
/* Closes everything; frees itself from the loop. Accepts NULL. */
void mini_relay_close(struct mini_relay *relay);

#endif
