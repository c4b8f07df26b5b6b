/* Waiting for sockets and taking what came: src/streamgauge/drain.py, compiled. The same contract, the same strategy and
 * the same order of clock readings as `Pure` there, which says why; the same tests run on both.
 *
 * The GIL is let go only where the thread may sleep: a read that does not wait is over sooner than the GIL changes hands.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define US 1000LL
#define MS 1000000LL
#define S 1000000000LL
/* A socket that is read is told of when something comes, not as long as something is there: the kernel asks it once a
 * read instead of twice. So one in which more may lie than was read is looked at again (`again`). */
#define EDGES (EPOLLET | EPOLLRDHUP)
#define STAMP 35 /* SO_TIMESTAMPNS, and the type of its ancillary data */
enum { READ_SIZE = 65536, MOST = 128, MOST_BYTES = 65536, MOST_READS = 64, SPARE = 32768 };
static const int64_t REST = 500 * US, PATIENCE = 500 * MS, SPAN = 100 * MS, SLEPT = 1 * MS, WAKE_MARGIN = 200 * US, OVERSLEPT = 2 * MS;

typedef struct {
    int64_t wall, look;
    Py_ssize_t end; /* in the entry's data */
} Read;

typedef struct {
    int64_t looked; /* the recv that emptied it */
    int64_t since;  /* the first of its reads that wait */
    char *data;
    Read *read;
    Py_ssize_t size, room;
    int reads, slots;
    int next, before; /* in the line of those that wait */
    char waits, taken;  /* taken: it is read here, not only told of */
    char fresh;         /* what this look found with it and has not dealt with yet */
    unsigned mask;
} Entry;

enum { NOTHING, BYTES, WORD }; /* of `fresh`: its last read; that there is something */

/* When a look woke; since when all that it found came: surely, and by the end of the sleep unless a stamp is older. */
typedef struct {
    int64_t woke, surely, likely;
} Look;

typedef struct {
    PyObject_HEAD
    PyObject *clock, *wall; /* callables in place of the system's clocks, or NULL */
    int epoll, schedstat;
    int size, room, entries;
    struct epoll_event *ready;
    Entry *entry;
    char *buffer;
    int first, last; /* of the line of those that wait, the longest first; -1: nobody */
    int64_t floor, found, delay;
    int64_t oldest; /* stamp of this look, INT64_MAX: none has one */
    int64_t counted, since; /* so many ready sockets since then */
    long long patience; /* so long a read waits at most */
    int busy, warm; /* warm: what could not wait was handed on last time */
} Drain;

/* Time. -1 with an exception set where the callable failed. */
static int64_t read_clock(PyObject *callable, clockid_t clock) {
    struct timespec t;
    if (callable) {
        PyObject *told = PyObject_CallNoArgs(callable);
        int64_t ns = told ? PyLong_AsLongLong(told) : -1;
        Py_XDECREF(told);
        return ns;
    }
    clock_gettime(clock, &t);
    return t.tv_sec * S + t.tv_nsec;
}

static int64_t now(Drain *self) {
    return read_clock(self->clock, CLOCK_MONOTONIC);
}

static struct timespec span(int64_t ns) {
    struct timespec t = {.tv_sec = ns / S, .tv_nsec = ns % S};
    return t;
}

/* How long this thread was runnable without running, since the last call; -1 where the system does not say. */
static int64_t run_delay(Drain *self) {
    char text[96];
    ssize_t got = self->schedstat < 0 ? -1 : pread(self->schedstat, text, sizeof text - 1, 0);
    if (got <= 0) return -1;
    text[got] = 0;
    char *second = strchr(text, ' ');
    if (!second) return -1;
    int64_t total = strtoll(second, NULL, 10), since = total - self->delay;
    self->delay = total;
    return since;
}

/* Registering. */

