/*
 * Writable layers: `<state_dir>/layers/<name>`, one per sandbox, with a size that is enforced.
 *
 * Two backends behind one struct. `quota`: one loop-backed ext4 volume, a directory per layer, a
 * project quota on it. `loop`: an ext4 image per layer. `auto` takes quota where the kernel has
 * it. Either gives a mount whose directory `sub` holds upper/ and work/ for overlayfs, owned by
 * the sandbox's base id; the host role never writes below them.
 *
 * No mount of a layer outlives its sandbox: it is made detached, attached in the starter's own
 * mount namespace, and afterwards only the overlay holds it. Loop devices clear themselves.
 */
#pragma once
#include "base/err.h"

#define LAYER_NAME_MAX 40

struct layers;

struct layer_at { /* a mounted layer */
	int mnt;      /* detached mount */
	char sub[LAYER_NAME_MAX + 8]; /* directory in it: "." or the layer's name */
};

int layers_open(const char *state_dir, const char *backend, struct layers **ret, struct err *err);
void layers_close(struct layers *ls);
size_t layers_fds(const struct layers *ls, int *fds, size_t max); /* needed by layer_make, _mount */

/* May it be a layer's name: the id of a sandbox? */
bool layer_id_ok(const char *id);
/* Have what a layer of this size is made from, so that layer_make is a copy. */
int layers_ready(struct layers *ls, uint32_t mib, struct err *err);
/* May a sandbox begin on it: on the stored layer of that id, or (NULL) on a new one of this size? */
int layers_may_begin(struct layers *ls, const char *stored, uint32_t mib, struct err *err);
bool layer_exists(struct layers *ls, const char *name);
/* These also run in a starter (layer_grow: of a layer that is not mounted): they allocate nothing. */
int layer_make(struct layers *ls, const char *name, uint32_t mib, struct err *err);
/* Backend loop: a new one with what `from` holds, which nobody writes meanwhile. */
int layer_copy(struct layers *ls, const char *from, const char *name, struct err *err);
/* Backend loop: a new one without anything, not even a file system: its image, the caller's to close. */
int layer_blank(struct layers *ls, const char *name, struct err *err);
int layer_mount(struct layers *ls, const char *name, struct layer_at *ret, struct err *err);
int layer_grow(struct layers *ls, const char *name, uint32_t mib, bool mounted, struct err *err);
/* The files of a layer whose sandbox is frozen into a new one, their ids mapped as in userns. As long as
 * it takes. */
int layer_copy_files(struct layers *ls, const char *from, const struct layer_at *to, int userns, struct err *err);
/* Give a spare one its name. */
int layer_claim(struct layers *ls, const char *from, const char *name, struct err *err);
/* Backend loop: the image of one that nobody has mounted. The caller's to close. */
int layer_image(struct layers *ls, const char *name, struct err *err);
/* Has the host room for what a file system writes that grows by so much? */
int layer_image_room(int disk, uint64_t bytes, const char *name, struct err *err);
uint64_t layer_used(struct layers *ls, const char *name);
/* It is nobody's from now on, and removed in the background. 0 also when there is none. */
int layer_discard(struct layers *ls, const char *name, struct err *err);
/* Likewise a file of theirs; `dir` is on the same file system, or this waits. Callable from any thread. */
void layer_discard_file(struct layers *ls, int dir, const char *name);
/* Layers named LAYER_SPARE… belong to nobody after a restart. */
#define LAYER_SPARE ".spare-"
void layers_sweep(struct layers *ls);
