/* Preloaded: every lock of a file below the folder $NO_LOCKS_IN fails with the number $NO_LOCKS_ERRNO, as on a mount
   without locks. $NO_LOCKS_KIND "flock" spares the locks of fcntl. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int refused(int descriptor) {
    const char *folder = getenv("NO_LOCKS_IN");
    char name[64], path[4096];
    if (folder == NULL) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0) return 0;
    errno = atoi(getenv("NO_LOCKS_ERRNO"));
    return 1;
}

int flock(int descriptor, int operation) {
    static int (*real)(int, int);
    if (real == NULL) real = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    return refused(descriptor) ? -1 : real(descriptor, operation);
}

static int is_lock(int command) {
    const char *kind = getenv("NO_LOCKS_KIND");
    if (kind != NULL && strcmp(kind, "flock") == 0) return 0;
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
           command == F_OFD_SETLKW || command == F_OFD_GETLK;
}

static int call(const char *name, int descriptor, int command, void *argument) {
    int (*real)(int, int, void *) = (int (*)(int, int, void *))dlsym(RTLD_NEXT, name);
    return is_lock(command) && refused(descriptor) ? -1 : real(descriptor, command, argument);
}

#define FORWARD(name)                                            \
    int name(int descriptor, int command, ...) {                 \
        va_list rest;                                            \
        va_start(rest, command);                                 \
        void *argument = va_arg(rest, void *);                   \
        va_end(rest);                                            \
        return call(#name, descriptor, command, argument);       \
    }

FORWARD(fcntl)
FORWARD(fcntl64)