static PyObject *control(Drain *self, int what, int fd, unsigned mask, int taken) {
    struct epoll_event event = {.events = mask | (taken ? EDGES : 0), .data.fd = fd};
    if (fd < 0 || epoll_ctl(self->epoll, what, fd, &event) < 0) {
        if (fd < 0) errno = EBADF;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static int make_room(Drain *self, int fd) {
    if (fd >= self->entries) {
        int many = fd + 1 > 2 * self->entries ? fd + 64 : 2 * self->entries;
        Entry *more = PyMem_Realloc(self->entry, many * sizeof(Entry));
        if (!more) return -1;
        memset(more + self->entries, 0, (many - self->entries) * sizeof(Entry));
        self->entry = more;
        self->entries = many;
    }
    if (self->size >= self->room) {
        struct epoll_event *more = PyMem_Realloc(self->ready, 2 * self->room * sizeof *more);
        if (!more) return -1;
        self->ready = more;
        self->room *= 2;
    }
    return 0;
}

static PyObject *add(Drain *self, int fd, unsigned mask, Entry fresh) {
    PyObject *done;
    if (fd >= 0 && make_room(self, fd) < 0) return PyErr_NoMemory();
    done = control(self, EPOLL_CTL_ADD, fd, mask, fresh.taken);
    if (done) {
        self->entry[fd] = fresh;
        self->size++;
    }
    return done;
}

static PyObject *drain_register(Drain *self, PyObject *args) {
    int fd;
    unsigned mask;
    long long looked = 0;
    if (!PyArg_ParseTuple(args, "iI|L:register", &fd, &mask, &looked)) return NULL;
    return add(self, fd, mask, (Entry){.taken = 1, .mask = mask, .looked = looked});
}

static PyObject *drain_watch(Drain *self, PyObject *args) {
    int fd;
    unsigned mask;
    if (!PyArg_ParseTuple(args, "iI:watch", &fd, &mask)) return NULL;
    return add(self, fd, mask, (Entry){0});
}

static PyObject *drain_modify(Drain *self, PyObject *args) {
    int fd;
    unsigned mask;
    if (!PyArg_ParseTuple(args, "iI:modify", &fd, &mask)) return NULL;
    int known = fd >= 0 && fd < self->entries;
    if (known) self->entry[fd].mask = mask;
    return control(self, EPOLL_CTL_MOD, fd, mask, known && self->entry[fd].taken);
}

/* Out of the line. */
static void leave(Drain *self, int fd) {
    Entry *entry = &self->entry[fd];
    if (!entry->waits) return;
    *(entry->before < 0 ? &self->first : &self->entry[entry->before].next) = entry->next;
    *(entry->next < 0 ? &self->last : &self->entry[entry->next].before) = entry->before;
    entry->waits = 0;
}

static PyObject *drain_unregister(Drain *self, PyObject *args) {
    int fd;
    if (!PyArg_ParseTuple(args, "i:unregister", &fd)) return NULL;
    PyObject *done = control(self, EPOLL_CTL_DEL, fd, 0, 0);
    if (done) {
        leave(self, fd);
        PyMem_Free(self->entry[fd].data);
        PyMem_Free(self->entry[fd].read);
        self->entry[fd] = (Entry){0};
        self->size--;
    }
    return done;
}

/* Looking and taking. */

/* Sleep until something comes, `wake` at the latest; whether a signal ended it (SIGCONT, it may be). */
static int sleep_until(Drain *self, int64_t wake, int64_t from) {
    struct pollfd seen = {.fd = self->epoll, .events = POLLIN};
    struct timespec left = span(wake - from);
    int any;
    Py_BEGIN_ALLOW_THREADS
    any = ppoll(&seen, 1, wake == INT64_MAX ? NULL : &left, NULL); /* to the ns, where epoll_wait rounds up to the ms */
    any = any < 0 && errno == EINTR;
    Py_END_ALLOW_THREADS
    return any;
}

/* Ready descriptors; -1 with an exception. */
static int look(Drain *self, int64_t wake, Look *at) {
    int64_t enter = now(self);
    if (enter == -1) return -1;
    *at = (Look){.woke = enter, .surely = self->floor, .likely = self->floor};
    self->floor = enter;
    int n = epoll_wait(self->epoll, self->ready, self->room, 0);
    if (n < 0) return PyErr_SetFromErrno(PyExc_OSError), -1;
    if (n > 0 || wake <= enter) return n;
    int stopped = sleep_until(self, wake, enter);
    int64_t woke = now(self);
    if (woke == -1) return -1;
    *at = (Look){.woke = woke, .surely = enter, .likely = enter};
    self->floor = woke;
    n = epoll_wait(self->epoll, self->ready, self->room, 0);
    if (n < 0) return PyErr_SetFromErrno(PyExc_OSError), -1;
    if (woke - enter >= SLEPT) {
        int64_t delay = run_delay(self);
        int overslept = wake != INT64_MAX && woke > wake + (delay > 0 ? delay : 0) + OVERSLEPT;
        if (delay >= 0 && !stopped && !overslept && woke - delay - WAKE_MARGIN > enter)
            at->likely = woke - delay - WAKE_MARGIN;
    }
    return n;
}

/* Since when all came that was taken, once every stamp is known; -1 with an exception. */
static int64_t floor_of(Drain *self, const Look *at) {
    if (at->likely == at->surely || self->oldest == INT64_MAX) return at->likely;
    int64_t before = now(self), wall = before == -1 ? -1 : read_clock(self->wall, CLOCK_REALTIME);
    if (wall == -1) return -1;
    return self->oldest - wall + before < at->likely ? at->surely : at->likely;
}

/* (end, wall, look): by hand, for Py_BuildValue takes twice as long and there is one of these for every event. */
static PyObject *told_read(const Read *read) {
    int64_t facts[] = {read->end, read->wall, read->look};
    PyObject *all = PyTuple_New(3);
    for (int i = 0; all && i < 3; i++) {
        PyObject *fact = PyLong_FromLongLong(facts[i]);
        if (!fact) Py_CLEAR(all);
        else PyTuple_SET_ITEM(all, i, fact);
    }
    return all;
}

static PyObject *told_reads(const Read *read, int reads) {
    PyObject *all = PyTuple_New(reads);
    for (int i = 0; all && i < reads; i++) {
        PyObject *one = told_read(&read[i]);
        if (!one) Py_CLEAR(all);
        else PyTuple_SET_ITEM(all, i, one);
    }
    return all;
}

/* One item; steals `data`. */
static PyObject *item_of(int fd, unsigned mask, PyObject *data, const Read *read, int reads) {
    PyObject *all = data ? told_reads(read, reads) : NULL;
    if (!all) {
        Py_XDECREF(data);
        return NULL;
    }
    return Py_BuildValue("iINN", fd, mask, data, all);
}

/* Puts an item, which it steals, at the end of `items`. */
static int put(PyObject *items, PyObject *item) {
    int bad = !item || PyList_Append(items, item) < 0;
    Py_XDECREF(item);
    return bad ? -1 : 0;
}

/* Something with a descriptor that is no bytes; steals `data`. */
static int tell(PyObject *items, int fd, unsigned mask, PyObject *data, int64_t looked) {
    Read only = {.look = looked};
    return put(items, item_of(fd, mask, data, &only, 1));
}

/* What waits of a descriptor, as an item. */
static PyObject *hand_on(Drain *self, int fd, unsigned mask) {
    Entry *entry = &self->entry[fd];
    PyObject *item = item_of(fd, mask, PyBytes_FromStringAndSize(entry->data, entry->size), entry->read, entry->reads);
    leave(self, fd);
    entry->reads = 0;
    entry->size = 0;
    if (entry->room > SPARE) {
        PyMem_Free(entry->data);
        entry->data = NULL;
        entry->room = 0;
    }
    return item;
}

/* Have a read of `got` bytes in the buffer wait; -1 with an exception. */
static int keep(Drain *self, int fd, Py_ssize_t got, int64_t wall, int64_t look, int64_t at) {
    Entry *entry = &self->entry[fd];
    if (entry->size + got > entry->room) {
        Py_ssize_t room = 2 * (entry->size + got) + 512;
        char *more = PyMem_Realloc(entry->data, room);
        if (!more) return PyErr_NoMemory(), -1;
        entry->data = more;
        entry->room = room;
    }
    if (entry->reads >= entry->slots) {
        int slots = entry->slots ? 2 * entry->slots : 4;
        Read *more = PyMem_Realloc(entry->read, slots * sizeof *more);
        if (!more) return PyErr_NoMemory(), -1;
        entry->read = more;
        entry->slots = slots;
    }
    memcpy(entry->data + entry->size, self->buffer, got);
    entry->size += got;
    entry->read[entry->reads++] = (Read){.wall = wall, .look = look, .end = entry->size};
    if (!entry->waits) {
        entry->waits = 1;
        entry->since = at;
        entry->next = -1;
        entry->before = self->last;
        *(self->last < 0 ? &self->first : &self->entry[self->last].next) = fd;
        self->last = fd;
    }
    return 0;
}

static int ends(const char *data, ssize_t size, const char *with) {
    ssize_t length = (ssize_t)strlen(with);
    return size >= length && !memcmp(data + size - length, with, length);
}

/* Have the next look tell of a descriptor if there is anything with it, though nothing comes. */
static void again(Drain *self, int fd) {
    struct epoll_event event = {.events = self->entry[fd].mask | EDGES, .data.fd = fd};
    epoll_ctl(self->epoll, EPOLL_CTL_MOD, fd, &event);
}

/* One read of a ready descriptor; an end goes to `items`. -1 with an exception. */
static int take(Drain *self, struct epoll_event *event, PyObject *items) {
    int fd = event->data.fd;
    unsigned mask = event->events;
    Entry *entry = &self->entry[fd];
    entry->fresh = mask & EPOLLOUT || !entry->taken ? WORD : NOTHING;
    if (!entry->taken || mask == EPOLLOUT) return 0;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(struct timespec))];
    } ancillary;
    struct iovec into = {.iov_base = self->buffer, .iov_len = READ_SIZE};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1};
    message.msg_control = &ancillary;
    message.msg_controllen = sizeof ancillary;
    int64_t before = now(self), wall = 0;
    if (before == -1) return -1;
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    int code = got < 0 ? errno : 0;
    if (got == READ_SIZE || code == EINTR || mask & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) again(self, fd);
    if (code == EAGAIN || code == EWOULDBLOCK || code == EINTR) return 0;
    if (got <= 0) {
        entry->fresh = NOTHING;
        if (entry->waits && put(items, hand_on(self, fd, EPOLLIN)) < 0) return -1;
        return tell(items, fd, mask, code ? PyLong_FromLong(code) : PyBytes_FromStringAndSize("", 0), before);
    }
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == STAMP) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(head), sizeof t);
        wall = t.tv_sec * S + t.tv_nsec;
        if (wall < self->oldest) self->oldest = wall;
    }
    if (keep(self, fd, got, wall, entry->looked, before) < 0) return -1;
    if (got < READ_SIZE) entry->looked = before;
    entry->fresh = BYTES;
    return 0;
}

