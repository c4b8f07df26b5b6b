/* How late a C program is that does nothing but wait: the machine's own share of a generator's lateness.
 *
 *     timer_control RATE SECONDS [--fifo]
 *
 * Due RATE times a second for SECONDS; it waits for each with epoll on a timerfd, as an event loop does, and notes how
 * late it looked at the clock. Prints {"late_ns": [p50, p95, p99, most]}. --fifo asks for the real-time scheduler.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;
    return (one > other) - (one < other);
}

/* By nearest rank from above, as bench/found.py has it. */
static long long at(const int64_t *late, size_t n, double share) {
    size_t rank = (size_t)(share * (double)n);
    return late[rank < n ? rank : n - 1];
}

int main(int count, char **words) {
    if (count < 3) {
        fprintf(stderr, "usage: timer_control RATE SECONDS [--fifo]\n");
        return 2;
    }
    double rate = atof(words[1]), seconds = atof(words[2]);
    size_t n = (size_t)(rate * seconds), done = 0;
    int64_t *late = malloc((n + 1) * sizeof *late);
    check(n > 0 && late != NULL, "RATE and SECONDS");
    if (count > 3 && !strcmp(words[3], "--fifo")) {
        struct sched_param param = {.sched_priority = 1};
        sched_setscheduler(0, SCHED_FIFO, &param);
    }
    prctl(PR_SET_TIMERSLACK, 1);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    check(timer >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event) == 0, "timerfd");
    int64_t began = now();
    while (done < n) {
        int64_t due = began + (int64_t)((double)(done + 1) * 1e9 / rate);
        struct itimerspec when = {.it_value = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000}};
        check(timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL) == 0, "timerfd_settime");
        epoll_wait(epoll, &event, 1, -1);
        for (int64_t seen = now(); done < n && due <= seen; done++, due = began + (int64_t)((double)(done + 1) * 1e9 / rate))
            late[done] = seen - due;
    }
    qsort(late, n, sizeof *late, ascending);
    printf("{\"late_ns\": [%lld, %lld, %lld, %lld]}\n", at(late, n, 0.5), at(late, n, 0.95), at(late, n, 0.99),
           (long long)late[n - 1]);
    return 0;
}
