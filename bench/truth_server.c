/* A server that streams OpenAI completions and knows exactly when it wrote each token. Loopback only.
 *
 *     truth_server LOG [--fifo] [--spin US] [--close] [--accept-us US] [--backlog N] [--vary text|padded]
 *
 * The first line of its output is its port. A request's model says what is streamed: sim-t300-i20-n100 is a first token
 * 300 ms after the whole request, then one every 20 ms, 100 of them, each in a write of its own; j2000 in it adds up to
 * 2 s, drawn anew for each request, to the first. The due times of one answer do not drift. A last write holds the
 * finish, usage, [DONE] and the end of the message. Headers go out with the first token. A path that ends in
 * /chat/completions gets chat chunks, /completions the older ones; a GET a list of one model, at once.
 *
 * On SIGTERM the log is written, all of it from memory, nothing before: for each answer, little-endian,
 *     trace id (16 bytes) | accepted_ns u64 | request_ns u64 | late_ns u64 (most that any write was late) | n u32 | left u32
 *     n times: before_ns u64 | after_ns u64        of each write, the last one included
 * in CLOCK_MONOTONIC. The trace id is that of the request's traceparent, zeros without one. `left` is 1 where the reader
 * left or could not keep up (a short write), with the writes until then: the program's exit status is 3 if there was any,
 * and it says how many on standard error.
 *
 * --fifo asks for the real-time scheduler; --spin looks for due times without sleeping in the last US microseconds;
 * --close ends the connection after each answer; --accept-us takes at most one new connection in so many microseconds,
 * and --backlog is how many of them the kernel lets wait for that: a service whose connections queue.
 *
 * Every event of every answer has the same bytes but with --vary. There each answer has an id of its own and each event
 * another text (truth_forms.h): `text` in the form of vLLM, where nothing else differs within an answer; `padded` in that
 * of OpenAI, with a random `obfuscation` in each event. Either way an event is one write.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "truth_forms.h"

enum { REQUEST_SIZE = 65536, BATCH = 1024 };
enum { WAITING = -1 };

struct write_times {
    uint64_t before, after;
};

struct conn {
    int fd, heap; /* place in the heap of due times, WAITING for a request otherwise */
    uint64_t accepted, request, due, start, late;
    uint32_t tokens, sent;
    uint64_t gap;
    unsigned char trace[16];
    const struct voice *voice;
    size_t size, text; /* read of the request; where in the list the texts of its answer begin */
    char id[ID_SIZE + 1];
    struct write_times *times;
    char in[REQUEST_SIZE];
};

struct head {
    unsigned char trace[16];
    uint64_t accepted, request, late;
    uint32_t n, left;
};

static struct conn **heap;
static size_t heap_size, heap_room;
static char *logged;
static size_t log_size, log_room;
static unsigned long spoiled;
static volatile sig_atomic_t stop;
static int closing, backlog = 65535;
static uint64_t accept_ns;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The heap of due times. */

static void put(size_t i, struct conn *c) {
    heap[i] = c;
    c->heap = (int)i;
}

static void rise(size_t i, struct conn *c) {
    while (i && heap[(i - 1) / 2]->due > c->due) {
        put(i, heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(i, c);
}

static void sink(size_t i, struct conn *c) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap_size) break;
        if (child + 1 < heap_size && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        put(i, heap[child]);
        i = child;
    }
    put(i, c);
}

static void add(struct conn *c) {
    if (heap_size == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 1024;
        check((heap = realloc(heap, heap_room * sizeof *heap)) != NULL, "memory");
    }
    rise(heap_size++, c);
}

static void take(struct conn *c) {
    size_t i = (size_t)c->heap;
    struct conn *last = heap[--heap_size];
    c->heap = WAITING;
    if (last == c) return;
    if (i && heap[(i - 1) / 2]->due > last->due) rise(i, last);
    else sink(i, last);
}

/* The log. */

static void note(const void *data, size_t size) {
    if (log_size + size > log_room) {
        log_room = log_room ? 2 * log_room + size : 1u << 24;
        check((logged = realloc(logged, log_room)) != NULL, "memory");
    }
    memcpy(logged + log_size, data, size);
    log_size += size;
}

