/* POST /sandboxes, and the templates there are to claim. */
#pragma once
#include "api/sandbox0/sandbox0.h"

void sandbox0_claim(struct req *q);
void sandbox0_templates(struct req *q);
void sandbox0_template(struct req *q);
