/* SPDX-License-Identifier: GPL-2.0-only */
/* Brackets: a reclaim from its begin to its end. */
#ifndef MMWATCH_BRACKETS_H
#define MMWATCH_BRACKETS_H

#include "pairs.h"
#include "passes.h"
#include "rows.h"
#include "stream.h"
#include "targets.h"

#define SWAP_CLUSTER_MAX 32 /* include/linux/swap.h */
#define NAME_AGE_NS 1000000 /* if comm and cgroup are older than this, the next reclaim refreshes them */

static __always_inline u32 stall_bucket(u64 ns)
{
	u64 rest = ns;
	u32 log = 0, index;

	if (ns < 1 << STALL_SHIFT_MIN)
		return 0;
	if (rest >> 32) {
		rest >>= 32;
		log += 32;
	}
	if (rest >> 16) {
		rest >>= 16;
		log += 16;
	}
	if (rest >> 8) {
		rest >>= 8;
		log += 8;
	}
	if (rest >> 4) {
		rest >>= 4;
		log += 4;
	}
	if (rest >> 2) {
		rest >>= 2;
		log += 2;
	}
	log += rest >> 1;
	index = 1 + (log - STALL_SHIFT_MIN) * 4 + ((ns >> (log - 2)) & 3);
	return index < STALL_BUCKETS ? index : STALL_BUCKETS - 1;
}

/* Shows user space since when a reclaim is under way; 0: none is. */
static __always_inline void show_open(struct row *row, struct bracket *b, u64 since_ns)
{
	row->open_runtime_ns = b->resume_runtime.runtime_ns;
	row->open_since_ns = since_ns;
}

/* Adds the time since the bracket resumed to its row. running: the bracket goes on. */
static __always_inline void settle_in(struct bracket *b, struct place *at, u64 task, u64 now, bool running)
{
	u64 ns = now - b->resume_ns;
#ifdef CPU_TIME
	struct runtime runtime = runtime_of(task);

	if (b->resume_ns)
		ADD(at, cpu_ns, ran_ns(&b->resume_runtime, &runtime, ns));
	if (running)
		b->resume_runtime = runtime;
#endif
	if (b->resume_ns) {
		b->stall_ns += ns;
		ADD(at, stall_ns, ns);
		/* kswapd may sleep briefly inside its bracket, so its time counts only up to its latest batch. */
		if (!shared(at))
			show_open(at->row, b, running && b->path != PATH_KSWAPD ? now : 0);
	}
	b->resume_ns = running ? now : 0;
}

static __always_inline void settle(struct bracket *b, u64 task, u64 now, bool running)
{
	struct place at;

	if (find(&at, b->row))
		settle_in(b, &at, task, now, running);
}

/* Adds scanned pages whose node was not known yet to the row of the batch that names it. */
static __always_inline void flush_pending(struct thread *t, struct place *at)
{
	struct place from;

	if (!t->pending_file_pages && !t->pending_anon_pages)
		return;
	ADD(at, scanned_file_pages, t->pending_file_pages);
	ADD(at, scanned_anon_pages, t->pending_anon_pages);
	if (find(&from, t->pending_row))
		ADD(&from, pending_pages, -(t->pending_file_pages + t->pending_anon_pages));
	t->pending_file_pages = 0;
	t->pending_anon_pages = 0;
}

