/* A machine whose wall clock steps, for one process tree alone: to be preloaded (LD_PRELOAD). The machine's own clock is
 * never touched.
 *
 * STEPPED_CLOCK names a file of little-endian int64: n, then n pairs (at, jump), in ns; `at` is CLOCK_MONOTONIC. It is
 * mapped, so that steps can be added while the processes run. From `at` on, CLOCK_REALTIME reads `jump` more, and so
 * does every kernel stamp (SO_TIMESTAMPNS) of what arrived from then on: what arrived before keeps the stamp that it got
 * then, however late it is read. That is what a real step does; CLOCK_MONOTONIC goes on as it was.
 *
 * Not modelled: the instant of the step itself (a stamp within about a us of it may fall on either side).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 255, SIZE = 4096 };

static const volatile int64_t *steps;
static int64_t wall_less_monotonic;
static int (*real_clock)(clockid_t, struct timespec *);
static ssize_t (*real_recvmsg)(int, struct msghdr *, int);

static int64_t ns(const struct timespec *t) {
    return t->tv_sec * 1000000000ll + t->tv_nsec;
}

static void set(struct timespec *t, int64_t value) {
    t->tv_sec = value / 1000000000ll;
    t->tv_nsec = value % 1000000000ll;
}

__attribute__((constructor)) static void begin(void) {
    struct timespec wall, before;
    const char *path = getenv("STEPPED_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_recvmsg = dlsym(RTLD_NEXT, "recvmsg");
    real_clock(CLOCK_MONOTONIC, &before);
    real_clock(CLOCK_REALTIME, &wall);
    wall_less_monotonic = ns(&wall) - ns(&before);
    if (fd >= 0) {
        void *at = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) steps = at;
        close(fd);
    }
}

/* How far the clock has stepped by this time. */
static int64_t stepped(int64_t monotonic) {
    int64_t sum = 0;
    for (int64_t i = 0; steps && i < steps[0] && i < MOST; i++) {
        if (steps[1 + 2 * i] <= monotonic) sum += steps[2 + 2 * i];
    }
    return sum;
}

int clock_gettime(clockid_t which, struct timespec *t) {
    int told = real_clock(which, t);
    if (told == 0 && which == CLOCK_REALTIME) set(t, ns(t) + stepped(ns(t) - wall_less_monotonic));
    return told;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    ssize_t got = real_recvmsg(fd, message, flags);
    if (got < 0) return got;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS) continue;
        struct timespec t;
        memcpy(&t, CMSG_DATA(c), sizeof t);
        set(&t, ns(&t) + stepped(ns(&t) - wall_less_monotonic));
        memcpy(CMSG_DATA(c), &t, sizeof t);
    }
    return got;
}
