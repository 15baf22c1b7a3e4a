/* The table of CreateOS's routes, the native ones among them (routes.c). */
#pragma once
#include "api/route.h"

extern const struct route createos_routes[];
extern const size_t createos_routes_n;
