/* Polls, reads and answers the sockets of many lines. */

#include "direct.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 64        /* asked for at once; epoll puts those that it told behind the others */
#define MOST_ROUNDS 16   /* of so many, before other work of the event loop has its turn */
#define READ_SIZE 262144
#define MOST_TOLD 1048576 /* bytes that may wait for Python, which counts them for its limits */

typedef struct {
    PyObject_HEAD
    int fd;
    int room;
    Line **lines; /* by file descriptor; each is a strong reference */
    char *buffer;
} Poller;

/* Where what is read goes: the burst of one gate, which most lines share. */
typedef struct {
    PyObject *gate;
    PyObject *burst;
    PyObject *guests;
    PyObject *bodies;
} Place;

static void
leave(Place *place)
{
    Py_CLEAR(place->gate);
    Py_CLEAR(place->burst);
    Py_CLEAR(place->guests);
    Py_CLEAR(place->bodies);
}

static PyObject *
poller_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    PyObject *made = PyType_GenericNew(type, args, named);
    Poller *self = (Poller *)made;
    if (self == NULL)
        return NULL;
    self->fd = -1;
    self->buffer = PyMem_Malloc(READ_SIZE);
    if (self->buffer == NULL) {
        Py_DECREF(made);
        return PyErr_NoMemory();
    }
    self->fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

static void
shut(Poller *self)
{
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
    int room = self->room;
    self->room = 0;
    for (int fd = 0; fd < room; fd++)
        Py_CLEAR(self->lines[fd]);
}

static void
poller_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Poller *self = (Poller *)object;
    shut(self);
    PyMem_Free(self->lines);
    PyMem_Free(self->buffer);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *
poller_close(PyObject *object, PyObject *nothing)
{
    shut((Poller *)object);
    Py_RETURN_NONE;
}

static PyObject *
poller_fileno(PyObject *object, PyObject *nothing)
{
    return PyLong_FromLong(((Poller *)object)->fd);
}

/* The line that an argument is; NULL with an exception where it is none of this poller's. */
static Line *
known(Poller *self, PyObject *object)
{
    if (PyObject_TypeCheck(object, line_type)) {
        Line *line = (Line *)object;
        if (line->fd >= 0 && line->fd < self->room && self->lines[line->fd] == line)
            return line;
    }
    PyErr_SetString(PyExc_ValueError, "not a line of this poller");
    return NULL;
}

