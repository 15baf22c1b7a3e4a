/*
 * What the proxy says itself: refusals, in the form the client can read, and "/status.ok". Pure.
 *
 * HTML for who accepts it; else, by how the target was named, OpenSandbox's text or its JSON
 * object, or the JSend envelope. Never an empty body: a client of OpenSandbox takes an error
 * without one for success.
 */
#pragma once
#include "base/buf.h"
#include "edge/ingress/target.h"

enum page_form { PAGE_ANY, PAGE_JSON, PAGE_HTML };
enum page_form page_form(struct str accept);

struct page {
	int status;
	struct str text;
	enum page_form form;
	enum target_by by;
	bool gateway;
	bool keep;	    /* the connection goes on */
	bool head;	    /* HEAD: without the body */
	unsigned int retry; /* Retry-After, in seconds; 0: none */
};
int page_add(struct buf *out, const struct page *p);