/* The end of a reclaim. now is 0 for kswapd if no event says when it stopped; its latest batch then marks the end. */
static __always_inline void finish(struct thread *t, struct bracket *b, u64 task, u64 now, u64 reported_pages)
{
	u32 zero = 0, order = b->order, slot, bucket;
	struct control *c = control.lookup(&zero);
	u64 ns, own_pages;
	struct place at;

	if (!c || !find(&at, b->row))
		return;
#ifdef PASSES
	pass_over(b, &at, task, now ? now : b->resume_ns, reported_pages);
#endif
#ifdef PAIR_shrink_node
	settle_pair(&t->pass_pair);
#endif
#ifdef PAIR_write_folio
	settle_pair(&t->write_pair);
#endif
	if (now)
		settle_in(b, &at, task, now, false);
	ns = b->stall_ns;
	flush_pending(t, &at);
	if (b->unseen)
		return;
	own_pages = reported_pages > b->nested_pages ? reported_pages - b->nested_pages : 0;
	slot = masked(c->epoch, EPOCHS);
	bucket = masked(stall_bucket(ns), STALL_BUCKETS);
	ADD(&at, reclaims, 1);
	ADD(&at, asked_pages, b->asked_pages);
	ADD(&at, reported_pages, own_pages);
	if (!own_pages)
		ADD(&at, reclaims_futile, 1);
	ADD(&at, stall_histogram[bucket], 1);
	ADD(&at, order_histogram[masked(order, SLOTS(ORDERS))], 1);
	at.row->gfp_flags = b->gfp_flags;
	if (ns > at.row->stall_max_ns[slot])
		at.row->stall_max_ns[slot] = ns;
	if (own_pages > at.row->reclaimed_max_pages[slot])
		at.row->reclaimed_max_pages[slot] = own_pages;
	ADD(&at, events, 1);
#ifdef DETAIL_PAGES
	if (streams(RECORD_RECLAIM)) {
		struct record record = {
			.time_ns = now ? now : bpf_ktime_get_ns(),
			.duration_ns = ns,
			.asked_pages = b->asked_pages,
			.scanned_pages = b->scanned_pages,
			.reclaimed_pages = own_pages,
			.kind = RECORD_RECLAIM,
			.path = b->path,
			.node = at.row->node,
			.priority = b->priority,
			.order = order,
			.gfp_flags = b->gfp_flags,
		};
		emit(&record, at.row, task);
	}
#endif
}

/* A bracket belongs to the node and target of its first batch or pass. */
static __always_inline void move_bracket(struct bracket *b, struct place *to, u64 task)
{
	struct place from;
	bool found;

	if (to->index == b->row)
		return;
	found = find(&from, b->row);
	b->row = to->index;
	if (!found || shared(&from) || b->path == PATH_KSWAPD)
		return;
	from.row->open_since_ns = 0;
	from.row->events++;
	if (!shared(to)) {
		to->row->open_began_ns = from.row->open_began_ns;
		show_open(to->row, b, b->resume_ns);
		row_refresh(to->row, task);
	}
}

/* A bracket whose end never came: its time is unknown. */
static __always_inline void abandon(struct bracket *b)
{
	struct place at;

	count(STAT_UNMATCHED_BEGIN);
	if (!find(&at, b->row))
		return;
#ifdef PASSES
	add_passes(b, &at);
#endif
	if (!shared(&at))
		at.row->open_since_ns = 0;
}

static __always_inline void open_bracket(struct thread *t, struct bracket *b, u64 task, u64 now, u32 path, s32 node,
					 u32 order, u32 gfp_flags, u32 asked_pages, u64 target_id)
{
	u32 index = row_of(t, task, path, node, target_id);
	struct place at;

	find(&at, index);
	*b = (struct bracket){
		.resume_ns = now,
		.target_id = target_id,
		.path = path,
		.row = index,
		.order = order,
		.gfp_flags = gfp_flags,
		.asked_pages = asked_pages,
		.priority = PRIORITY_UNKNOWN,
	};
#ifdef CPU_TIME
	b->resume_runtime = runtime_of(task);
#endif
	if (!at.row || shared(&at))
		return;
	if (now - t->named_ns > NAME_AGE_NS) {
		row_refresh(at.row, task);
		t->named_ns = now;
	}
	if (path != PATH_KSWAPD) {
		at.row->open_began_ns = now;
		show_open(at.row, b, now);
	}
	at.row->events++;
}

static __always_inline void begin(u32 path, s32 node, u32 order, u32 gfp_flags, u32 asked_pages, u64 target_id)
{
	u64 task = bpf_get_current_task(), now;
	struct bracket *b;
	struct thread *t;

	if (!watched(task))
		return;
	t = thread_of(task);
	if (!t) {
		count(STAT_TABLE_FULL_THREADS);
		return;
	}
	now = bpf_ktime_get_ns();
	b = &t->outer;
	if (t->depth == 1 && path == PATH_SOFTLIMIT && t->outer.path != PATH_SOFTLIMIT) {
		settle(&t->outer, task, now, false);
		b = &t->inner;
	} else if (t->depth) {
		if (t->depth == 2)
			abandon(&t->inner);
		abandon(&t->outer);
		t->depth = 0;
	}
#ifdef TARGET_BY_PASS
	/* Most likely that of the latest one, so that the bracket need not move. Each such reclaim has a pass, which tells. */
	if (path == PATH_MEMCG)
		target_id = t->target_id;
#endif
	open_bracket(t, b, task, now, path, node, order, gfp_flags, asked_pages, target_id);
	t->begun = 1;
	t->depth++;
}

