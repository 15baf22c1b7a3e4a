/* The shapes a sandbox can have: a table. */
#pragma once
#include "base/str.h"

struct shape {
	const char *id;
	uint32_t vcpu;	     /* CPUs as counted in the view */
	uint32_t quota_pct;  /* cap in percent of one CPU; 0: vcpu x 100 */
	uint32_t mem_mib, disk_mib;
};

#define SHAPES 9
extern const struct shape shapes[SHAPES];
const struct shape *shape_find(struct str id);
/* The CPU cap in thousandths of one CPU. */
uint32_t shape_cpu_milli(const struct shape *s);
