/* The module itself. */

#include "direct.h"

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_direct", NULL, -1, NULL};

static int
add_type(PyObject *module, const char *name, PyObject *type)
{
    Py_XINCREF(type);
    if (type != NULL && PyModule_AddObject(module, name, type) == 0)
        return 0;
    Py_XDECREF(type);
    return -1;
}

PyMODINIT_FUNC
PyInit__direct(void)
{
    PyObject *module = PyModule_Create(&MODULE);
    if (module == NULL)
        return NULL;
    /* Kept as long as the process lives. */
    line_type = (PyTypeObject *)PyType_FromSpec(&LINE_SPEC);
    PyObject *poller = PyType_FromSpec(&POLLER_SPEC);
    if (add_type(module, "Line", (PyObject *)line_type) < 0 ||
        add_type(module, "Poller", poller) < 0)
        Py_CLEAR(module);
    Py_XDECREF(poller);
    return module;
}
