/* Makes the Nth allocation of the extension module fail.

   Built into a shared library and preloaded by tests/test_scarce_memory.py. Counted are
   allocations of a certain size and more that are asked for by code within a range of
   addresses; everything else is passed on untouched. glibc only. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_long calls, failing;
static atomic_ulong from, to, least;

/* Fail allocation number n, and all after it if lasting; n = 0 for none. */
static atomic_int lasts;
void kvae_scarce(long n, int lasting, uintptr_t start, uintptr_t end, size_t bytes) {
    atomic_store(&failing, 0);
    atomic_store(&calls, 0);
    atomic_store(&lasts, lasting);
    atomic_store(&from, start);
    atomic_store(&to, end);
    atomic_store(&least, bytes);
    atomic_store(&failing, n);
}

long kvae_asked(void) { return atomic_load(&calls); }

static int fails(void *caller, size_t size) {
    uintptr_t at = (uintptr_t)caller;
    if (at < atomic_load(&from) || at >= atomic_load(&to) || size < atomic_load(&least)) return 0;
    long n = atomic_fetch_add(&calls, 1) + 1, failing_one = atomic_load(&failing);
    if (!failing_one || n < failing_one || (n > failing_one && !atomic_load(&lasts))) return 0;
    errno = ENOMEM;
    return 1;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size) { return fails(CALLER, size) ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) {
    return fails(CALLER, count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    return fails(CALLER, size) ? NULL : __libc_realloc(memory, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (fails(CALLER, size)) return ENOMEM;
    void *found = __libc_memalign(alignment, size);
    if (!found) return ENOMEM;
    *memory = found;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t size) {
    return fails(CALLER, size) ? NULL : __libc_memalign(alignment, size);
}
