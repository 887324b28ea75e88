/* A connection that this host asks for: find the program and the control group of the task, count for both what is new,
 * remember the socket, and count what came of it. The same job as `scanguard_connections` has, without all that makes
 * the counts safe and useful to the agent. */
#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define always_inline inline __attribute__((always_inline))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, type) type *name
/* The loader looks up where the running kernel has these fields. */
#define relocated __attribute__((preserve_access_index))

/* Numbers: enum bpf_func_id, include/uapi/linux/bpf.h. */
static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const map_update)(void *map, const void *key, const void *value, __u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static long (*const map_delete)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static __u64 (*const current_cgroup)(void) = (void *)BPF_FUNC_get_current_cgroup_id;
static void *(*const current_task)(void) = (void *)BPF_FUNC_get_current_task;
static long (*const read_kernel)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;

struct super_block {
	__u32 s_dev;
} relocated;
struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} relocated;
struct file {
	struct inode *f_inode;
} relocated;
struct mm_struct {
	struct file *exe_file;
} relocated;
struct task_struct {
	struct mm_struct *mm;
} relocated;
struct sock_common {
	__u32 skc_daddr;
	__u16 skc_dport;
	__u16 skc_family;
} relocated;
struct sock {
	struct sock_common __sk_common;
	int sk_err;
} relocated;

#define READ(to, from) read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)))

enum { ESTABLISHED = 1, SYN_SENT = 2, CLOSE = 7, REFUSED = 111 };

/* A program is a control group and an executable; a control group as a whole has no executable. */
struct actor {
	__u64 group;
	__u64 inode;
	__u64 device;
};

struct counts {
	__u64 asked;
	__u64 answered;
	__u64 refused;
};

struct target {
	struct actor actor;
	__u32 address;
	__u32 port;
};

/* What is remembered of a socket. */
struct open {
	struct actor actors[2];
	__u32 fresh[2];
};

/* As many as the sensor's tables hold. */
struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, 4096);
	TYPE(key, struct actor);
	TYPE(value, struct counts);
} ACTORS SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, 524288);
	TYPE(key, struct target);
	TYPE(value, __u8);
} TARGETS SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_LRU_HASH);
	UINT(max_entries, 32768);
	TYPE(key, __u64);
	TYPE(value, struct open);
} OPEN SEC(".maps");

static always_inline struct counts *counts_of(const struct actor *actor)
{
	static const struct counts none;
	struct counts *counts = map_lookup(&ACTORS, actor);

	if (counts)
		return counts;
	map_update(&ACTORS, actor, &none, BPF_NOEXIST);
	return map_lookup(&ACTORS, actor);
}

/* Counts a target if the actor has not asked for it before. */
static always_inline __u32 asks(const struct actor *actor, __u32 address, __u16 port)
{
	struct target target = { .actor = *actor, .address = address, .port = port };
	static const __u8 known = 1;

	if (map_lookup(&TARGETS, &target))
		return 0;
	map_update(&TARGETS, &target, &known, BPF_ANY);
	struct counts *counts = counts_of(actor);
	if (counts)
		__sync_fetch_and_add(&counts->asked, 1);
	return 1;
}

static always_inline void opens(struct sock *sock)
{
	struct sock_common common = {};
	struct open open = {};
	struct task_struct *task = current_task();
	struct mm_struct *memory = 0;
	struct file *file = 0;
	struct inode *inode = 0;
	struct super_block *super = 0;
	unsigned long number = 0;
	__u32 device = 0;
	__u64 name = (__u64)sock;

	READ(common.skc_family, sock->__sk_common.skc_family);
	if (common.skc_family != 2)
		return;
	READ(common.skc_daddr, sock->__sk_common.skc_daddr);
	READ(common.skc_dport, sock->__sk_common.skc_dport);
	READ(memory, task->mm);
	READ(file, memory->exe_file);
	READ(inode, file->f_inode);
	READ(number, inode->i_ino);
	READ(super, inode->i_sb);
	READ(device, super->s_dev);
	open.actors[0].group = open.actors[1].group = current_cgroup();
	open.actors[0].inode = number;
	open.actors[0].device = device;
	open.fresh[0] = asks(&open.actors[0], common.skc_daddr, common.skc_dport);
	open.fresh[1] = asks(&open.actors[1], common.skc_daddr, common.skc_dport);
	map_update(&OPEN, &name, &open, BPF_ANY);
}

static always_inline void came_of(struct sock *sock, int answered)
{
	__u64 name = (__u64)sock;
	struct open *open = map_lookup(&OPEN, &name);
	int error = 0;

	if (!open)
		return;
	READ(error, sock->sk_err);
	for (int i = 0; i < 2; i++) {
		struct counts *counts = open->fresh[i] ? map_lookup(&ACTORS, &open->actors[i]) : 0;
		if (!counts)
			continue;
		if (answered)
			__sync_fetch_and_add(&counts->answered, 1);
		else if (error == REFUSED)
			__sync_fetch_and_add(&counts->refused, 1);
	}
	map_delete(&OPEN, &name);
}

SEC("raw_tracepoint/inet_sock_set_state")
int c_outbound(struct bpf_raw_tracepoint_args *ctx)
{
	int before = (int)ctx->args[1];
	int now = (int)ctx->args[2];

	if (before == CLOSE && now == SYN_SENT)
		opens((struct sock *)ctx->args[0]);
	else if (before == SYN_SENT && (now == ESTABLISHED || now == CLOSE))
		came_of((struct sock *)ctx->args[0], now == ESTABLISHED);
	return 0;
}

SEC("license") char _license[] = "Dual MIT/GPL";
