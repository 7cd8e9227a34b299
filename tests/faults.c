/* Makes the Nth system call on files below a folder fail.

   Built into a shared library and preloaded by tests/faults.py. Counted are calls that
   open, read, write, cut, map, flush and rename what is below the folder that
   KVAE_FAULTS names; everything else is passed on untouched. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls, failing, hits;
static atomic_int code, kinds, is_short;
static char last[64];

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, RENAME = 16, MAP = 32, TRUNCATE = 64, MKDIR = 128 };

/* Fail call number n of these kinds with this errno; n = 0 for none. */
void kvae_arm(long n, int error, int which, int shorten) {
    atomic_store(&calls, 0);
    atomic_store(&hits, 0);
    atomic_store(&code, error);
    atomic_store(&kinds, which);
    atomic_store(&is_short, shorten);
    atomic_store(&failing, n);
    last[0] = 0;
}

long kvae_calls(void) { return atomic_load(&calls); }
long kvae_hits(void) { return atomic_load(&hits); }
const char *kvae_last(void) { return last; }

static int below(const char *path) {
    static const char *folder;
    if (!folder) folder = getenv("KVAE_FAULTS");
    char whole[8192];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, 4096)) return 0;
        strcat(whole, "/");
        strncat(whole, path, 4000);
        path = whole;
    }
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int below_fd(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int fails(int kind, const char *name) {
    if (!(atomic_load(&kinds) & kind)) return 0;
    if (atomic_fetch_add(&calls, 1) + 1 != atomic_load(&failing)) return 0;
    atomic_fetch_add(&hits, 1);
    snprintf(last, sizeof last, "%s", name);
    errno = atomic_load(&code);
    return 1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        if (below(path) && fails(OPEN, #name)) return -1; \
        return real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        if (below(path) && fails(OPEN, #name)) return -1; \
        return real(at, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

static size_t shortened(size_t size) {
    return atomic_load(&is_short) && size > 3 ? size / 3 : size;
}

ssize_t read(int fd, void *to, size_t size) {
    REAL(read);
    if (!atomic_load(&kinds) || !below_fd(fd)) return real(fd, to, size);
    return fails(READ, "read") ? -1 : real(fd, to, shortened(size));
}

#define PREADS(name, offset_type) \
    ssize_t name(int fd, void *to, size_t size, offset_type at) { \
        REAL(name); \
        if (!atomic_load(&kinds) || !below_fd(fd)) return real(fd, to, size, at); \
        return fails(READ, #name) ? -1 : real(fd, to, shortened(size), at); \
    }
PREADS(pread, off_t)
PREADS(pread64, off64_t)

ssize_t write(int fd, const void *from, size_t size) {
    REAL(write);
    if (!atomic_load(&kinds) || !below_fd(fd)) return real(fd, from, size);
    return fails(WRITE, "write") ? -1 : real(fd, from, shortened(size));
}

#define PWRITES(name, offset_type) \
    ssize_t name(int fd, const void *from, size_t size, offset_type at) { \
        REAL(name); \
        if (!atomic_load(&kinds) || !below_fd(fd)) return real(fd, from, size, at); \
        return fails(WRITE, #name) ? -1 : real(fd, from, shortened(size), at); \
    }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

#define SYNCS(name) \
    int name(int fd) { \
        REAL(name); \
        return below_fd(fd) && fails(SYNC, #name) ? -1 : real(fd); \
    }
SYNCS(fsync)
SYNCS(fdatasync)

int rename(const char *from, const char *to) {
    REAL(rename);
    return below(to) && fails(RENAME, "rename") ? -1 : real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat);
    return below(to) && fails(RENAME, "renameat") ? -1 : real(a, from, b, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return below(path) && fails(MKDIR, "mkdir") ? -1 : real(path, mode);
}

#define TRUNCATES(name, offset_type) \
    int name(int fd, offset_type size) { \
        REAL(name); \
        return below_fd(fd) && fails(TRUNCATE, #name) ? -1 : real(fd, size); \
    }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

#define MAPS(name, offset_type) \
    void *name(void *at, size_t size, int rights, int flags, int fd, offset_type from) { \
        REAL(name); \
        if (fd >= 0 && atomic_load(&kinds) && below_fd(fd) && fails(MAP, #name)) \
            return MAP_FAILED; \
        return real(at, size, rights, flags, fd, from); \
    }
MAPS(mmap, off_t)
MAPS(mmap64, off64_t)
