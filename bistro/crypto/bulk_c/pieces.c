/* Hashes of large pieces, several in one call, while other threads run. */

#include "bulk.h"

#define HASH_SIZE 32
#define MOST_PIECES 255

/* Takes hold of the bytes of an item, so that nobody frees or moves them; false with an error. */
static int
hold(PyObject *pieces, Py_ssize_t at, Py_buffer *view)
{
    PyObject *item = PySequence_GetItem(pieces, at);
    int is_held = item != NULL && PyObject_GetBuffer(item, view, PyBUF_SIMPLE) == 0;
    Py_XDECREF(item);
    return is_held;
}

PyObject *
piece_leaves(PyObject *module, PyObject *pieces)
{
    Py_buffer views[MOST_PIECES];
    unsigned char hashes[MOST_PIECES][HASH_SIZE];
    Py_ssize_t held = 0, count = PySequence_Size(pieces);
    PyObject *found = NULL;
    if (count < 0)
        return NULL;
    if (count > MOST_PIECES)
        return PyErr_Format(PyExc_ValueError, "expected at most %d pieces, found %zd", MOST_PIECES,
                            count);
    while (held < count && hold(pieces, held, &views[held]))
        held++;
    if (held == count) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < count; at++)
            hash_leaf_of(hashes[at], views[at].buf, views[at].len);
        Py_END_ALLOW_THREADS
        found = PyList_New(count);
    }
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        PyObject *item = PyBytes_FromStringAndSize((char *)hashes[at], HASH_SIZE);
        if (item == NULL)
            Py_CLEAR(found);
        else
            PyList_SetItem(found, at, item);
    }
    while (held > 0)
        PyBuffer_Release(&views[--held]);
    return found;
}
