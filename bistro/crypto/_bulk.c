/* What a batch of tickets needs many thousand times a second, over whole lists at once.

   Each function is the twin of one in bulk.py, byte for byte, which is used where this was not
   compiled: tests compare the two. SHA-256 is the one that hashlib uses, found at import; there
   is no cryptography here. Only the stable ABI of Python 3.11 is used.

   Source: docs/decisions/0024-a-few-functions-in-c.md. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HASH_SIZE 32
#define LINE_SIZE 45 /* a hash in base64 and a line feed */
#define PRINT_SIZE 3
#define MAX_LEVELS 64
#define MAX_SIZES 16

/* OpenSSL's SHA256_CTX has 112 bytes; there is room for one that grows. */
typedef union {
    uint64_t aligned;
    unsigned char bytes[256];
} Context;

static int (*sha_init)(Context *);
static int (*sha_update)(Context *, const void *, size_t);
static int (*sha_final)(unsigned char *, Context *);

static void
hash_two(unsigned char *out, char prefix, const char *a, Py_ssize_t a_size, const char *b,
         Py_ssize_t b_size)
{
    Context context;
    sha_init(&context);
    sha_update(&context, &prefix, 1);
    sha_update(&context, a, (size_t)a_size);
    sha_update(&context, b, (size_t)b_size);
    sha_final(out, &context);
}

static char *
put(char *out, const char *data, Py_ssize_t size)
{
    memcpy(out, data, (size_t)size);
    return out + size;
}

/* The bytes of an item; NULL with an exception where it is something else. */
static char *
item_bytes(PyObject *list, Py_ssize_t at, Py_ssize_t *size)
{
    char *data;
    PyObject *item = PyList_GetItem(list, at);
    if (item == NULL || PyBytes_AsStringAndSize(item, &data, size) < 0)
        return NULL;
    return data;
}

static char *
item_hash(PyObject *list, Py_ssize_t at)
{
    Py_ssize_t size;
    char *data = item_bytes(list, at, &size);
    if (data != NULL && size != HASH_SIZE) {
        PyErr_Format(PyExc_ValueError, "expected a hash of %d bytes, found %zd", HASH_SIZE, size);
        return NULL;
    }
    return data;
}

/* A new list of `count` hashes, each made by `hash_at`, which returns false with an exception. */
static PyObject *
hashes(PyObject *source, Py_ssize_t count,
       int (*hash_at)(PyObject *source, Py_ssize_t at, unsigned char *out))
{
    unsigned char hash[HASH_SIZE];
    PyObject *found = PyList_New(count);
    if (found == NULL)
        return NULL;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *item;
        if (!hash_at(source, at, hash) ||
            (item = PyBytes_FromStringAndSize((char *)hash, HASH_SIZE)) == NULL) {
            Py_DECREF(found);
            return NULL;
        }
        PyList_SetItem(found, at, item);
    }
    return found;
}

static int
hash_leaf(PyObject *entries, Py_ssize_t at, unsigned char *out)
{
    Py_ssize_t size;
    char *entry = item_bytes(entries, at, &size);
    if (entry == NULL)
        return 0;
    hash_two(out, 0, entry, size, "", 0);
    return 1;
}

static PyObject *
leaf_hashes(PyObject *module, PyObject *entries)
{
    Py_ssize_t count = PyList_Size(entries);
    return count < 0 ? NULL : hashes(entries, count, hash_leaf);
}

static int
hash_pair(PyObject *nodes, Py_ssize_t at, unsigned char *out)
{
    char *left = item_hash(nodes, 2 * at);
    char *right = left == NULL ? NULL : item_hash(nodes, 2 * at + 1);
    if (right == NULL)
        return 0;
    hash_two(out, 1, left, HASH_SIZE, right, HASH_SIZE);
    return 1;
}

static PyObject *
parent_hashes(PyObject *module, PyObject *nodes)
{
    Py_ssize_t count = PyList_Size(nodes);
    return count < 0 ? NULL : hashes(nodes, count / 2, hash_pair);
}

static PyObject *
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

static PyObject *
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

static PyObject *
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

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static Py_ssize_t
line_size(Py_ssize_t size)
{
    return (size + 2) / 3 * 4 + 1;
}

