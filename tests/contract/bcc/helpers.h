/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stands for BCC's own prelude (bcc/helpers.h), which only a BCC has inside it. Tables are structs whose operations are
 * pointers to functions of the table's own types, as they are there, so that a wrong type does not compile here either.
 * It includes what BCC's does. What is not declared here our programs did not use yet: declare it as BCC does.
 */
#pragma once
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_packet.h>
#include <linux/version.h>
#include <linux/log2.h>
#include <asm/page.h>

#define BPF_F_TABLE(_type, _key, _leaf, _name, _entries, _flags)                                   \
	struct _name##_table_t {                                                                   \
		_key key;                                                                          \
		_leaf leaf;                                                                        \
		_leaf *(*lookup)(_key *);                                                          \
		_leaf *(*lookup_or_try_init)(_key *, _leaf *);                                     \
		int (*update)(_key *, _leaf *);                                                    \
		int (*insert)(_key *, _leaf *);                                                    \
		int (*delete)(_key *);                                                             \
		u32 max_entries;                                                                   \
		int flags;                                                                         \
	};                                                                                         \
	__attribute__((section("maps/" _type))) struct _name##_table_t _name = {.flags = (_flags), \
										.max_entries = (_entries)}

#define BPF_HASH(_name, _key, _leaf, _entries) BPF_F_TABLE("hash", _key, _leaf, _name, _entries, 0)
/* BCC has int for the keys of these two, and does not warn of another sign. */
#define BPF_ARRAY(_name, _leaf, _entries) BPF_F_TABLE("array", int, _leaf, _name, _entries, 0)
#define BPF_PERCPU_ARRAY(_name, _leaf, _entries) BPF_F_TABLE("percpu_array", int, _leaf, _name, _entries, 0)

/* The results are pointers there, too: only whether they are 0 can be asked. */
#define BPF_QUEUE(_name, _leaf, _entries)   \
	struct _name##_table_t {            \
		_leaf leaf;                 \
		int *(*peek)(_leaf *);      \
		int *(*pop)(_leaf *);       \
		int *(*push)(_leaf *, u64); \
		u32 max_entries;            \
		int flags;                  \
	};                                  \
	__attribute__((section("maps/queue"))) struct _name##_table_t _name = {.flags = 0, .max_entries = (_entries)}

#define BPF_RINGBUF_OUTPUT(_name, _pages)                \
	struct _name##_table_t {                         \
		int key;                                 \
		u32 leaf;                                \
		int (*ringbuf_output)(void *, u64, u64); \
		void *(*ringbuf_reserve)(u64);           \
		void (*ringbuf_discard)(void *, u64);    \
		void (*ringbuf_submit)(void *, u64);     \
		u32 max_entries;                         \
	};                                               \
	__attribute__((section("maps/ringbuf"))) struct _name##_table_t _name = {.max_entries = ((_pages)*PAGE_SIZE)}

/* Helper functions: the kernel's numbers for them are BCC's business. */
int bpf_probe_read_kernel(void *dst, u32 size, const void *unsafe_ptr);
u64 bpf_ktime_get_ns(void);
u64 bpf_get_smp_processor_id(void);
int bpf_get_numa_node_id(void);
u64 bpf_get_current_task(void);
u64 bpf_get_current_pid_tgid(void);
u64 bpf_get_current_cgroup_id(void);
int bpf_get_current_comm(void *buf, int buf_size);

/* The program gets the arguments by name, and its context as ctx. */
#define KFUNC_PROBE(event, args...) int kfunc__##event(unsigned long long *ctx, ##args)
#define KRETFUNC_PROBE(event, args...) int kretfunc__##event(unsigned long long *ctx, ##args)

#if defined(__x86_64__)
#define PT_REGS_PARM1(ctx) ((ctx)->di)
#define PT_REGS_PARM2(ctx) ((ctx)->si)
#elif defined(__aarch64__)
#define PT_REGS_PARM1(ctx) ((ctx)->regs[0])
#define PT_REGS_PARM2(ctx) ((ctx)->regs[1])
#endif