/* What was found: a read waits, or goes to `items` with what waits before it; a word goes there. -1 with an exception. */
static int settle(Drain *self, struct epoll_event *event, int64_t floor, PyObject *items) {
    int fd = event->data.fd;
    Entry *entry = &self->entry[fd];
    char fresh = entry->fresh;
    entry->fresh = NOTHING;
    if (fresh == WORD) return tell(items, fd, event->events, Py_NewRef(Py_None), floor);
    if (fresh == NOTHING) return 0;
    Read *read = &entry->read[entry->reads - 1];
    if (read->look < floor) read->look = floor;
    Py_ssize_t begin = entry->reads > 1 ? read[-1].end : 0;
    int can_wait = self->busy && read->wall && event->events == EPOLLIN && entry->size < MOST_BYTES && entry->reads < MOST_READS &&
                   (ends(entry->data + begin, entry->size - begin, "\n\n\r\n") ||
                    ends(entry->data + begin, entry->size - begin, "\r\n\r\n\r\n"));
    return can_wait ? 0 : put(items, hand_on(self, fd, event->events));
}

/* All that a look found; -1 with an exception. */
static int drain(Drain *self, int ready, const Look *at, PyObject *items) {
    self->oldest = INT64_MAX;
    for (int i = 0; i < ready; i++)
        if (take(self, &self->ready[i], items) < 0) return -1;
    int64_t floor = floor_of(self, at);
    if (floor == -1) return -1;
    for (int i = 0; i < ready; i++)
        if (settle(self, &self->ready[i], floor, items) < 0) return -1;
    return 0;
}