/* Base64 and a line feed; returns what is behind it. */
static char *
put_line(char *out, const char *data, Py_ssize_t size)
{
    const unsigned char *from = (const unsigned char *)data;
    for (; size >= 3; size -= 3, from += 3) {
        uint32_t word = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        *out++ = DIGITS[word >> 18];
        *out++ = DIGITS[word >> 12 & 63];
        *out++ = DIGITS[word >> 6 & 63];
        *out++ = DIGITS[word & 63];
    }
    if (size > 0) {
        uint32_t word = (uint32_t)from[0] << 16 | (size > 1 ? (uint32_t)from[1] << 8 : 0);
        *out++ = DIGITS[word >> 18];
        *out++ = DIGITS[word >> 12 & 63];
        *out++ = size > 1 ? DIGITS[word >> 6 & 63] : '=';
        *out++ = '=';
    }
    *out++ = '\n';
    return out;
}

/* The nodes of a batch's tree, each spelled when it is first wanted: half of all paths have the
   one below the root in common, a quarter the next, ... */
typedef struct {
    int count;
    Py_ssize_t first[MAX_LEVELS];
    Py_ssize_t sizes[MAX_LEVELS];
    Py_ssize_t begins[MAX_LEVELS]; /* which of all nodes is a level's first */
    PyObject *nodes[MAX_LEVELS];
    char *lines;      /* LINE_SIZE for each node ... */
    char *is_spelled; /* ... and whether that was filled */
} Tree;

static int
load_tree(Tree *tree, PyObject *levels)
{
    Py_ssize_t total = 0;
    Py_ssize_t count = PyList_Size(levels);
    tree->lines = tree->is_spelled = NULL;
    if (count < 0)
        return 0;
    if (count > MAX_LEVELS) {
        PyErr_SetString(PyExc_ValueError, "a tree of too many levels");
        return 0;
    }
    tree->count = (int)count;
    for (int level = 0; level < tree->count; level++) {
        if (!PyArg_ParseTuple(PyList_GetItem(levels, level), "nO", &tree->first[level],
                              &tree->nodes[level]))
            return 0;
        tree->sizes[level] = PyList_Size(tree->nodes[level]);
        if (tree->sizes[level] < 0)
            return 0;
        tree->begins[level] = total;
        total += tree->sizes[level];
    }
    tree->lines = PyMem_Malloc((size_t)(total * LINE_SIZE + 1));
    tree->is_spelled = PyMem_Calloc((size_t)total + 1, 1);
    if (tree->lines == NULL || tree->is_spelled == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    return 1;
}

static void
free_tree(Tree *tree)
{
    PyMem_Free(tree->lines);
    PyMem_Free(tree->is_spelled);
}

/* Where in its level a leaf's sibling is; -1 where there is none. */
static Py_ssize_t
sibling(const Tree *tree, int level, Py_ssize_t index)
{
    Py_ssize_t at = ((index >> level) ^ 1) - tree->first[level];
    return at >= 0 && at < tree->sizes[level] ? at : -1;
}

/* A node's line, or NULL with an exception. */
static char *
line_of(Tree *tree, int level, Py_ssize_t at)
{
    Py_ssize_t place = tree->begins[level] + at;
    char *line = tree->lines + place * LINE_SIZE;
    if (!tree->is_spelled[place]) {
        char *node = item_hash(tree->nodes[level], at);
        if (node == NULL)
            return NULL;
        put_line(line, node, HASH_SIZE);
        tree->is_spelled[place] = 1;
    }
    return line;
}

/* What stands before texts of each size; asked once for each of the few sizes there are. */
typedef struct {
    int count;
    Py_ssize_t sizes[MAX_SIZES];
    PyObject *heads[MAX_SIZES];
    PyObject *before;
} Heads;

/* A borrowed reference, or NULL with an exception. */
static PyObject *
head_of(Heads *heads, Py_ssize_t size)
{
    for (int at = 0; at < heads->count; at++)
        if (heads->sizes[at] == size)
            return heads->heads[at];
    PyObject *head = PyObject_CallFunction(heads->before, "n", size);
    if (head == NULL)
        return NULL;
    if (heads->count == MAX_SIZES)
        Py_DECREF(heads->heads[--heads->count]);
    heads->sizes[heads->count] = size;
    heads->heads[heads->count++] = head;
    return head;
}

typedef struct {
    Tree tree;
    Heads heads;
    const char *numbered, *magic, *end;
    Py_ssize_t numbered_size, magic_size, end_size;
} Spelling;

static PyObject *
spell(Spelling *with, PyObject *entries, Py_ssize_t at, Py_ssize_t index, Py_ssize_t number)
{
    char digits[32], place[8], *head;
    Py_ssize_t entry_size, head_size, path_size = 0;
    char *entry = item_bytes(entries, at, &entry_size);
    if (entry == NULL)
        return NULL;
    for (int level = 0; level < with->tree.count; level++)
        path_size += sibling(&with->tree, level, index) < 0 ? 0 : LINE_SIZE;
    int digits_size = snprintf(digits, sizeof digits, "index %zd\n", index);
    int place_size = 0;
    if (with->numbered != NULL)
        place_size = snprintf(place, sizeof place, "%04x", (unsigned)(number & 0xFFFF));
    Py_ssize_t size =
        with->magic_size + line_size(entry_size) + digits_size + path_size + with->end_size;
    PyObject *before = head_of(&with->heads, size);
    if (before == NULL || PyBytes_AsStringAndSize(before, &head, &head_size) < 0)
        return NULL;
    PyObject *text =
        PyBytes_FromStringAndSize(NULL, with->numbered_size + place_size + head_size + size);
    if (text == NULL)
        return NULL;
    char *out = PyBytes_AsString(text);
    out = put(out, with->numbered, with->numbered_size);
    out = put(out, place, place_size);
    out = put(out, head, head_size);
    out = put(out, with->magic, with->magic_size);
    out = put_line(out, entry, entry_size);
    out = put(out, digits, digits_size);
    for (int level = 0; level < with->tree.count; level++) {
        Py_ssize_t node = sibling(&with->tree, level, index);
        if (node < 0)
            continue;
        char *line = line_of(&with->tree, level, node);
        if (line == NULL) {
            Py_DECREF(text);
            return NULL;
        }
        out = put(out, line, LINE_SIZE);
    }
    put(out, with->end, with->end_size);
    return text;
}

static PyObject *
proof_texts(PyObject *module, PyObject *args)
{
    PyObject *levels, *entries, *found = NULL;
    Py_ssize_t start, begin, end;
    Spelling with = {.numbered = NULL};
    if (!PyArg_ParseTuple(args, "OOnnny#y#Oz#", &levels, &entries, &start, &begin, &end,
                          &with.magic, &with.magic_size, &with.end, &with.end_size,
                          &with.heads.before, &with.numbered, &with.numbered_size))
        return NULL;
    if (begin < 0 || begin > end || end > PyList_Size(entries)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_IndexError, "no such entries");
        return NULL;
    }
    if (load_tree(&with.tree, levels) && (found = PyList_New(end - begin)) != NULL)
        for (Py_ssize_t at = begin; at < end; at++) {
            PyObject *text = spell(&with, entries, at, start + at, at - begin);
            if (text == NULL) {
                Py_CLEAR(found);
                break;
            }
            PyList_SetItem(found, at - begin, text);
        }
    for (int at = 0; at < with.heads.count; at++)
        Py_DECREF(with.heads.heads[at]);
    free_tree(&with.tree);
    return found;
}

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

