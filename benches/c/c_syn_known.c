/* A probe of a known source: parse, find its entry and count, ask the sockets once. */
#include "bench.h"

struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, MAX_SOURCES);
	TYPE(key, __u32);
	TYPE(value, __u64);
} SOURCES SEC(".maps");

SEC("xdp")
int c_syn_known(struct xdp_md *ctx)
{
	struct segment segment;

	if (!parse(ctx, &segment) || !segment.tcp->syn || segment.tcp->ack)
		return XDP_PASS;
	__u32 source = segment.ip->saddr;
	__u64 *count = map_lookup(&SOURCES, &source);
	if (count) {
		__sync_fetch_and_add(count, 1);
	} else {
		/* Once: from then on the source is known. */
		__u64 one = 1;
		map_update(&SOURCES, &source, &one, BPF_ANY);
	}

	struct bpf_sock_tuple tuple = {
		.ipv4 = {
			.saddr = source,
			.daddr = segment.ip->daddr,
			.sport = segment.tcp->source,
			.dport = segment.tcp->dest,
		},
	};
	struct bpf_sock *sock = skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (sock)
		sk_release(sock);
	return XDP_PASS;
}
