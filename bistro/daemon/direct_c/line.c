/* The type of connections. */

#include "direct.h"

#include <stddef.h>

PyTypeObject *line_type;

static PyObject *
line_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    PyObject *self = PyType_GenericNew(type, args, named);
    if (self != NULL) {
        ((Line *)self)->fd = -1;
        ((Line *)self)->whole_size = -1;
    }
    return self;
}

static int
line_traverse(PyObject *self, visitproc visit, void *arg)
{
    Line *line = (Line *)self;
    Py_VISIT(line->bucket);
    Py_VISIT(line->gate);
    Py_VISIT(line->head);
    Py_VISIT(line->waits);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
line_clear(PyObject *self)
{
    Line *line = (Line *)self;
    Py_CLEAR(line->bucket);
    Py_CLEAR(line->gate);
    Py_CLEAR(line->head);
    Py_CLEAR(line->waits);
    return 0;
}

static void
line_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    line_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef MEMBERS[] = {
    {"bucket", T_OBJECT, offsetof(Line, bucket), 0, NULL},
    {"fd", T_INT, offsetof(Line, fd), 0, NULL},
    {"gate", T_OBJECT, offsetof(Line, gate), 0, NULL},
    {"head", T_OBJECT, offsetof(Line, head), 0, NULL},
    {"is_held", T_BOOL, offsetof(Line, is_held), 0, NULL},
    {"since_s", T_DOUBLE, offsetof(Line, since_s), 0, NULL},
    {"waits", T_OBJECT, offsetof(Line, waits), 0, NULL},
    {"whole_size", T_PYSSIZET, offsetof(Line, whole_size), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_new, line_new},       {Py_tp_traverse, line_traverse}, {Py_tp_clear, line_clear},
    {Py_tp_dealloc, line_dealloc}, {Py_tp_members, MEMBERS},      {0, NULL},
};

PyType_Spec LINE_SPEC = {
    .name = "bistro.daemon._direct.Line",
    .basicsize = sizeof(Line),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = SLOTS,
};