/* Sleep until so long after the last look that found something, where that is before `limit`. */
static int rest(Drain *self, int64_t limit) {
    int64_t until = self->found + REST;
    if (until >= limit) return 0;
    int64_t at = now(self);
    if (at == -1) return -1;
    if (at < until) {
        struct timespec left = span(until - at);
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&left, NULL); /* cut short by a signal it is a shorter rest */
        Py_END_ALLOW_THREADS
    }
    return 0;
}

/* So many were ready: how busy it is. */
static void count(Drain *self, int ready, int64_t at) {
    self->found = at;
    self->counted += ready;
    if (at - self->since < SPAN) return;
    self->busy = at - self->since < self->counted * REST;
    self->since = at;
    self->counted = 0;
}

/* Until when to wait, with those in line in mind. */
static int64_t limit_of(Drain *self, int64_t limit) {
    int64_t until = self->first < 0 ? limit : self->entry[self->first].since + self->patience;
    return until < limit ? until : limit;
}

/* Hand on what has waited long enough, or almost, a few streams at a time; -1 with an exception. */
static int let_go(Drain *self, int64_t at, PyObject *items) {
    for (int given = 0; given < MOST && self->first >= 0;) {
        Entry *entry = &self->entry[self->first];
        if (entry->since + self->patience - self->patience / 4 > at) break;
        given += entry->reads;
        if (put(items, hand_on(self, self->first, EPOLLIN)) < 0) return -1;
    }
    return 0;
}

