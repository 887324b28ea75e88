/* Both ends of the wire: what sends live frames, and what the sensor is compared with at the other end. */
#include "bench.h"

#define IGNORED __attribute__((unused))

/* BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES: each frame leaves by the interface that it says it came from. */
SEC("xdp.frags")
int transmit(struct xdp_md *ctx IGNORED)
{
	return XDP_TX;
}

SEC("xdp.frags")
int drop_all(struct xdp_md *ctx IGNORED)
{
	return XDP_DROP;
}

SEC("xdp.frags")
int pass_all(struct xdp_md *ctx IGNORED)
{
	return XDP_PASS;
}

/* How many sources are forged: distinct ones, in no order. */
#define FORGED 10000000
/* As many as FORGED at least, a power of two, in 16.0.0.0/4. */
#define FORGED_SPACE (1U << 28)
#define FORGED_FIRST 0x10000000U

static volatile __u32 sent;

/* So many frames of IPv4 from each of the forged sources, one source after the other. One sender only. */
static __always_inline int forge(struct xdp_md *ctx, __u32 frames)
{
	struct iphdr *ip = (void *)(long)ctx->data + sizeof(struct ethhdr);

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__u32 number = sent;
	sent = number + 1 == FORGED * frames ? 0 : number + 1;
	/* An odd factor gives each number another place. */
	ip->saddr = be32(FORGED_FIRST + (number / frames * 2654435761U & (FORGED_SPACE - 1)));
	return XDP_TX;
}

SEC("xdp.frags")
int transmit_forged(struct xdp_md *ctx)
{
	return forge(ctx, 1);
}

/* A source that knocks a second time gets past a doorkeeper. */
SEC("xdp.frags")
int transmit_forged_twice(struct xdp_md *ctx)
{
	return forge(ctx, 2);
}

/* Bytes of a garbage frame before it is cut, in words. */
#define GARBAGE_WORDS 64

static volatile __u64 state = 0x9e3779b97f4a7c15ULL;

/* Noise, of which one frame in four begins as nothing does; the others begin as IPv4, as IPv6 or with a VLAN tag, so that the
 * noise gets to be parsed. Most are cut somewhere. One sender only. */
SEC("xdp.frags")
int transmit_garbage(struct xdp_md *ctx)
{
	__u32 *words = (void *)(long)ctx->data;
	__u64 noise = state;

	if ((void *)(words + GARBAGE_WORDS) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	for (int word = 0; word < GARBAGE_WORDS; word++) {
		/* xorshift64, Marsaglia 2003. */
		noise ^= noise << 13;
		noise ^= noise >> 7;
		noise ^= noise << 17;
		words[word] = noise >> 16;
	}
	state = noise;

	__u8 *bytes = (void *)words;
	__be16 *type = (void *)(bytes + 12);
	__u8 *ip = bytes + sizeof(struct ethhdr);
	__u32 kind = noise >> 60;
	if (kind >= 12) {
		*type = be16(kind & 1 ? ETH_P_8021Q : ETH_P_8021AD);
		type += 2;
		ip += 4;
	}
	if (kind >= 4) {
		int is_v4 = kind & 2;
		*type = be16(is_v4 ? ETH_P_IP : ETH_P_IPV6);
		/* The version, and five words of header in most; a length that can be in most. */
		*ip = is_v4 ? 0x45 + (noise >> 32 & 15 ? 0 : *ip & 7) : 0x60 | (*ip & 15);
		if (noise >> 44 & 3)
			*(__be16 *)(ip + (is_v4 ? 2 : 4)) = be16(*(__be16 *)(ip + 24) & 127);
		__u8 protocols[4] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, ip[9] };
		if (is_v4) {
			/* No fragment, but for one in four. */
			if (noise >> 36 & 3)
				ip[6] = ip[7] = 0;
			ip[9] = protocols[noise >> 38 & 3];
		} else {
			ip[6] = protocols[noise >> 38 & 3];
		}
	}
	if (noise >> 40 & 3) {
		__u32 cut = (noise >> 42) % (GARBAGE_WORDS * 4 - sizeof(struct ethhdr));
		if (adjust_tail(ctx, -(int)cut))
			return XDP_DROP;
	}
	return XDP_TX;
}