static void note_answer(struct conn *c, uint32_t left) {
    struct head head = {.accepted = c->accepted, .request = c->request, .late = c->late, .n = c->sent, .left = left};
    memcpy(head.trace, c->trace, sizeof head.trace);
    note(&head, sizeof head);
    note(c->times, c->sent * sizeof *c->times);
}

/* Requests. */

static uint64_t number_after(const char *text, const char *letter, uint64_t otherwise) {
    const char *at = strstr(text, letter);
    return at ? strtoull(at + strlen(letter), NULL, 10) : otherwise;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

/* A whole request lies in c->in: when to write what. */
static void begin(struct conn *c, uint64_t at) {
    const char *trace = strcasestr(c->in, "traceparent: 00-"), *model = strstr(c->in, "sim-t");
    char name[64] = "";
    for (int i = 0; i < 16; i++) {
        c->trace[i] = trace ? (unsigned char)(hex(trace[16 + 2 * i]) << 4 | hex(trace[17 + 2 * i])) : 0;
    }
    if (model) snprintf(name, sizeof name, "%.60s", model);
    name[strcspn(name, "\" ")] = 0;
    uint64_t jitter = number_after(name, "-j", 0);
    c->tokens = (uint32_t)number_after(name, "-n", 100);
    c->gap = number_after(name, "-i", 20) * 1000000u;
    c->request = at;
    c->start = at + number_after(name, "-t", 300) * 1000000u;
    if (jitter) c->start += (uint64_t)random() % (jitter * 1000000u);
    c->due = c->start;
    c->sent = 0;
    c->late = 0;
    c->voice = memmem(c->in, strcspn(c->in, "\r"), "/chat/", 6) ? &chat : &plain;
    c->text = drawn(texts);
    snprintf(c->id, sizeof c->id, "%016llx%016llx", (unsigned long long)drawn(UINT64_MAX), (unsigned long long)at);
    free(c->times);
    check((c->times = malloc((c->tokens + 1) * sizeof *c->times)) != NULL, "memory");
    c->size = 0;
    add(c);
}

static void drop(struct conn *c) {
    if (c->heap != WAITING) {
        take(c);
        note_answer(c, 1);
        spoiled++;
    }
    close(c->fd);
    free(c->times);
    free(c);
}

/* Some clients look what there is before they ask. */
static void tell_models(struct conn *c) {
    static const char list[] = "{\"object\":\"list\",\"data\":[{\"id\":\"sim\",\"object\":\"model\",\"created\":1,"
                               "\"owned_by\":\"bench\"}]}";
    char out[512];
    int size = sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                       sizeof list - 1, list);
    c->size = 0;
    if (send(c->fd, out, (size_t)size, MSG_NOSIGNAL) != size) drop(c);
}

static void on_readable(struct conn *c) {
    ssize_t got = recv(c->fd, c->in + c->size, REQUEST_SIZE - 1 - c->size, 0);
    uint64_t at = now();
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(c);
        return;
    }
    c->size += (size_t)got;
    c->in[c->size] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(c->in, "content-length:");
    size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
    if (c->size < (size_t)(end + 4 - c->in) + body) return;
    if (!strncmp(c->in, "GET ", 4)) tell_models(c);
    else begin(c, at);
}

/* Answers. */

/* Bytes of a piece in this answer. */
static size_t put_piece(char *out, const struct piece *piece, const struct conn *c) {
    memcpy(out, piece->data, piece->size);
    if (piece->id_at) memcpy(out + piece->id_at, c->id, ID_SIZE);
    return piece->size;
}

/* The last write: finish, usage, [DONE], and the end of the message. */
static size_t put_last(char *out, const struct conn *c) {
    const char *kind = c->voice == &chat ? "chat.completion.chunk" : "text_completion";
    char text[1024];
    snprintf(text, sizeof text, c->voice->finish, kind, kind, c->tokens, c->tokens + 10);
    size_t size = chunk(out, text);
    return size + (size_t)sprintf(out + size, "0\r\n\r\n");
}

