/* sandbox0's dialect: what its files share. */
#pragma once
#include "api/req.h"

extern const struct route sandbox0_routes[];
extern const size_t sandbox0_routes_n;
