/* What a batch of tickets needs many thousand times a second, over whole lists at once.

   Each function is the twin of one in bulk_python.py, byte for byte, which is used where this
   was not compiled: tests compare the two. Only the stable ABI of Python 3.11 is used.

   Source: docs/decisions/0024-a-few-functions-in-c.md. */

#ifndef BISTRO_BULK_H
#define BISTRO_BULK_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* The functions of the module; as bulk_python.py says. */
PyObject *add_prints(PyObject *module, PyObject *args);
PyObject *cut_alike(PyObject *module, PyObject *args);
PyObject *joined_columns(PyObject *module, PyObject *args);
PyObject *keyed_digests(PyObject *module, PyObject *args);
PyObject *known_prints(PyObject *module, PyObject *args);
PyObject *leaf_hashes(PyObject *module, PyObject *list);
PyObject *piece_leaves(PyObject *module, PyObject *pieces);
PyObject *proof_texts(PyObject *module, PyObject *args);
PyObject *sorted_rows(PyObject *module, PyObject *args);
PyObject *spelled_entries(PyObject *module, PyObject *args);
PyObject *tree_levels(PyObject *module, PyObject *args);

/* SHA-256(0x00 || data), with or without the interpreter's lock. */
void hash_leaf_of(unsigned char *out, const char *data, Py_ssize_t size);

/* Finds SHA-256 in what hashlib is linked with; false with an exception. */
int find_sha256(void);

/* Copies; returns what is behind. */
static inline char *
put(char *out, const char *data, Py_ssize_t size)
{
    memcpy(out, data, (size_t)size);
    return out + size;
}

/* The bytes of an item; NULL with an exception where it is something else. */
static inline char *
item_bytes(PyObject *list, Py_ssize_t at, Py_ssize_t *size)
{
    char *data;
    PyObject *item = PyList_GetItem(list, at);
    if (item == NULL || PyBytes_AsStringAndSize(item, &data, size) < 0)
        return NULL;
    return data;
}

#endif
