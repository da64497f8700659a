// A disturbance at the n-th change of the file system, for a process that has this library preloaded.
//
//     cc -shared -fPIC -O1 -o disturb.so disturb.c -ldl
//
// Every call of the C library that creates, writes, renames or removes a file in the folder `prefix` is counted, whoever
// makes it: Python, SQLite, libtorch, libsndfile. `disturb_arm` says what happens at the n-th; a program that cannot
// call it is armed by the environment: DISTURB="prefix:n:action:value".
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, SIGNAL, FAIL, SLOW };        // FAIL: this change and all later ones, with errno `value`
enum { GROWS = 1, REMOVES = 2 };                 // a full disk refuses only what needs space

static char prefix[PATH_MAX];
static long at, value;
static int action = -1;
static atomic_long seen;

void disturb_arm(const char *folder, long n, int what, long how) {
    snprintf(prefix, sizeof prefix, "%s", folder);
    at = n, value = how, atomic_store(&seen, 0), action = what;
}

long disturb_seen(void) { return atomic_load(&seen); }

__attribute__((constructor)) static void from_environment(void) {
    char folder[PATH_MAX];
    long n, how;
    int what;
    const char *text = getenv("DISTURB");
    if (text && sscanf(text, "%4095[^:]:%ld:%d:%ld", folder, &n, &what, &how) == 4) disturb_arm(folder, n, what, how);
}

static int inside(const char *path) { return strncmp(path, prefix, strlen(prefix)) == 0; }

static int name_inside(int folder, const char *path) {
    char link[64], full[PATH_MAX];
    if (!path) return 0;
    if (path[0] == '/') return inside(path);
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, full, sizeof full - 2);
    if (size < 0) return 0;
    full[size] = '/', full[size + 1] = 0;
    return inside(full);
}

static int fd_inside(int fd) { return fd > 2 && name_inside(fd, "x"); }

// 1 if the call must fail, with errno set
static int change(int kind) {
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (action == KILL && number == at) kill(getpid(), SIGKILL);
    if (action == SIGNAL && number == at) kill(getpid(), (int)value);
    if (action == SLOW) usleep((useconds_t)(random() % (value + 1)));
    if (action == FAIL && number >= at && (value != ENOSPC || kind == GROWS)) return errno = (int)value, 1;
    return 0;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define GUARD(where, kind) if (action >= 0 && (where) && change(kind)) return -1

#define WRAP(result, name, declared, passed, where, kind) \
    result name declared { REAL(name); GUARD(where, kind); return real passed; }
WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), fd_inside(f), GROWS)
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), fd_inside(f), GROWS)
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), fd_inside(f), GROWS)
WRAP(ssize_t, writev, (int f, const struct iovec *v, int n), (f, v, n), fd_inside(f), GROWS)
WRAP(ssize_t, copy_file_range, (int f, off64_t *a, int g, off64_t *b, size_t n, unsigned s), (f, a, g, b, n, s),
     fd_inside(g), GROWS)
ssize_t sendfile(int out, int in, off_t *o, size_t n);
ssize_t sendfile64(int out, int in, off64_t *o, size_t n);
WRAP(ssize_t, sendfile, (int g, int f, off_t *o, size_t n), (g, f, o, n), fd_inside(g), GROWS)
WRAP(ssize_t, sendfile64, (int g, int f, off64_t *o, size_t n), (g, f, o, n), fd_inside(g), GROWS)
WRAP(int, rename, (const char *a, const char *b), (a, b), name_inside(AT_FDCWD, b), REMOVES)
WRAP(int, renameat, (int f, const char *a, int g, const char *b), (f, a, g, b), name_inside(g, b), REMOVES)
WRAP(int, unlink, (const char *a), (a), name_inside(AT_FDCWD, a), REMOVES)
WRAP(int, unlinkat, (int f, const char *a, int s), (f, a, s), name_inside(f, a), REMOVES)
WRAP(int, remove, (const char *a), (a), name_inside(AT_FDCWD, a), REMOVES)
WRAP(int, rmdir, (const char *a), (a), name_inside(AT_FDCWD, a), REMOVES)
WRAP(int, mkdir, (const char *a, mode_t m), (a, m), name_inside(AT_FDCWD, a), GROWS)
WRAP(int, mkdirat, (int f, const char *a, mode_t m), (f, a, m), name_inside(f, a), GROWS)
WRAP(int, symlink, (const char *a, const char *b), (a, b), name_inside(AT_FDCWD, b), GROWS)
WRAP(int, link, (const char *a, const char *b), (a, b), name_inside(AT_FDCWD, b), GROWS)
WRAP(int, ftruncate, (int f, off_t n), (f, n), fd_inside(f), REMOVES)
WRAP(int, ftruncate64, (int f, off64_t n), (f, n), fd_inside(f), REMOVES)
WRAP(int, chmod, (const char *a, mode_t m), (a, m), name_inside(AT_FDCWD, a), REMOVES)

#define ALLOCATE(name, type)                                                  \
    int name(int f, type o, type n) {                                         \
        REAL(name);                                                           \
        if (action >= 0 && fd_inside(f) && change(GROWS)) return errno;       \
        return real(f, o, n);                                                 \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

// to open for reading changes nothing; a full disk still opens what is there
static int opens(int folder, const char *path, int flags) {
    if (action < 0 || !(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) || !name_inside(folder, path)) return 0;
    return change(flags & O_CREAT && faccessat(folder, path, F_OK, 0) ? GROWS : REMOVES);
}
#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        REAL(name);                                                           \
        va_list rest; va_start(rest, flags);                                  \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                         \
        return opens(AT_FDCWD, path, flags) ? -1 : real(path, flags, mode);   \
    }
#define OPENAT(name)                                                          \
    int name(int folder, const char *path, int flags, ...) {                  \
        REAL(name);                                                           \
        va_list rest; va_start(rest, flags);                                  \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                         \
        return opens(folder, path, flags) ? -1 : real(folder, path, flags, mode); \
    }
#define FOPEN(name)                                                           \
    FILE *name(const char *path, const char *mode) {                          \
        REAL(name);                                                           \
        int flags = mode[0] == 'r' && !strchr(mode, '+') ? O_RDONLY : O_RDWR | (mode[0] == 'r' ? 0 : O_CREAT); \
        return opens(AT_FDCWD, path, flags) ? NULL : real(path, mode);        \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
