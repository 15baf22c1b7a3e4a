/* Quantities as Kubernetes writes them: "500m", "1", "0.5", "512Mi", "2Gi", "2G". Pure. */
#pragma once
#include "base/str.h"

/* In thousandths of the unit, cut off: "1" is 1000, "500m" 500, "1Ki" 1024000. -EINVAL for another
 * form, -ERANGE past 2^63. */
int quantity_milli(struct str text, uint64_t *ret);
