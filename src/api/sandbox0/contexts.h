/* Contexts: commands and REPLs that outlive the call that started them. */
#pragma once
#include "api/sandbox0/sandbox0.h"

void sandbox0_context_create(struct req *q);
void sandbox0_context_list(struct req *q);
void sandbox0_context_get(struct req *q);
void sandbox0_context_delete(struct req *q);
void sandbox0_context_restart(struct req *q);
void sandbox0_context_input(struct req *q);
void sandbox0_context_exec(struct req *q);
void sandbox0_context_resize(struct req *q);
void sandbox0_context_signal(struct req *q);
void sandbox0_context_ws(struct req *q); /* stream.c */
/* The dialect's refuse(): a context's WebSocket is closed with the reason, not refused. */
bool sandbox0_ws_refuse(struct req *q, const struct err *why);

/* "INT", "SIGINT", "2": 0 for none of them. */
int context_signal(struct str name);
