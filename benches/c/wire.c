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
