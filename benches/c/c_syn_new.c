/* A probe of a source never seen: parse, and insert. BPF_PROG_TEST_RUN repeats one packet, so that the key is the packet's
 * source and a counter, mixed: every run inserts a key that was not there. The value is a plain counter of eight bytes, not
 * the hundreds of bytes that the sensor keeps of a source. */
#include "bench.h"

struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, MAX_SOURCES);
	TYPE(key, __u32);
	TYPE(value, __u64);
} SOURCES SEC(".maps");

static __u32 packets;

SEC("xdp")
int c_syn_new(struct xdp_md *ctx)
{
	struct segment segment;

	if (!parse(ctx, &segment) || !segment.tcp->syn || segment.tcp->ack)
		return XDP_PASS;
	/* An odd factor (the golden ratio's, Knuth 6.4) only permutes 32 bits. */
	__u32 source = segment.ip->saddr + packets * 0x9e3779b1;
	__u64 one = 1;

	packets += 1;
	map_update(&SOURCES, &source, &one, BPF_ANY);
	return XDP_PASS;
}
