/* The JSON decoder on arbitrary bytes (fuzz_decoder.h). */
#include "taskmanager/formats/format.h"
#include "tests/fuzz/fuzz_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_decoder("json", data, size);
    return 0;
}
