/* Hashes of a tree, and the texts of proofs.

   SHA-256 is the one that hashlib uses, found at import: there is no cryptography here. */

#define _GNU_SOURCE
#include "bulk.h"
#include <dlfcn.h>

#define HASH_SIZE 32
#define DIGEST_SIZE 16
#define LINE_SIZE 45 /* a hash in base64 and a line feed */
#define MAX_LEVELS 64
#define MAX_SIZES 16
#define PLACE_SIZE 4

/* OpenSSL's SHA256_CTX has 112 bytes; there is room for one that grows. */
typedef union {
    uint64_t aligned;
    unsigned char bytes[256];
} Context;

static int (*sha_init)(Context *);
static int (*sha_update)(Context *, const void *, size_t);
static int (*sha_final)(unsigned char *, Context *);

static void
hash(unsigned char *out, const char *first, size_t first_size, const char *rest, Py_ssize_t size)
{
    Context context;
    sha_init(&context);
    sha_update(&context, first, first_size);
    sha_update(&context, rest, (size_t)size);
    sha_final(out, &context);
}

void
hash_leaf_of(unsigned char *out, const char *data, Py_ssize_t size)
{
    hash(out, "\0", 1, data, size);
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
    hash_leaf_of(out, entry, size);
    return 1;
}

PyObject *
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
    char first[1 + HASH_SIZE] = {1};
    memcpy(first + 1, left, HASH_SIZE);
    hash(out, first, sizeof first, right, HASH_SIZE);
    return 1;
}

/* The next level: parents, and the last node where it has no right sibling. */
static PyObject *
level_above(PyObject *nodes)
{
    Py_ssize_t count = PyList_Size(nodes);
    PyObject *above = hashes(nodes, count / 2, hash_pair);
    if (above != NULL && count & 1 && PyList_Append(above, PyList_GetItem(nodes, count - 1)) < 0)
        Py_CLEAR(above);
    return above;
}

/* A copy, behind the last of the old nodes that is left. */
static PyObject *
with_neighbour(PyObject *nodes, PyObject *old_nodes, Py_ssize_t *left)
{
    if (*left == 0) {
        PyErr_SetString(PyExc_ValueError, "the old tree has more nodes than were given");
        return NULL;
    }
    PyObject *found = PyList_GetSlice(nodes, 0, PyList_Size(nodes));
    if (found != NULL && PyList_Insert(found, 0, PyList_GetItem(old_nodes, --*left)) < 0)
        Py_CLEAR(found);
    return found;
}

PyObject *
tree_levels(PyObject *module, PyObject *args)
{
    unsigned long long old_size;
    PyObject *old_nodes, *leaves;
    if (!PyArg_ParseTuple(args, "KOO", &old_size, &old_nodes, &leaves))
        return NULL;
    if (old_size >> 62) {
        PyErr_SetString(PyExc_ValueError, "a tree of that size is none");
        return NULL;
    }
    Py_ssize_t left = PyList_Size(old_nodes), count = left < 0 ? -1 : PyList_Size(leaves);
    PyObject *nodes = count < 0 ? NULL : PyList_GetSlice(leaves, 0, count);
    PyObject *levels = nodes == NULL ? NULL : PyList_New(0);
    unsigned long long last = old_size + (unsigned long long)count;
    last -= last > 0;
    for (int level = 0; levels != NULL; level++) {
        unsigned long long first = old_size >> level;
        if (first & 1) {
            PyObject *more = with_neighbour(nodes, old_nodes, &left);
            Py_DECREF(nodes);
            nodes = more;
            first--;
        }
        PyObject *pair = nodes == NULL ? NULL : Py_BuildValue("(KO)", first, nodes);
        if (pair == NULL || PyList_Append(levels, pair) < 0)
            Py_CLEAR(levels);
        Py_XDECREF(pair);
        if (levels == NULL || last >> level == 0)
            break;
        if (PyList_Size(nodes) > 1) {
            PyObject *above = level_above(nodes);
            Py_DECREF(nodes);
            nodes = above;
            if (nodes == NULL)
                Py_CLEAR(levels);
        }
    }
    Py_XDECREF(nodes);
    return levels;
}

PyObject *
keyed_digests(PyObject *module, PyObject *args)
{
    const char *secret;
    Py_ssize_t secret_size;
    PyObject *texts;
    unsigned char whole[HASH_SIZE];
    if (!PyArg_ParseTuple(args, "y#O", &secret, &secret_size, &texts))
        return NULL;
    Py_ssize_t count = PyList_Size(texts);
    PyObject *found = count < 0 ? NULL : PyBytes_FromStringAndSize(NULL, DIGEST_SIZE * count);
    for (Py_ssize_t at = 0; found != NULL && at < count; at++) {
        Py_ssize_t size;
        char *text = item_bytes(texts, at, &size);
        if (text == NULL) {
            Py_CLEAR(found);
            break;
        }
        hash(whole, secret, (size_t)secret_size, text, size);
        memcpy(PyBytes_AsString(found) + DIGEST_SIZE * at, whole, DIGEST_SIZE);
    }
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

/* `index`, a decimal number and a line feed, which `snprintf` takes as long for as for all else. */
static int
spell_index(char *out, Py_ssize_t index)
{
    char digits[24];
    int count = 0;
    do
        digits[count++] = (char)('0' + index % 10);
    while ((index /= 10) > 0);
    memcpy(out, "index ", 6);
    for (int at = 0; at < count; at++)
        out[6 + at] = digits[count - 1 - at];
    out[6 + count] = '\n';
    return 7 + count;
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
    char digits[32], place[PLACE_SIZE], *head;
    Py_ssize_t entry_size, head_size, path_size = 0;
    char *entry = item_bytes(entries, at, &entry_size);
    if (entry == NULL)
        return NULL;
    for (int level = 0; level < with->tree.count; level++)
        path_size += sibling(&with->tree, level, index) < 0 ? 0 : LINE_SIZE;
    int digits_size = spell_index(digits, index);
    int place_size = with->numbered == NULL ? 0 : PLACE_SIZE;
    for (int digit = 0; digit < place_size; digit++)
        place[digit] = "0123456789abcdef"[number >> 4 * (PLACE_SIZE - 1 - digit) & 15];
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

PyObject *
proof_texts(PyObject *module, PyObject *args)
{
    PyObject *levels, *entries, *found = NULL;
    Py_ssize_t start, begin, end;
    Spelling with = {.numbered = NULL};
    if (!PyArg_ParseTuple(args, "OOnnny#y#Oz#", &levels, &entries, &start, &begin, &end,
                          &with.magic, &with.magic_size, &with.end, &with.end_size,
                          &with.heads.before, &with.numbered, &with.numbered_size))
        return NULL;
    if (start < 0 || begin < 0 || begin > end || end > PyList_Size(entries)) {
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

int
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
