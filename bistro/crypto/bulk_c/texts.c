/* Entries, records and requests as lists of texts. */

#include "bulk.h"

PyObject *
spelled_entries(PyObject *module, PyObject *args)
{
    static const char HEX[] = "0123456789abcdef";
    const char *head, *tail;
    Py_ssize_t head_size, tail_size;
    PyObject *digests;
    if (!PyArg_ParseTuple(args, "y#Oy#", &head, &head_size, &digests, &tail, &tail_size))
        return NULL;
    Py_ssize_t count = PyList_Size(digests);
    PyObject *found = count < 0 ? NULL : PyList_New(count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        Py_ssize_t size;
        char *digest = item_bytes(digests, at, &size);
        PyObject *entry =
            digest == NULL ? NULL
                           : PyBytes_FromStringAndSize(NULL, head_size + 2 * size + tail_size);
        if (entry == NULL) {
            Py_CLEAR(found);
            break;
        }
        char *out = put(PyBytes_AsString(entry), head, head_size);
        for (Py_ssize_t byte = 0; byte < size; byte++) {
            *out++ = HEX[(unsigned char)digest[byte] >> 4];
            *out++ = HEX[(unsigned char)digest[byte] & 15];
        }
        put(out, tail, tail_size);
        PyList_SetItem(found, at, entry);
    }
    return found;
}

PyObject *
cut_alike(PyObject *module, PyObject *args)
{
    const char *head;
    Py_ssize_t head_size, size, whole = 0;
    PyObject *texts;
    char *first = NULL;
    if (!PyArg_ParseTuple(args, "Oy#n", &texts, &head, &head_size, &size))
        return NULL;
    Py_ssize_t count = PyList_Size(texts), end = head_size + size;
    PyObject *found = count < 0 ? NULL : PyList_New(count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        Py_ssize_t text_size;
        char *text = item_bytes(texts, at, &text_size);
        PyObject *piece = NULL;
        if (text != NULL && at == 0) {
            first = text;
            whole = text_size;
        }
        if (text != NULL && (text_size != whole || whole < end || size < 0 ||
                             memcmp(text, head, (size_t)head_size) != 0 ||
                             memcmp(text + end, first + end, (size_t)(whole - end)) != 0)) {
            Py_DECREF(found);
            Py_RETURN_NONE;
        }
        if (text == NULL || (piece = PyBytes_FromStringAndSize(text + head_size, size)) == NULL)
            Py_CLEAR(found);
        else
            PyList_SetItem(found, at, piece);
    }
    if (found == NULL)
        return NULL;
    if (count == 0) {
        Py_DECREF(found);
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(Ny#)", found, first + end, whole - end);
}

/* The sizes of all items go to `sizes`, `width` bytes each, big-endian and one higher where
   `more` is one; their sum, or -1 with an exception. */
static Py_ssize_t
put_sizes(unsigned char *sizes, PyObject *items, Py_ssize_t count, int width, int more,
          Py_ssize_t least)
{
    Py_ssize_t total = 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        Py_ssize_t size;
        if (item_bytes(items, at, &size) == NULL)
            return -1;
        if (size < least || size + more >= (Py_ssize_t)1 << 8 * width) {
            PyErr_Format(PyExc_ValueError, "item %zd has %zd bytes", at, size);
            return -1;
        }
        for (int byte = width - 1; byte >= 0; byte--)
            *sizes++ = (unsigned char)((size + more) >> 8 * byte);
        total += size;
    }
    return total;
}

static char *
put_items(char *out, PyObject *items, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++) {
        Py_ssize_t size;
        char *item = item_bytes(items, at, &size);
        out = put(out, item, size);
    }
    return out;
}

PyObject *
joined_columns(PyObject *module, PyObject *args)
{
    PyObject *keys, *entries, *found = NULL;
    if (!PyArg_ParseTuple(args, "OO", &keys, &entries))
        return NULL;
    Py_ssize_t count = PyList_Size(keys);
    if (count < 0 || PyList_Size(entries) != count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "columns of different lengths");
        return NULL;
    }
    unsigned char *sizes = PyMem_Malloc((size_t)(3 * count + 1));
    if (sizes == NULL)
        return PyErr_NoMemory();
    Py_ssize_t of_keys = put_sizes(sizes, keys, count, 1, 1, 0);
    Py_ssize_t of_entries = of_keys < 0 ? -1 : put_sizes(sizes + count, entries, count, 2, 0, 1);
    if (of_entries >= 0)
        found = PyBytes_FromStringAndSize(NULL, 3 * count + of_keys + of_entries);
    if (found != NULL) {
        /* No code of others has run since the items were measured. */
        char *out = put(PyBytes_AsString(found), (char *)sizes, 3 * count);
        put_items(put_items(out, keys, count), entries, count);
    }
    PyMem_Free(sizes);
    return found;
}
