/* The kafka-source operator. Its row in the table of operators: OP(kafka_source_vtable). */
#ifndef MILLRACE_KAFKA_SOURCE_H
#define MILLRACE_KAFKA_SOURCE_H

#include "taskmanager/ops/op.h"

extern const struct op_vtable kafka_source_vtable;

#endif