static PyObject *drain_wait(Drain *self, PyObject *args) {
    PyObject *wake, *items;
    int eager;
    int64_t wake_ns = INT64_MAX, woke = 0;
    Look at = {0};
    if (!PyArg_ParseTuple(args, "Op:wait", &wake, &eager)) return NULL;
    if (wake != Py_None && (wake_ns = PyLong_AsLongLong(wake)) == -1 && PyErr_Occurred()) return NULL;
    if (!(items = PyList_New(0))) return NULL;
    if (self->warm && self->first >= 0) {
        if ((woke = now(self)) == -1 || let_go(self, woke, items) < 0) goto failed;
    }
    self->warm = 0;
    while (!PyList_GET_SIZE(items)) {
        int64_t limit = limit_of(self, wake_ns);
        if (self->busy && !eager && rest(self, limit) < 0) goto failed;
        int n = look(self, limit, &at);
        if (n < 0) goto failed;
        woke = at.woke;
        if (n > 0) count(self, n, woke);
        if (n > 0 && drain(self, n, &at, items) < 0) goto failed;
        self->warm = PyList_GET_SIZE(items) > 0;
        if (self->first >= 0 && self->entry[self->first].since + self->patience <= woke && let_go(self, woke, items) < 0)
            goto failed;
        if (n == 0 || woke >= wake_ns) break;
    }
    return Py_BuildValue("NL", items, (long long)woke);
failed:
    Py_DECREF(items);
    return NULL;
}

static PyObject *drain_held(Drain *self, PyObject *args) {
    int fd;
    if (!PyArg_ParseTuple(args, "i:held", &fd)) return NULL;
    if (fd < 0 || fd >= self->entries || !self->entry[fd].waits) Py_RETURN_NONE;
    return hand_on(self, fd, EPOLLIN);
}

/* Reading the commonest read. */

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static PyObject *whole_event(PyObject *Py_UNUSED(module), PyObject *read) {
    static PyObject *plain;
    char *data;
    Py_ssize_t size, cut = 0, chunk = 0;
    if (PyBytes_AsStringAndSize(read, &data, &size) < 0) return NULL;
    for (; cut < size && cut < 7 && hex_digit(data[cut]) >= 0; cut++) chunk = 16 * chunk + hex_digit(data[cut]);
    if (cut == 0 || cut > 6 || chunk != size - cut - 4 || memcmp(data + cut, "\r\n", 2)) Py_RETURN_NONE;
    const char *at = data + cut + 2, *end = data + size, *name = NULL, *name_end = NULL;
    if (end - at > 7 && !memcmp(at, "event: ", 7)) {
        name = at + 7;
        for (name_end = name; name_end < end && *name_end > 31 && *name_end < 127; name_end++);
        if (name_end == name || name_end == end || *name_end != '\n') Py_RETURN_NONE;
        at = name_end + 1;
    }
    if (end - at < 10 || memcmp(at, "data: ", 6)) Py_RETURN_NONE;
    at += 6;
    const char *stop = memchr(at, '\n', end - at), *line_end = stop;
    if (!stop) Py_RETURN_NONE;
    int crlf = stop > at && stop[-1] == '\r';
    if (crlf ? end - stop != 5 || memcmp(stop, "\n\r\n\r\n", 5) : end - stop != 4 || memcmp(stop, "\n\n\r\n", 4))
        Py_RETURN_NONE;
    line_end -= crlf;
    if (memchr(at, '\r', line_end - at)) Py_RETURN_NONE;
    if (!plain && !(plain = PyUnicode_InternFromString("message"))) return NULL;
    if (!name) return Py_BuildValue("Oy#", plain, at, (Py_ssize_t)(line_end - at));
    return Py_BuildValue("s#y#", name, (Py_ssize_t)(name_end - name), at, (Py_ssize_t)(line_end - at));
}