static void write_next(struct conn *c) {
    char data[4096];
    size_t size = 0;
    if (c->sent == c->tokens) {
        size = put_last(data, c);
    } else {
        if (c->sent == 0) size = put_piece(data, &c->voice->first, c);
        size += put_piece(data + size, &c->voice->texts[(c->text + c->sent) % texts], c);
    }
    struct write_times *times = &c->times[c->sent];
    times->before = now();
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    times->after = now();
    if (sent != (ssize_t)size) {
        drop(c);
        return;
    }
    if (times->before - c->due > c->late) c->late = times->before - c->due;
    c->sent++;
    if (c->sent <= c->tokens) {
        c->due = c->start + (c->sent < c->tokens ? c->sent : c->tokens - 1) * c->gap + (c->sent == c->tokens ? c->gap / 4 : 0);
        sink((size_t)c->heap, c);
        return;
    }
    take(c);
    note_answer(c, 0);
    if (closing) drop(c);
}

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static int listener(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    check(fd >= 0, "socket");
    check(bind(fd, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    check(listen(fd, backlog) == 0, "listen");
    check(getsockname(fd, (struct sockaddr *)&at, &size) == 0, "getsockname");
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

/* Everybody who waits, or with --accept-us the first of them. */
static void accept_some(int listening, int epoll) {
    do {
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK), on = 1;
        if (fd < 0) return;
        struct conn *c = calloc(1, sizeof *c);
        check(c != NULL, "memory");
        c->fd = fd;
        c->heap = WAITING;
        c->accepted = now();
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    } while (!accept_ns);
}

static void serve(int listening, uint64_t spin_ns) {
    static struct epoll_event events[BATCH];
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    uint64_t next_accept = 0;
    if (!accept_ns) check(epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event) == 0, "epoll_ctl");
    while (!stop) {
        uint64_t at = now(), left = heap_size ? heap[0]->due : at + 100000000u;
        if (accept_ns && next_accept < left) left = next_accept;
        left = left > at ? left - at : 0;
        left = left > spin_ns ? left - spin_ns : 0;
        struct timespec wait = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
        int ready = epoll_pwait2(epoll, events, BATCH, &wait, NULL);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL) accept_some(listening, epoll);
            else on_readable(events[i].data.ptr);
        }
        if (accept_ns && now() >= next_accept) {
            accept_some(listening, epoll);
            next_accept = now() + accept_ns;
        }
        /* At most so many writes between two looks at the sockets, so that a request's own time is seen soon. */
        for (int i = 0; i < 64 && heap_size && heap[0]->due <= now(); i++) write_next(heap[0]);
    }
}

int main(int count, char **words) {
    uint64_t spin_ns = 0;
    int fifo = 0;
    if (count < 2) {
        fprintf(stderr, "usage: truth_server LOG [--fifo] [--spin US] [--close] [--accept-us US] [--backlog N] "
                        "[--vary text|padded]\n");
        return 2;
    }
    for (int i = 2; i < count; i++) {
        if (!strcmp(words[i], "--fifo")) fifo = 1;
        else if (!strcmp(words[i], "--close")) closing = 1;
        else if (!strcmp(words[i], "--accept-us") && i + 1 < count) accept_ns = strtoull(words[++i], NULL, 10) * 1000u;
        else if (!strcmp(words[i], "--backlog") && i + 1 < count) backlog = atoi(words[++i]);
        else if (!strcmp(words[i], "--vary") && i + 1 < count) vary = strcmp(words[++i], "padded") ? TEXT : PADDED;
        else if (!strcmp(words[i], "--spin") && i + 1 < count) spin_ns = strtoull(words[++i], NULL, 10) * 1000u;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (fifo) {
        struct sched_param param = {.sched_priority = 1};
        fifo = sched_setscheduler(0, SCHED_FIFO, &param) == 0;
    }
    give_voices(closing);
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    int listening = listener();
    printf("%s\n", fifo ? "fifo" : "fair");
    fflush(stdout);
    serve(listening, spin_ns);
    FILE *file = fopen(words[1], "wb");
    check(file != NULL, words[1]);
    check(fwrite(logged, 1, log_size, file) == log_size && fclose(file) == 0, words[1]);
    if (spoiled) fprintf(stderr, "%lu answers were left or not taken in time\n", spoiled);
    return spoiled ? 3 : 0;
}
