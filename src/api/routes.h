/* Every route of every dialect: one table (routes.c). */
#pragma once
#include "api/route.h"

extern const struct route routes[];
extern const size_t routes_n;
