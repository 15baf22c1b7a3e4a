/* Native additions beside CreateOS's routes: what a policy does, what it refused, images, keys. */
#pragma once
#include "api/req.h"

void native_explain(struct req *q);
void native_denials(struct req *q);
void native_counters(struct req *q);
void native_versions(struct req *q);
void native_build(struct req *q);
void native_pulls(struct req *q);
void native_key_add(struct req *q);
void native_key_list(struct req *q);
void native_key_revoke(struct req *q);
void native_token_add(struct req *q);
void native_token_list(struct req *q);
void native_token_revoke(struct req *q);
void native_net_policy_get(struct req *q);
void native_net_policy_put(struct req *q);
void native_net_policy_delete(struct req *q);
void native_version(struct req *q);
void native_metrics(struct req *q);
void native_openapi(struct req *q);
/* What CreateOS's contract answers with 503 where it is not set up. */
void not_configured(struct req *q);

/* doc/openapi.json, byte for byte (generated). */
extern const unsigned char openapi_json[];
extern const size_t openapi_json_n;