static PyObject *
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

static PyObject *
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

static PyObject *
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

static PyMethodDef METHODS[] = {
    {"add_prints", add_prints, METH_VARARGS, NULL},
    {"cut_alike", cut_alike, METH_VARARGS, NULL},
    {"joined_columns", joined_columns, METH_VARARGS, NULL},
    {"known_prints", known_prints, METH_VARARGS, NULL},
    {"leaf_hashes", leaf_hashes, METH_O, NULL},
    {"parent_hashes", parent_hashes, METH_O, NULL},
    {"proof_texts", proof_texts, METH_VARARGS, NULL},
    {"sorted_rows", sorted_rows, METH_VARARGS, NULL},
    {"spelled_entries", spelled_entries, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_bulk", NULL, -1, METHODS};

/* Finds SHA-256 in what hashlib is linked with; false with an exception. */
static int
find_sha256(void)
{
    PyObject *hashlib = PyImport_ImportModule("_hashlib");
    PyObject *file = hashlib == NULL ? NULL : PyObject_GetAttrString(hashlib, "__file__");
    PyObject *path = NULL;
    void *library = NULL;
    if (file != NULL && PyUnicode_FSConverter(file, &path))
        library = dlopen(PyBytes_AsString(path), RTLD_LAZY | RTLD_NOLOAD);
    Py_XDECREF(path);
    Py_XDECREF(file);
    Py_XDECREF(hashlib);
    if (PyErr_Occurred())
        return 0;
    if (library != NULL) {
        *(void **)&sha_init = dlsym(library, "SHA256_Init");
        *(void **)&sha_update = dlsym(library, "SHA256_Update");
        *(void **)&sha_final = dlsym(library, "SHA256_Final");
    }
    if (sha_init == NULL || sha_update == NULL || sha_final == NULL) {
        PyErr_SetString(PyExc_ImportError, "hashlib's library has no SHA256_Init");
        return 0;
    }
    return 1;
}

PyMODINIT_FUNC
PyInit__bulk(void)
{
    return find_sha256() ? PyModule_Create(&MODULE) : NULL;
}
