/* Millrace's own web page as a table of files that are part of the program: the .html, .css, .js and .svg of this folder.
 * The table is constant. Thread: any. */
#ifndef MILLRACE_WEB_WEB_PAGE_H
#define MILLRACE_WEB_WEB_PAGE_H

#include "common/http/static_files.h"

/* Where the page is always found, and the policy it is sent with: nothing but its own files and its own jobmanager. */
#define WEB_PAGE_ROOT "/millrace/"
#define WEB_PAGE_POLICY "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

/* For static_files_create_table. */
const struct static_file *web_page_files(size_t *out_count);

#endif
