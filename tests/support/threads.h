/* What tests of threads ask the system about. */
#ifndef PS_TESTS_THREADS_H
#define PS_TESTS_THREADS_H

#include <stdbool.h>
#include <stddef.h>

/* Threads that this process has now. */
int threads_of_process(void);

/* False if it does not have n threads within five seconds: the system still counts one that was
 * joined until it has tidied it up. */
bool threads_become(int n);

/* Address space in use, and what the stack of one more thread takes of it. */
size_t threads_address_space_bytes(void);
size_t threads_stack_bytes(void);

/* False where a limit on address space would break the program itself (sanitizers). */
bool threads_can_be_refused(void);

/* Makes the calling thread treat denormal numbers as zero, where the processor can. */
void threads_flush_denormals(void);

#endif
