/* The table of all operators by type name (ops.def). Immutable. Thread: any. */
#include "taskmanager/ops/op.h"

#include <string.h>

#define OPERATOR(vtable) extern const struct op_vtable vtable;
#include "taskmanager/ops/ops.def"
#undef OPERATOR

static const struct op_vtable *const operators[] = {
#define OPERATOR(vtable) &vtable,
#include "taskmanager/ops/ops.def"
#undef OPERATOR
};

const struct op_vtable *op_vtable_find(const char *type)
{
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (strcmp(operators[i]->type, type) == 0)
            return operators[i];
    return NULL;
}
