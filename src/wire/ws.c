/* WebSocket frames: see the header. */
#include "base/rd.h"
#include "wire/ws.h"

#define LAST	  0x80u
#define RESERVED  0x70u
#define OP	  0x0fu
#define MASKED	  0x80u
#define MASK_LEN  4u
#define LENGTH_16 126u
#define LENGTH_64 127u

static bool is_control(unsigned int op)
{
	return op >= WS_CLOSE;
}

static bool op_known(unsigned int op)
{
	return op <= WS_BINARY || (op >= WS_CLOSE && op <= WS_PONG);
}

/* The length's one spelling: the shortest. */
static int length_read(struct rd *rd, unsigned int first, uint64_t *ret)
{
	*ret = first;
	if (first == LENGTH_16)
		*ret = rd_be16(rd);
	else if (first == LENGTH_64)
		*ret = rd_be64(rd);
	if (rd_failed(rd))
		return 0;
	if ((first == LENGTH_16 && *ret < LENGTH_16) || (first == LENGTH_64 && *ret <= UINT16_MAX))
		return -EBADMSG;
	return 1;
}

int ws_next(char *p, size_t n, size_t max, struct ws_frame *ret, size_t *taken)
{
	struct rd rd = rd_from(str_n(p, n));
	unsigned int head = rd_u8(&rd), length = rd_u8(&rd);
	const uint8_t *mask;
	uint64_t size;
	char *body;
	int r;

	if (rd_failed(&rd))
		return 0;
	if ((head & RESERVED) || !op_known(head & OP) || !(length & MASKED))
		return -EBADMSG;
	if (is_control(head & OP) && (!(head & LAST) || (length & ~MASKED) > WS_CONTROL_MAX))
		return -EBADMSG;
	r = length_read(&rd, length & ~MASKED, &size);
	if (r <= 0)
		return r;
	if (size > max)
		return -EFBIG;
	mask = rd_take(&rd, MASK_LEN);
	if (!mask || rd_left(&rd) < size)
		return 0;
	body = p + rd_pos(&rd);
	for (size_t i = 0; i < size; i++)
		body[i] = (char)((uint8_t)body[i] ^ mask[i % MASK_LEN]);
	*ret = (struct ws_frame){ .op = (enum ws_op)(head & OP), .last = head & LAST,
		.body = str_n(body, (size_t)size) };
	*taken = rd_pos(&rd) + (size_t)size;
	return 1;
}

int ws_add(struct buf *out, enum ws_op op, struct str body)
{
	if (is_control(op) && body.n > WS_CONTROL_MAX)
		return -EINVAL;
	buf_u8(out, (uint8_t)(LAST | op));
	if (body.n < LENGTH_16) {
		buf_u8(out, (uint8_t)body.n);
	} else if (body.n <= UINT16_MAX) {
		buf_u8(out, LENGTH_16);
		buf_be16(out, (uint16_t)body.n);
	} else {
		buf_u8(out, LENGTH_64);
		buf_be64(out, body.n);
	}
	return buf_add_str(out, body);
}

int ws_add_close(struct buf *out, uint16_t code, struct str reason)
{
	char body[WS_CONTROL_MAX];
	size_t n = MIN(reason.n, sizeof(body) - 2);

	body[0] = (char)(code >> 8);
	body[1] = (char)code;
	if (n)
		memcpy(body + 2, reason.p, n);
	return ws_add(out, WS_CLOSE, str_n(body, 2 + n));
}
