/* The least that a program which looks at TCP has to do: parse, and pass. */
#include "bench.h"

SEC("xdp")
int c_parse(struct xdp_md *ctx)
{
	struct segment segment;

	if (!parse(ctx, &segment))
		return XDP_PASS;
	/* Something must depend on the last header, or the compiler leaves its parsing out. */
	return segment.tcp->syn && segment.tcp->fin ? XDP_DROP : XDP_PASS;
}
