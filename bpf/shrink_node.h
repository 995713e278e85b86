/* SPDX-License-Identifier: GPL-2.0-only */
/* The probed function shrink_node(pg_data_t *, struct scan_control *): one call is one pass. */
#ifndef MMWATCH_SHRINK_NODE_H
#define MMWATCH_SHRINK_NODE_H

#include "brackets.h"

#ifdef PASSES
#ifdef FENTRY_shrink_node
/* The verifier knows what these point to, so a load is one instruction. */
#define READ(type, pointer, member) (*(type *)(pointer + OFF_##member))
#else
#define READ(type, pointer, member) read_##type(pointer + OFF_##member)
#endif

/*
 * Only the entry is probed: a pass ends when the next one begins or the reclaim ends. Probing the return would double
 * the cost, and a futile node reclaim makes five passes. For the same reason the clock is not read if the time of the
 * reclaim's end is good enough.
 */
#ifdef TARGET_BY_PASS
/* The ID of the memory cgroup that a pass reclaims. Reading through a null pointer gives 0, and does no harm. */
static __always_inline u64 target_of(u64 sc)
{
	u64 memcg = READ(u64, sc, scan_control_target_mem_cgroup);
	u64 cgroup = READ(u64, memcg, mem_cgroup_css + OFF_cgroup_subsys_state_cgroup);
	u64 node = READ(u64, cgroup, cgroup_kn);

	return READ(u64, node, kernfs_node_id);
}
#endif

#ifdef TARGET_BY_PASS
/* The first pass of a memory cgroup's reclaim tells its target. The thread's first such row, still empty, just takes it. */
static __always_inline void take_target(struct thread *t, struct bracket *b, struct place *at, u64 sc)
{
	b->target_id = target_of(sc);
	if (!t->target_id && t->cached_row == at->index && !shared(at) && !at->row->reclaims) {
		at->row->target_id = b->target_id;
		t->cached_target_id = b->target_id;
	}
	t->target_id = b->target_id;
}
#endif

static __always_inline void pass(u64 pgdat, u64 sc, u32 program)
{
	u64 task = bpf_get_current_task(), now = 0, reclaimed_pages, asked_pages;
	struct thread *t = known_thread(task);
	struct bracket *b;
	struct place at;
	bool clocked;
	u32 priority;

	if (!t || !t->depth)
		return;
#ifdef PAIR_shrink_node
	if (paired(&t->pass_pair, program))
		return;
#endif
	b = bracket_of(t);
	if (!find(&at, b->row))
		return;
	clocked = b->path == PATH_KSWAPD;
	reclaimed_pages = READ(u64, sc, scan_control_nr_reclaimed);
#ifdef DETAIL_PAGES
	clocked |= streams(RECORD_PASS);
#endif
	if (b->passes && !clocked) {
		pass_took(b, &at, reclaimed_pages);
	} else if (b->passes) {
		now = bpf_ktime_get_ns();
		pass_over(b, &at, task, now, reclaimed_pages);
	} else {
		/* node_reclaim calls shrink_node right away; other paths may do other work first. */
		now = b->path == PATH_NODE ? b->resume_ns : bpf_ktime_get_ns();
		b->pass_begin_ns = now;
#ifdef TARGET_BY_PASS
		/* No other path has a target. */
		if (b->path == PATH_MEMCG)
			take_target(t, b, &at, sc);
#endif
#ifdef BIT_scan_control_proactive
		/* memory.reclaim and nodeN/reclaim take the same path as limits and zone_reclaim_mode. */
		if (READ(u8, sc, scan_control_proactive) & (1 << BIT_scan_control_proactive))
			b->path = PATH_PROACTIVE;
#endif
		/* memory.reclaim asks for the number of pages that was written to it, which may be above SWAP_CLUSTER_MAX. */
		asked_pages = READ(u64, sc, scan_control_nr_to_reclaim);
		if (b->path != PATH_KSWAPD && asked_pages > b->asked_pages)
			b->asked_pages = asked_pages;
		/* node_reclaim named its node when it began. */
		if (!b->batches && b->path != PATH_NODE) {
			if (!find(&at, row_of(t, task, b->path, READ(u32, pgdat, pglist_data_node_id), b->target_id)))
				return;
			move_bracket(b, &at, task);
		}
	}
	b->passes++;
	priority = READ(u8, sc, scan_control_priority);
	ADD(&at, pass_histogram[masked(priority, SLOTS(PRIORITIES))], 1);
	b->pass_reclaimed_pages = reclaimed_pages;
	if (b->path == PATH_KSWAPD) {
		b->pass_reclaimed_pages = b->reclaimed_pages;
		settle(b, task, now, true);
		ADD(&at, events, 1); /* on other paths, the row is read anyway while a reclaim is open */
	}
#ifdef DETAIL_PAGES
	b->pass_scanned_pages = b->scanned_pages;
	b->pass_priority = priority;
	if (priority < b->priority)
		b->priority = priority;
	b->pass_node = READ(u32, pgdat, pglist_data_node_id);
#endif
}

#ifdef FENTRY_shrink_node
KFUNC_PROBE(shrink_node, u64 pgdat, u64 sc)
{
	pass(pgdat, sc, PAIR_FIRST);
	return 0;
}
#endif

#ifdef PAIR_shrink_node
/* BCC attaches one fentry program to a function; mmwatch/kernel/syscall.py attaches this second one. */
int on_shrink_node_pair(u64 *ctx)
{
	pass(ctx[0], ctx[1], PAIR_SECOND);
	return 0;
}
#endif

#ifdef KPROBE_shrink_node
int on_shrink_node(struct pt_regs *ctx)
{
	pass(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PAIR_FIRST);
	return 0;
}
#endif

#undef READ
#endif

#endif
