/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of frames and checkpoint files. */
#ifndef MILLRACE_BASE_CRC32C_H
#define MILLRACE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Pass 0 to start, the previous result to go on. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t length);

#endif