static int tail_of(const char *at, const char *end, int bytes) {
    if (end - at < bytes) return 0;
    for (int i = 0; i < bytes; i++)
        if (((unsigned char)at[i] & 0xC0) != 0x80) return 0;
    return 1;
}

/* How many bytes the next character of a JSON string takes, as src/streamgauge/alike.py has it; 0: none is there. */
static int character(const char *at, const char *end) {
    unsigned char c = *at, next = at + 1 < end ? at[1] : 0;
    if (c == '\\') {
        if (next != 'u') return next && strchr("\"\\/bfnrt", next) ? 2 : 0;
        for (int i = 2; i < 6; i++)
            if (at + i >= end || hex_digit(at[i]) < 0) return 0;
        return hex_digit(at[2]) == 13 && hex_digit(at[3]) >= 8 ? 0 : 6; /* no surrogate */
    }
    if (c < 0x80) return c >= 32 && c != '"';
    if (c < 0xE0) return c >= 0xC2 && tail_of(at + 1, end, 1) ? 2 : 0;
    if (c < 0xF0) return (c != 0xE0 || next >= 0xA0) && (c != 0xED || next < 0xA0) && tail_of(at + 1, end, 2) ? 3 : 0;
    return c <= 0xF4 && (c != 0xF0 || next >= 0x90) && (c != 0xF4 || next < 0x90) && tail_of(at + 1, end, 3) ? 4 : 0;
}

/* Where what may stand in a JSON string ends. */
static const char *string_until(const char *at, const char *end) {
    for (int bytes; at < end && (bytes = character(at, end)); at += bytes);
    return at;
}

static const char *blank_until(const char *at, const char *end) {
    while (at < end && *at == ' ') at++;
    return at;
}

static int begins(const char *at, const char *end, PyObject *with) {
    return end - at >= PyBytes_GET_SIZE(with) && !memcmp(at, PyBytes_AS_STRING(with), PyBytes_GET_SIZE(with));
}

/* Whether `at` .. `end` is one chunk: head, some text, middle, padding, tail. */
static int is_alike(const char *at, const char *end, PyObject *head, PyObject *middle, PyObject *tail, int blanks) {
    Py_ssize_t size = end - at, cut = 0, chunk = 0;
    for (; cut < size && cut < 7 && hex_digit(at[cut]) >= 0; cut++) chunk = 16 * chunk + hex_digit(at[cut]);
    if (size >= READ_SIZE || cut == 0 || cut > 6 || chunk != size - cut - 4 || memcmp(at + cut, "\r\n", 2)) return 0;
    at += cut + 2;
    if (!begins(at, end, head)) return 0;
    at += PyBytes_GET_SIZE(head);
    const char *quote = string_until(at, end), *behind = end - PyBytes_GET_SIZE(tail);
    if (quote == at || !begins(quote, end, middle)) return 0;
    at = quote + PyBytes_GET_SIZE(middle);
    if (at > behind || !begins(behind, end, tail)) return 0;
    return (blanks ? blank_until(at, behind) : string_until(at, behind)) == behind;
}

static PyObject *alike(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *data, *reads, *head, *middle, *tail;
    int first, blanks, found = 0;
    if (!PyArg_ParseTuple(args, "SO!iSSSp:alike", &data, &PyTuple_Type, &reads, &first, &head, &middle, &tail, &blanks))
        return NULL;
    Py_ssize_t at = 0, end;
    for (Py_ssize_t i = first ? first - 1 : 0; i < PyTuple_GET_SIZE(reads); i++, at = end) {
        PyObject *read = PyTuple_GET_ITEM(reads, i);
        if (!PyTuple_Check(read) || PyTuple_GET_SIZE(read) != 3) break;
        end = PyLong_AsSsize_t(PyTuple_GET_ITEM(read, 0));
        if (end < at || end > PyBytes_GET_SIZE(data)) break;
        if (i < first) continue;
        if (!is_alike(PyBytes_AS_STRING(data) + at, PyBytes_AS_STRING(data) + end, head, middle, tail, blanks))
            break;
        found++;
    }
    return PyErr_Occurred() ? NULL : PyLong_FromLong(found);
}

