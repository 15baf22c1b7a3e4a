/*
 * The operator's own lists, deny.always and allow.always: files of one target per line (name, *.name,
 * address, network; blank lines and # comments). They stand before the rules of every sandbox whose
 * policy is OpenSandbox's, cannot be changed or seen through the API, and are looked at every
 * second: a file that changed is read again and the policies that it concerns are put in force anew.
 * A file that is not there is an empty list. One that does not read keeps the role from starting;
 * later, the list before it stays and the log says why.
 */
#pragma once
#include "api/api.h"
#include "policy/opensandbox.h"

struct always;

int always_open(struct api *a, struct err *err);
const struct opensandbox_always *always_lists(const struct api *a);
