/* OpenSandbox's dialect: what its files share. */
#pragma once
#include "api/req.h"

extern const struct route opensandbox_routes[];
extern const size_t opensandbox_routes_n;