/* Life. */

/* Nothing to do: a signal's handler ends the sleep, and `look` sees that. */
static PyObject *drain_on_continued(Drain *Py_UNUSED(self), PyObject *Py_UNUSED(args)) {
    Py_RETURN_NONE;
}

static PyObject *drain_close(Drain *self, PyObject *Py_UNUSED(args)) {
    if (self->epoll >= 0) close(self->epoll);
    if (self->schedstat >= 0) close(self->schedstat);
    self->epoll = self->schedstat = -1;
    Py_RETURN_NONE;
}

static int drain_init(Drain *self, PyObject *args, PyObject *names) {
    PyObject *clock = NULL, *wall = NULL;
    if ((names && PyDict_GET_SIZE(names)) || !PyArg_ParseTuple(args, "|OO:Drain", &clock, &wall)) return -1;
    if (self->buffer) {
        PyErr_SetString(PyExc_RuntimeError, "a Drain is made once");
        return -1;
    }
    self->clock = Py_XNewRef(clock);
    self->wall = Py_XNewRef(wall);
    self->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->room = 64;
    self->ready = PyMem_Malloc(self->room * sizeof *self->ready);
    self->buffer = PyMem_Malloc(READ_SIZE);
    if (!self->ready || !self->buffer) {
        PyErr_NoMemory();
        return -1;
    }
    run_delay(self);
    self->first = self->last = -1;
    self->patience = PATIENCE;
    self->floor = self->found = self->since = now(self);
    return self->floor == -1 ? -1 : 0;
}

static PyObject *drain_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(names)) {
    Drain *self = (Drain *)type->tp_alloc(type, 0);
    if (self) self->epoll = self->schedstat = -1;
    return (PyObject *)self;
}

static void drain_dealloc(Drain *self) {
    Py_XDECREF(drain_close(self, NULL));
    Py_XDECREF(self->clock);
    Py_XDECREF(self->wall);
    PyMem_Free(self->ready);
    for (int fd = 0; fd < self->entries; fd++) {
        PyMem_Free(self->entry[fd].data);
        PyMem_Free(self->entry[fd].read);
    }
    PyMem_Free(self->entry);
    PyMem_Free(self->buffer);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *drain_repr(Drain *self) {
    return PyUnicode_FromFormat("<Compiled drain of %d descriptors>", self->size);
}

static PyMethodDef methods[] = {
    {"register", (PyCFunction)drain_register, METH_VARARGS, "Look at a descriptor from now on."},
    {"watch", (PyCFunction)drain_watch, METH_VARARGS, "Tell when there is something with a descriptor, and leave the reading to others."},
    {"modify", (PyCFunction)drain_modify, METH_VARARGS, "Other events of a descriptor."},
    {"unregister", (PyCFunction)drain_unregister, METH_VARARGS, "Forget a descriptor."},
    {"wait", (PyCFunction)drain_wait, METH_VARARGS, "What came, and when the last look began."},
    {"held", (PyCFunction)drain_held, METH_VARARGS, "What waits of a descriptor, or None."},
    {"on_continued", (PyCFunction)drain_on_continued, METH_NOARGS, "This process was stopped and goes on."},
    {"close", (PyCFunction)drain_close, METH_NOARGS, "Give back what the system lent."},
    {0},
};

static PyMemberDef members[] = {
    {"patience", T_LONGLONG, offsetof(Drain, patience), 0, "So long a read waits at most, in ns."},
    {0},
};

static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "streamgauge._drain.Drain",
    .tp_doc = "Waits and reads; streamgauge.drain says how.",
    .tp_basicsize = sizeof(Drain),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = drain_new,
    .tp_init = (initproc)drain_init,
    .tp_dealloc = (destructor)drain_dealloc,
    .tp_repr = (reprfunc)drain_repr,
    .tp_methods = methods,
    .tp_members = members,
};

static PyMethodDef functions[] = {
    {"whole_event", whole_event, METH_O, "The event (type, data) of a read that is one chunk with one event, else None."},
    {"alike", alike, METH_VARARGS, "How many reads, from the first on, are like a known event; streamgauge.alike says how."},
    {0},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "streamgauge._drain", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__drain(void) {
    PyObject *made = PyModule_Create(&module);
    if (!made || PyType_Ready(&type) < 0 || PyModule_AddObjectRef(made, "Drain", (PyObject *)&type) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
