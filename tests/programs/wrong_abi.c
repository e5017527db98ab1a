/* A program that was built for another version of Millrace. */
#include <stdint.h>

extern const uint32_t millrace_abi_version;
const uint32_t millrace_abi_version = 4711;

int main(void)
{
    return 0;
}
