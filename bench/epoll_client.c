/* A client that reads streams and decodes nothing: the least a C program does for the load that bench/cost.py makes.
 *
 *     epoll_client PORT STREAMS REQUESTS RAMP_MS [--log FILE] [--kernel] < request
 *
 * STREAMS connections to 127.0.0.1, their starts spread over RAMP_MS; each sends the request again as soon as an answer
 * has ended (its last bytes are those of the last chunk), until REQUESTS were sent after the ramp. From the ramp's end
 * to the last request sent it counts its own processor time; it prints {"from_ns", "to_ns", "cpu_ns", "reads"}.
 *
 * --log writes what it would tell of each answer, little-endian: trace id (16 bytes) | sent_ns | first_ns, CLOCK_MONOTONIC.
 * Sent is read just before the send, first just after the first read of the answer, in which the server has its first
 * text. The request holds a traceparent then, and each time it is sent the id's last 16 digits are its number. With
 * --kernel the first read's stamp is the kernel's (SO_TIMESTAMPNS) in place of the clock after the read.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LAST "\r\n0\r\n\r\n" /* the end of a chunk, then the empty one */
enum { LAST_SIZE = sizeof LAST - 1, READ_SIZE = 65536, BATCH = 1024 };

struct conn {
    int fd;
    char tail[LAST_SIZE]; /* the last bytes read: the end may come in two reads */
    struct note *note;    /* of the answer that is awaited; its first is 0 until then */
};

struct note {
    unsigned char trace[16];
    int64_t sent, first;
};

static char request[65536], buffer[READ_SIZE], *number; /* number: the last digits of the trace id */
static size_t request_size;
static struct note *notes; /* NULL without --log */
static size_t noted, notes_room;
static int kernel;

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static int hex(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Number the request, and note when it goes out. */
static void note_sending(struct conn *c) {
    char digits[17];
    snprintf(digits, sizeof digits, "%016zx", noted + 1);
    memcpy(number, digits, 16);
    check(noted < notes_room, "fewer than 100 answers a stream in the ramp");
    c->note = &notes[noted++];
    for (int i = 0; i < 16; i++)
        c->note->trace[i] = (unsigned char)(hex(number[2 * i - 16]) << 4 | hex(number[2 * i - 15]));
    c->note->sent = clock_ns(CLOCK_MONOTONIC);
}

static void ask(struct conn *c) {
    memset(c->tail, 0, LAST_SIZE);
    if (notes) note_sending(c);
    check(send(c->fd, request, request_size, MSG_NOSIGNAL) == (ssize_t)request_size, "send");
}

static void open_one(struct conn *c, int port, int epoll) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    check(c->fd >= 0, "socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (kernel) setsockopt(c->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    check(connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) == 0, "epoll_ctl");
    ask(c);
}

/* recv, and when the kernel had its last byte. */
static ssize_t stamped_recv(int fd, int64_t *stamp) {
    struct iovec into = {buffer, READ_SIZE};
    union {
        char data[256];
        struct cmsghdr head;
    } control;
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    struct cmsghdr *told = CMSG_FIRSTHDR(&message);
    struct timespec t;
    check(got > 0 && told != NULL && told->cmsg_type == SO_TIMESTAMPNS, "recvmsg");
    memcpy(&t, CMSG_DATA(told), sizeof t);
    *stamp = t.tv_sec * 1000000000LL + t.tv_nsec - clock_ns(CLOCK_REALTIME) + clock_ns(CLOCK_MONOTONIC);
    return got;
}

/* One read of a ready socket; whether an answer ended with it. */
static int read_one(struct conn *c) {
    ssize_t got;
    if (notes && c->note->first == 0 && kernel) {
        got = stamped_recv(c->fd, &c->note->first);
    } else {
        got = recv(c->fd, buffer, READ_SIZE, MSG_DONTWAIT);
        if (notes && c->note->first == 0) c->note->first = clock_ns(CLOCK_MONOTONIC);
    }
    check(got > 0, "recv");
    size_t fresh = got < LAST_SIZE ? (size_t)got : LAST_SIZE;
    memmove(c->tail, c->tail + fresh, LAST_SIZE - fresh);
    memcpy(c->tail + LAST_SIZE - fresh, buffer + got - fresh, fresh);
    return memcmp(c->tail, LAST, LAST_SIZE) == 0;
}

int main(int count, char **words) {
    const char *log = NULL;
    check(count >= 5, "usage: epoll_client PORT STREAMS REQUESTS RAMP_MS [--log FILE] [--kernel] < request");
    for (int i = 5; i < count; i++) {
        if (!strcmp(words[i], "--kernel")) kernel = 1;
        else if (!strcmp(words[i], "--log") && i + 1 < count) log = words[++i];
    }
    int port = atoi(words[1]), streams = atoi(words[2]), requests = atoi(words[3]);
    int64_t ramp_ns = atoll(words[4]) * 1000000, began = clock_ns(CLOCK_MONOTONIC);
    int64_t from = 0, from_cpu = 0, to = 0, to_cpu = 0, reads = 0;
    int opened = 0, asked = 0, open = 0, epoll = epoll_create1(0);
    struct conn *conns = calloc(streams, sizeof *conns);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct epoll_event ready[BATCH];
    request_size = fread(request, 1, sizeof request - 1, stdin);
    if (log) {
        number = strstr(request, "traceparent: 00-");
        check(number != NULL, "a traceparent in the request");
        number += strlen("traceparent: 00-") + 16;
        notes_room = (size_t)streams * 100 + requests; /* those of the ramp are not counted in REQUESTS */
        check((notes = calloc(notes_room, sizeof *notes)) != NULL, "memory");
    }
    while (opened < streams || open > 0) {
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        for (; opened < streams && now >= began + opened * ramp_ns / streams; opened++, open++)
            open_one(&conns[opened], port, epoll);
        if (from == 0 && now >= began + ramp_ns) {
            from = now;
            from_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        }
        int n = epoll_wait(epoll, ready, BATCH, opened < streams ? 1 : 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            reads += from && !to;
            if (!read_one(c))
                continue;
            if (asked < requests) {
                asked += from != 0;
                ask(c);
            } else {
                close(c->fd);
                open--;
            }
        }
        if (to == 0 && asked >= requests) {
            to = clock_ns(CLOCK_MONOTONIC);
            to_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        }
    }
    printf("{\"from_ns\": %lld, \"to_ns\": %lld, \"cpu_ns\": %lld, \"reads\": %lld}\n", (long long)from, (long long)to,
           (long long)(to_cpu - from_cpu), (long long)reads);
    if (log) {
        FILE *file = fopen(log, "wb");
        check(file != NULL && fwrite(notes, sizeof *notes, noted, file) == noted && fclose(file) == 0, log);
    }
    return 0;
}
