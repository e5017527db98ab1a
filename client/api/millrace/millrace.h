/* Everything that a streaming program needs: #include <millrace/millrace.h> and link with -lmillrace. */
#ifndef MILLRACE_MILLRACE_H
#define MILLRACE_MILLRACE_H

#include "millrace/environment.h"
#include "millrace/function.h"
#include "millrace/params.h"
#include "millrace/record.h"
#include "millrace/sink.h"
#include "millrace/source.h"
#include "millrace/stream.h"
#include "millrace/window.h"

#endif
