/* Code that the C programs of `cargo xtask bench` share: the packet's headers, the map macros, and the few helpers that
 * they call. The kernel's own headers give the layouts; libbpf is not needed. */
#ifndef SCANGUARD_BENCH_H
#define SCANGUARD_BENCH_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#define SEC(name) __attribute__((section(name), used))
#define always_inline inline __attribute__((always_inline))
/* Maps by BTF, as libbpf writes them. */
#define UINT(name, value) int(*name)[value]
#define TYPE(name, type) type *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be16(number) __builtin_bswap16(number)
#define be32(number) __builtin_bswap32(number)
#else
#define be16(number) (number)
#define be32(number) (number)
#endif

/* Numbers: enum bpf_func_id, include/uapi/linux/bpf.h. */
static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const map_update)(void *map, const void *key, const void *value, __u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static struct bpf_sock *(*const skc_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
						__u64 flags) = (void *)BPF_FUNC_skc_lookup_tcp;
static long (*const sk_release)(struct bpf_sock *sock) = (void *)BPF_FUNC_sk_release;
static long (*const tail_call)(void *ctx, void *programs, __u32 index) = (void *)BPF_FUNC_tail_call;
static long (*const adjust_tail)(void *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_tail;

/* As many sources as the sensor's table holds by default. */
#define MAX_SOURCES 65536

/* An IPv4 packet that holds a TCP header. */
struct segment {
	struct iphdr *ip;
	struct tcphdr *tcp;
};

/* Finds the headers, each within the packet; 0 if it is anything but TCP over IPv4 over Ethernet. */
static always_inline int parse(struct xdp_md *ctx, struct segment *segment)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > end || ethernet->h_proto != be16(ETH_P_IP))
		return 0;
	struct iphdr *ip = (void *)(ethernet + 1);
	if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl < 5)
		return 0;
	struct tcphdr *tcp = (void *)ip + ip->ihl * 4;
	if ((void *)(tcp + 1) > end)
		return 0;
	segment->ip = ip;
	segment->tcp = tcp;
	return 1;
}

SEC("license") char _license[] = "Dual MIT/GPL";

#endif
