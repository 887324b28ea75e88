/* Gives the packet another source, then goes on to whatever program is in NEXT: so a program is measured on sources that it
 * never saw, although BPF_PROG_TEST_RUN repeats one packet. What this itself costs is measured with `nothing` in NEXT, and taken off. */
#include "bench.h"

struct {
	UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, __u32);
} NEXT SEC(".maps");

static __u32 packets;

/* Programs of one array are all for packets in several buffers, or none is. */
SEC("xdp.frags")
int fresh(struct xdp_md *ctx)
{
	struct segment segment;

	if (parse(ctx, &segment)) {
		/* 10.0.0.0/8 in an order that is not theirs: an odd factor permutes 24 bits. */
		segment.ip->saddr = be32(0x0a000000 | (packets * 0x9e3779b1 & 0xffffff));
		packets += 1;
	}
	tail_call(ctx, &NEXT, 0);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int nothing(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}