static PyObject *
control(Poller *self, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(self->fd, operation, fd, &event) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static int
grow(Poller *self, int least)
{
    int room = least > 2 * self->room ? least : 2 * self->room;
    Line **lines = PyMem_Realloc(self->lines, (size_t)room * sizeof *lines);
    if (lines == NULL)
        return 0;
    memset(lines + self->room, 0, (size_t)(room - self->room) * sizeof *lines);
    self->lines = lines;
    self->room = room;
    return 1;
}

static PyObject *
poller_add(PyObject *object, PyObject *added)
{
    Poller *self = (Poller *)object;
    Line *line = (Line *)added;
    if (!PyObject_TypeCheck(added, line_type) || line->fd < 0 || self->fd < 0) {
        PyErr_SetString(PyExc_ValueError, "expected a line with a file descriptor");
        return NULL;
    }
    if (line->fd < self->room && self->lines[line->fd] != NULL) {
        PyErr_SetString(PyExc_ValueError, "there is a line with this file descriptor");
        return NULL;
    }
    /* First, so that there is room for real descriptors only. */
    PyObject *done = control(self, EPOLL_CTL_ADD, line->fd, EPOLLIN);
    if (done != NULL && line->fd >= self->room && !grow(self, line->fd + 1)) {
        Py_DECREF(done);
        epoll_ctl(self->fd, EPOLL_CTL_DEL, line->fd, NULL);
        return PyErr_NoMemory();
    }
    if (done != NULL) {
        Py_INCREF(added);
        self->lines[line->fd] = line;
    }
    return done;
}

static PyObject *
poller_watch(PyObject *object, PyObject *args)
{
    PyObject *of;
    int reading, writing;
    if (!PyArg_ParseTuple(args, "Opp", &of, &reading, &writing))
        return NULL;
    Poller *self = (Poller *)object;
    Line *line = known(self, of);
    uint32_t events = (reading ? EPOLLIN : 0u) | (writing ? EPOLLOUT : 0u);
    return line == NULL ? NULL : control(self, EPOLL_CTL_MOD, line->fd, events);
}

static PyObject *
poller_remove(PyObject *object, PyObject *removed)
{
    Poller *self = (Poller *)object;
    Line *line = known(self, removed);
    if (line == NULL)
        return NULL;
    int fd = line->fd;
    PyObject *done = control(self, EPOLL_CTL_DEL, fd, 0);
    line->fd = -1;
    self->lines[fd] = NULL;
    Py_DECREF(removed);
    return done;
}

static int
has_token(Line *line, double now_s)
{
    if (!is_something(line->bucket))
        return 1;
    PyObject *wait_s = PyObject_CallMethod(line->bucket, "take", "id", 1, now_s);
    int has = wait_s != NULL && PyObject_Not(wait_s) == 1;
    Py_XDECREF(wait_s);
    return has;
}

/* The gate's burst becomes the place; false with an exception. */
static int
enter(Place *place, PyObject *gate)
{
    if (place->gate == gate)
        return 1;
    leave(place);
    place->burst = PyObject_GetAttrString(gate, "burst");
    if (place->burst == Py_None) {
        Py_CLEAR(place->burst);
        place->burst = PyObject_CallMethod(gate, "open", NULL);
    }
    if (place->burst == NULL)
        return 0;
    place->guests = PyObject_GetAttrString(place->burst, "guests");
    place->bodies = PyObject_GetAttrString(place->burst, "bodies");
    if (place->guests == NULL || place->bodies == NULL)
        return 0;
    Py_INCREF(gate);
    place->gate = gate;
    return 1;
}

/* Whether the bytes are the same request again, with a token for it, and have joined a burst. */
static int
gathered(Line *line, const char *data, Py_ssize_t size, double now_s, Place *place)
{
    char *head;
    Py_ssize_t head_size;
    if (size != line->whole_size || line->is_held || is_something(line->waits) ||
        !is_something(line->gate) || !is_something(line->head))
        return 0;
    if (PyBytes_AsStringAndSize(line->head, &head, &head_size) < 0 || head_size > size ||
        memcmp(data, head, (size_t)head_size) != 0 || !has_token(line, now_s))
        return 0;
    if (!enter(place, line->gate))
        return 0;
    PyObject *body = PyBytes_FromStringAndSize(data + head_size, size - head_size);
    int done = body != NULL && PyList_Append(place->bodies, body) == 0;
    Py_XDECREF(body);
    if (!done)
        return 0;
    if (PyList_Append(place->guests, (PyObject *)line) < 0) {
        /* Guests and bodies must stay of one length. */
        Py_ssize_t count = PyList_Size(place->bodies);
        PyList_SetSlice(place->bodies, count - 1, count, NULL);
        return 0;
    }
    Py_XDECREF(line->waits);
    Py_INCREF(place->burst);
    line->waits = place->burst;
    line->since_s = now_s;
    return 1;
}

static int
tell(PyObject *others, Line *line, PyObject *what)
{
    PyObject *pair = what == NULL ? NULL : PyTuple_Pack(2, (PyObject *)line, what);
    int done = pair == NULL ? -1 : PyList_Append(others, pair);
    Py_XDECREF(pair);
    Py_XDECREF(what);
    return done;
}

/* Reads once, and counts bytes that are told; -1 with an exception where there is no memory to
   say what was read. */
static int
take(Poller *self, Line *line, double now_s, Place *place, PyObject *others, Py_ssize_t *told)
{
    Py_ssize_t size = recv(line->fd, self->buffer, READ_SIZE, MSG_DONTWAIT);
    if (size < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return 0;
        return tell(others, line, PyLong_FromLong(errno));
    }
    if (gathered(line, self->buffer, size, now_s, place))
        return 0;
    *told += size;
    /* What failed above fails again where Python does the same, and is reported there. */
    PyErr_Clear();
    return tell(others, line, PyBytes_FromStringAndSize(self->buffer, size));
}

/* Does what an event asks for; -1 with an exception. */
static int
heed(Poller *self, struct epoll_event *event, double now_s, Place *place, PyObject *others,
     Py_ssize_t *told)
{
    /* Looked up each time: what Python does in between may have removed it. */
    int fd = event->data.fd, done = 0;
    Line *line = fd < self->room ? self->lines[fd] : NULL;
    if (line == NULL)
        return 0;
    Py_INCREF((PyObject *)line);
    if (event->events & EPOLLOUT) {
        Py_INCREF(Py_None);
        done = tell(others, line, Py_None);
    }
    if (done == 0 && (event->events & ~(uint32_t)EPOLLOUT))
        done = take(self, line, now_s, place, others, told);
    Py_DECREF((PyObject *)line);
    return done;
}

static PyObject *
poller_receive(PyObject *object, PyObject *now)
{
    Poller *self = (Poller *)object;
    struct epoll_event events[EVENTS];
    Place place = {NULL, NULL, NULL, NULL};
    double now_s = PyFloat_AsDouble(now);
    if (now_s == -1.0 && PyErr_Occurred())
        return NULL;
    PyObject *others = PyList_New(0);
    Py_ssize_t told = 0;
    int done = others == NULL ? -1 : 0, count = EVENTS;
    for (int round = 0; done == 0 && count == EVENTS && round < MOST_ROUNDS; round++) {
        count = epoll_wait(self->fd, events, EVENTS, 0);
        if (count < 0 && errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            done = -1;
        }
        for (int at = 0; at < count && done == 0; at++) {
            done = heed(self, &events[at], now_s, &place, others, &told);
            if (told >= MOST_TOLD)
                count = 0; /* what is readable still is told next time */
        }
    }
    leave(&place);
    if (done < 0)
        Py_CLEAR(others);
    return others;
}

/* Sends what it can; how much of it that was. */
static Py_ssize_t
sent(PyObject *guest, const char *data, Py_ssize_t size, double now_s)
{
    Line *line = (Line *)guest;
    if (!PyObject_TypeCheck(guest, line_type) || line->fd < 0 || line->is_held)
        return 0;
    Py_ssize_t done = send(line->fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done == size) {
        line->since_s = now_s;
        Py_CLEAR(line->waits);
    }
    return done < 0 ? 0 : done;
}

static PyObject *
poller_send_all(PyObject *object, PyObject *args)
{
    PyObject *guests, *answers;
    double now_s;
    if (!PyArg_ParseTuple(args, "OOd", &guests, &answers, &now_s))
        return NULL;
    Py_ssize_t count = PyList_Size(guests);
    if (count < 0 || PyList_Size(answers) != count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "as many answers as guests were expected");
        return NULL;
    }
    PyObject *others = PyList_New(0);
    for (Py_ssize_t at = 0; others != NULL && at < count; at++) {
        PyObject *guest = PyList_GetItem(guests, at), *answer = PyList_GetItem(answers, at);
        char *data;
        Py_ssize_t size;
        if (guest == NULL || answer == NULL || PyBytes_AsStringAndSize(answer, &data, &size) < 0) {
            Py_CLEAR(others);
            break;
        }
        if (guest == Py_None)
            continue;
        Py_INCREF(guest);
        Py_ssize_t done = sent(guest, data, size, now_s);
        if (done < size) {
            PyObject *pair = Py_BuildValue("(Oy#)", guest, data + done, size - done);
            if (pair == NULL || PyList_Append(others, pair) < 0)
                Py_CLEAR(others);
            Py_XDECREF(pair);
        }
        Py_DECREF(guest);
    }
    return others;
}

static PyMethodDef METHODS[] = {
    {"add", poller_add, METH_O, NULL},
    {"close", poller_close, METH_NOARGS, NULL},
    {"fileno", poller_fileno, METH_NOARGS, NULL},
    {"receive", poller_receive, METH_O, NULL},
    {"remove", poller_remove, METH_O, NULL},
    {"send_all", poller_send_all, METH_VARARGS, NULL},
    {"watch", poller_watch, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, poller_new},
    {Py_tp_dealloc, poller_dealloc},
    {Py_tp_methods, METHODS},
    {0, NULL},
};

PyType_Spec POLLER_SPEC = {
    .name = "bistro.daemon._direct.Poller",
    .basicsize = sizeof(Poller),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = SLOTS,
};
