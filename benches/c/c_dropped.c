/* A packet of a banned source: parse, find the source, drop. */
#include "bench.h"

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, MAX_SOURCES);
	TYPE(key, __u32);
	TYPE(value, __u64);
} BANS SEC(".maps");

SEC("xdp")
int c_dropped(struct xdp_md *ctx)
{
	struct segment segment;

	if (!parse(ctx, &segment))
		return XDP_PASS;
	__u32 source = segment.ip->saddr;
	return map_lookup(&BANS, &source) ? XDP_DROP : XDP_PASS;
}
