/* Connections whose sockets are polled, read, compared and answered in one call for all.

   Nothing here understands a request: bytes that are those of the request before but for its
   body join a burst; all else goes to Python as it came. Only the stable ABI of Python 3.11 and
   Linux's epoll are used.

   Source: docs/decisions/0030-connections-read-in-bulk.md. */

#ifndef BISTRO_DIRECT_H
#define BISTRO_DIRECT_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>

/* A connection; what its members mean is said in direct_python.py. */
typedef struct {
    PyObject_HEAD
    PyObject *bucket;
    PyObject *gate;
    PyObject *head;
    PyObject *waits;
    Py_ssize_t whole_size;
    double since_s;
    int fd;
    char is_held;
} Line;

extern PyType_Spec LINE_SPEC;
extern PyType_Spec POLLER_SPEC;
extern PyTypeObject *line_type;

/* Whether there is such an object, and it is not None. */
static inline int
is_something(PyObject *object)
{
    return object != NULL && object != Py_None;
}

#endif
