/* The module itself. */

#include "bulk.h"

static PyMethodDef METHODS[] = {
    {"add_prints", add_prints, METH_VARARGS, NULL},
    {"cut_alike", cut_alike, METH_VARARGS, NULL},
    {"joined_columns", joined_columns, METH_VARARGS, NULL},
    {"keyed_digests", keyed_digests, METH_VARARGS, NULL},
    {"known_prints", known_prints, METH_VARARGS, NULL},
    {"leaf_hashes", leaf_hashes, METH_O, NULL},
    {"piece_leaves", piece_leaves, METH_O, NULL},
    {"proof_texts", proof_texts, METH_VARARGS, NULL},
    {"sorted_rows", sorted_rows, METH_VARARGS, NULL},
    {"spelled_entries", spelled_entries, METH_VARARGS, NULL},
    {"tree_levels", tree_levels, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_bulk", NULL, -1, METHODS};

PyMODINIT_FUNC
PyInit__bulk(void)
{
    return find_sha256() ? PyModule_Create(&MODULE) : NULL;
}
