/* Rows of the duplicate index, and the fingerprints of its digests. */

#include "bulk.h"

#define PRINT_SIZE 3

/* Sorts rows by merging neighbouring runs, so what is mostly in order is quick. */
static void
sort(char *rows, char *spare, Py_ssize_t count, Py_ssize_t width)
{
    for (;;) {
        Py_ssize_t runs = 0, at = 0, out = 0;
        while (at < count) {
            Py_ssize_t left = at, middle, right, stop;
            for (at++; at < count && memcmp(rows + (at - 1) * width, rows + at * width,
                                            (size_t)width) <= 0;)
                at++;
            middle = right = stop = at;
            if (at < count)
                for (stop++; stop < count && memcmp(rows + (stop - 1) * width,
                                                    rows + stop * width, (size_t)width) <= 0;)
                    stop++;
            at = stop;
            runs++;
            while (left < middle && right < stop) {
                int is_left = memcmp(rows + left * width, rows + right * width, (size_t)width) <= 0;
                memcpy(spare + out++ * width, rows + (is_left ? left++ : right++) * width,
                       (size_t)width);
            }
            memcpy(spare + out * width, rows + left * width, (size_t)((middle - left) * width));
            out += middle - left;
            memcpy(spare + out * width, rows + right * width, (size_t)((stop - right) * width));
            out += stop - right;
        }
        memcpy(rows, spare, (size_t)(count * width));
        if (runs <= 1)
            return;
    }
}

PyObject *
sorted_rows(PyObject *module, PyObject *args)
{
    const char *data;
    Py_ssize_t size, width;
    if (!PyArg_ParseTuple(args, "y#n", &data, &size, &width))
        return NULL;
    if (width < 1 || size % width) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are no rows of %zd", size, width);
        return NULL;
    }
    PyObject *found = PyBytes_FromStringAndSize(data, size);
    char *spare = PyMem_Malloc((size_t)size + 1);
    if (found == NULL || spare == NULL) {
        Py_XDECREF(found);
        PyMem_Free(spare);
        return PyErr_NoMemory();
    }
    char *rows = PyBytes_AsString(found);
    /* Nobody else has seen the new object yet. */
    Py_BEGIN_ALLOW_THREADS
    sort(rows, spare, size / width, width);
    Py_END_ALLOW_THREADS
    PyMem_Free(spare);
    return found;
}

/* The bucket of a digest: its first `bits` bits. A fingerprint there is its bytes 4 to 6. */
static Py_ssize_t
bucket_of(const char *digest, int bits)
{
    const unsigned char *from = (const unsigned char *)digest;
    uint32_t word = (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 |
                    from[3];
    return (Py_ssize_t)(word >> (32 - bits));
}

/* Reads `buckets, digests, width, bits`; false with an exception. */
static int
parse_prints(PyObject *args, PyObject **buckets, const char **digests, Py_ssize_t *count,
             Py_ssize_t *width, int *bits)
{
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Oy#ni", buckets, digests, &size, width, bits))
        return 0;
    if (*width < 7 || size % *width || *bits < 1 || *bits > 32) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are no digests of %zd", size, *width);
        return 0;
    }
    *count = size / *width;
    return 1;
}

PyObject *
add_prints(PyObject *module, PyObject *args)
{
    PyObject *buckets;
    const char *digests;
    Py_ssize_t count, width, size;
    int bits;
    if (!parse_prints(args, &buckets, &digests, &count, &width, &bits))
        return NULL;
    for (Py_ssize_t at = 0; at < count; at++) {
        const char *digest = digests + at * width;
        Py_ssize_t bucket = bucket_of(digest, bits);
        char *old = item_bytes(buckets, bucket, &size);
        PyObject *new = old == NULL ? NULL : PyBytes_FromStringAndSize(NULL, size + PRINT_SIZE);
        if (new == NULL)
            return NULL;
        put(put(PyBytes_AsString(new), old, size), digest + 4, PRINT_SIZE);
        PyList_SetItem(buckets, bucket, new);
    }
    Py_RETURN_NONE;
}

static int
contains(const char *prints, Py_ssize_t size, const char *print)
{
    /* At any place, as Python's `in`: what only seems to be there is looked for on disk. */
    for (Py_ssize_t at = 0; at + PRINT_SIZE <= size; at++)
        if (memcmp(prints + at, print, PRINT_SIZE) == 0)
            return 1;
    return 0;
}

PyObject *
known_prints(PyObject *module, PyObject *args)
{
    PyObject *buckets;
    const char *digests;
    Py_ssize_t count, width, size;
    int bits;
    if (!parse_prints(args, &buckets, &digests, &count, &width, &bits))
        return NULL;
    PyObject *found = PyList_New(0);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        const char *digest = digests + at * width;
        char *prints = item_bytes(buckets, bucket_of(digest, bits), &size);
        PyObject *place = NULL;
        if (prints != NULL && !contains(prints, size, digest + 4))
            continue;
        if (prints == NULL || (place = PyLong_FromSsize_t(at)) == NULL ||
            PyList_Append(found, place) < 0)
            Py_CLEAR(found);
        Py_XDECREF(place);
    }
    return found;
}