/* The innermost open bracket. */
static __always_inline struct bracket *bracket_of(struct thread *t)
{
	return t->depth == 2 ? &t->inner : &t->outer;
}

/*
 * Whether to count an event that belongs inside a bracket. *thread is its thread, NULL if the table is full. An event
 * outside any bracket counts as PATH_OTHER.
 */
static __always_inline bool inside(u64 task, struct thread **thread)
{
	*thread = known_thread(task);
	if (*thread && ((*thread)->depth || (*thread)->pid_tgid == bpf_get_current_pid_tgid()))
		return true;
	if (!watched(task))
		return false;
	*thread = thread_of(task);
	if (!*thread)
		count(STAT_TABLE_FULL_THREADS);
	return true;
}

/* The row for an event on a node, with path and target of the open bracket. Without a thread, it is an overflow row. */
static __always_inline bool find_inside(struct place *at, struct thread *t, u64 task, s32 node)
{
	struct bracket *b;

	if (!t)
		return find(at, PATH_OTHER);
	if (!t->depth)
		return find(at, row_of(t, task, PATH_OTHER, node, 0));
	b = bracket_of(t);
	return find(at, row_of(t, task, b->path, node, b->target_id));
}

/* Pages that an allocation of this order needs; reclaim asks for at least a cluster (mm/vmscan.c, __node_reclaim). */
static __always_inline u32 asked_for(u32 order)
{
	u32 pages = 1 << (order & 31);

	return pages > SWAP_CLUSTER_MAX ? pages : SWAP_CLUSTER_MAX;
}

#ifdef CTX_direct_reclaim_begin
int on_direct_reclaim_begin(struct CTX_direct_reclaim_begin *ctx)
{
	u32 order = ARG_direct_reclaim_begin_order;

	begin(PATH_DIRECT, node_here(), order, ARG_direct_reclaim_begin_gfp_flags, asked_for(order), 0);
	return 0;
}
#endif

#ifdef CTX_memcg_reclaim_begin
int on_memcg_reclaim_begin(struct CTX_memcg_reclaim_begin *ctx)
{
	begin(PATH_MEMCG, node_here(), ARG_memcg_reclaim_begin_order, ARG_memcg_reclaim_begin_gfp_flags,
	      SWAP_CLUSTER_MAX, TARGET_memcg_reclaim_begin);
	return 0;
}
#endif

#ifdef CTX_softlimit_reclaim_begin
int on_softlimit_reclaim_begin(struct CTX_softlimit_reclaim_begin *ctx)
{
	begin(PATH_SOFTLIMIT, node_here(), ARG_softlimit_reclaim_begin_order, ARG_softlimit_reclaim_begin_gfp_flags,
	      SWAP_CLUSTER_MAX, TARGET_softlimit_reclaim_begin);
	return 0;
}
#endif

#ifdef CTX_node_reclaim_begin
int on_node_reclaim_begin(struct CTX_node_reclaim_begin *ctx)
{
	u32 order = ARG_node_reclaim_begin_order;

	begin(PATH_NODE, ARG_node_reclaim_begin_nid, order, ARG_node_reclaim_begin_gfp_flags, asked_for(order), 0);
	return 0;
}
#endif

#ifdef CTX_reclaim_end
/*
 * One program for all ends, because compiling each program takes start-up time. The end is that of the innermost
 * bracket. A reclaim that began before mmwatch started is not counted.
 */
int on_reclaim_end(struct CTX_reclaim_end *ctx)
{
	u64 task = bpf_get_current_task(), now = bpf_ktime_get_ns(), reported_pages = ARG_reclaim_end_nr_reclaimed;
	struct thread *t = known_thread(task);
	struct place at;

	if (t && t->depth) {
		finish(t, bracket_of(t), task, now, reported_pages);
		t->depth--;
		if (t->depth) {
			t->outer.nested_pages += reported_pages;
			t->outer.resume_ns = now;
			settle(&t->outer, task, now, true);
		}
		return 0;
	}
	if (!watched(task))
		return 0;
	t = thread_of(task);
	if (t || !find(&at, PATH_OTHER)) {
		count(t && !t->begun ? STAT_UNDER_WAY : STAT_UNMATCHED_END);
		if (t)
			t->begun = 1;
		return 0;
	}
	/* The table is full; begin() has counted that. Count the reclaim, although its path and time are unknown. */
	ADD(&at, reclaims, 1);
	ADD(&at, reported_pages, reported_pages);
	ADD(&at, events, 1);
	return 0;
}
#endif

#endif
