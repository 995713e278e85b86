/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counts page reclaim per thread × path × node, in the kernel. Compiled by BCC at start-up; the front end
 * (mmwatch/kernel/) passes what differs between kernels and sessions as -D flags:
 *
 *   CTX_event            the context type of an event, defined when it is attached: a raw tracepoint's, or the struct
 *                        BCC makes from the tracefs format where the raw arguments are not known
 *   ARG_event_field      how to read a field from that context
 *   RAW_event            defined when it is a raw tracepoint
 *   OFF_struct_member    offsets from BTF, defined when known
 *   TWICE_event          defined when two programs see it
 *   PASSES_*             how passes are seen
 *   FILTER_*             only tasks that match are counted
 *   DETAIL_PAGES         size of the ring buffer, defined when single records may be asked for
 *
 * Raw tracepoints are preferred: they cost less than perf's, and are not skipped while some BPF map system call runs
 * on the same CPU (kernel/trace/bpf_trace.c, trace_call_bpf: bpf_prog_active).
 *
 * Everything here runs inside page reclaim, so nothing allocates: maps are preallocated, row indices come from a queue
 * that user space fills (BPF of the compilers BCC brings has no atomic add that returns a value).
 */
#include <linux/types.h>
#include <asm/ptrace.h>
#include "records.h"

#define SWAP_CLUSTER_MAX 32 /* include/linux/swap.h */
#define NAME_AGE_NS 1000000 /* comm and cgroup are looked at again in a reclaim that begins later than that */
#define ROWS_PER_THREAD 64  /* paths × nodes × nodes one thread may use before it shares the overflow rows */
#ifndef CPU_NODE	    /* defined where there is only one */
#define CPU_NODE bpf_get_numa_node_id()
#endif
#define FIRST_PROGRAM 1 /* of two that see the same */
#define OTHER_PROGRAM(by) (3 - (by))
#define LEVELS_MAX 32 /* MAX_PID_NS_LEVEL; cgroups deeper than this are not found by a filter */

BPF_F_TABLE("array", u32, struct row, rows, ROWS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct control, control, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct stats, stats, 1, BPF_F_MMAPABLE);
BPF_QUEUE(free_rows, u32, ROWS);
/* By task_struct address: unlike a TID it cannot be taken over before sched_process_free. */
BPF_HASH(slots, u64, u32, ROWS);
BPF_ARRAY(threads, struct thread, ROWS);
BPF_QUEUE(free_slots, u32, ROWS);
/* The slot of the thread that was looked up last on a CPU: a reclaim looks for its own again and again. */
BPF_PERCPU_ARRAY(latest_slot, u32, 1);
#ifdef DETAIL_PAGES
BPF_RINGBUF_OUTPUT(records, DETAIL_PAGES);
/* Never called: BCC tells the front end the layout of what is used as a table's value. */
BPF_ARRAY(record_layout, struct record, 1);
#endif
#ifdef FILTER_TGID
BPF_HASH(watched_tgids, u32, u8, 65536);
#endif
#ifdef FOLLOW_CHILDREN
/* Processes entered there at their fork, by task_struct address: the number entered, and the PID above it. */
BPF_HASH(followed, u64, u64, 65536);
#endif

#define ADD(row, member, n)                                        \
	do {                                                       \
		if (shared)                                        \
			__sync_fetch_and_add(&(row)->member, (n)); \
		else                                               \
			(row)->member += (n);                      \
	} while (0)

static __always_inline u64 read_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u8 read_u8(u64 address)
{
	u8 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/* An index below size, a power of two, in a way the compiler cannot drop and the verifier can follow. */
static __always_inline u64 masked(u64 index, u64 size)
{
	asm volatile("" : "+r"(index));
	return index & (size - 1);
}

static __always_inline void count(u32 what)
{
	u32 zero = 0;
	struct stats *s = stats.lookup(&zero);

	if (s)
		__sync_fetch_and_add(&s->count[masked(what, STATS)], 1);
}

#if defined(PASSES_TWICE) || defined(TWICE_write_folio)
/*
 * Where a program can lose the CPU in its middle, it does not run for other tasks on that CPU until it goes on (its
 * recursion guard: bpf_prog.active). Another program then does, and where both run, the one that comes second only notes
 * it here. In whichever order the kernel calls them, and whichever is missed, something counts once.
 */
static __always_inline bool noted(u32 *by_one, u32 by)
{
	if (*by_one == OTHER_PROGRAM(by)) {
		*by_one = 0;
		return true;
	}
	if (*by_one)
		count(STAT_BY_ONE);
	*by_one = by;
	return false;
}

static __always_inline void settle_by_one(u32 *by_one)
{
	if (*by_one)
		count(STAT_BY_ONE);
	*by_one = 0;
}
#endif

/* ---- who: PIDs as the front end's namespace sees them, cgroups, filters ---- */

#ifdef PIDNS_INUM
/* The number a task has in the front end's PID namespace: struct pid, include/linux/pid.h. 0 where it has none. */
static __always_inline u32 task_nr(u64 task)
{
	u64 pid = read_u64(task + OFF_task_struct_thread_pid);
	u32 level = read_u32(pid + OFF_pid_level);

	for (u32 i = 0; i < LEVELS_MAX; i++) {
		u64 upid = pid + OFF_pid_numbers + i * SIZE_upid;

		if (i > level)
			break;
		if (read_u32(read_u64(upid + OFF_upid_ns) + OFF_pid_namespace_ns + OFF_ns_common_inum) == PIDNS_INUM)
			return read_u32(upid + OFF_upid_nr);
	}
	return 0;
}

static __always_inline u32 current_tid(u64 task)
{
	return task_nr(task);
}

static __always_inline u32 current_tgid(u64 task)
{
	return task_nr(read_u64(task + OFF_task_struct_group_leader));
}
#else
static __always_inline u32 current_tid(u64 task)
{
	return (u32)bpf_get_current_pid_tgid();
}

static __always_inline u32 current_tgid(u64 task)
{
	return bpf_get_current_pid_tgid() >> 32;
}
#endif

#ifdef OFF_task_struct_cgroups
/* The css of the hierarchy that limits memory: the memory controller's own on cgroup v1, the one hierarchy on v2. */
static __always_inline u64 current_css(u64 task)
{
	u64 set = read_u64(task + OFF_task_struct_cgroups);

#ifdef MEMORY_CGRP_ID
	return read_u64(set + OFF_css_set_subsys + 8 * MEMORY_CGRP_ID);
#else
	return read_u64(set + OFF_css_set_dfl_cgrp) + OFF_cgroup_self;
#endif
}

static __always_inline u64 css_id(u64 css)
{
	u64 cgroup = read_u64(css + OFF_cgroup_subsys_state_cgroup);

	return read_u64(read_u64(cgroup + OFF_cgroup_kn) + OFF_kernfs_node_id);
}
#endif

static __always_inline u64 current_cgroup(u64 task)
{
#ifdef MEMORY_CGRP_ID
	return css_id(current_css(task));
#elif defined(CGROUP_V2)
	return bpf_get_current_cgroup_id();
#else
	return 0;
#endif
}

static __always_inline bool watched(u64 task)
{
#ifdef FILTER_TGID
	u32 tgid = current_tgid(task);

	if (!watched_tgids.lookup(&tgid))
		return false;
#endif
#ifdef FILTER_COMM_LOW
	u64 comm[2] = {};

	bpf_get_current_comm(&comm, sizeof(comm));
	if (comm[0] != FILTER_COMM_LOW || comm[1] != FILTER_COMM_HIGH)
		return false;
#endif
#ifdef FILTER_CGROUP
	u64 css = current_css(task);

	for (u32 i = 0; i < LEVELS_MAX; i++) {
		if (css_id(css) == FILTER_CGROUP)
			return true;
		css = read_u64(css + OFF_cgroup_subsys_state_parent);
		if (!css)
			break;
	}
	return false;
#endif
	return true;
}

/* ---- threads and their rows ---- */

/* Nobody writes its rows any more. */
static __always_inline void retire_rows(struct thread *t)
{
	u32 index = t->first_row;
	struct row *row;

	for (u32 i = 0; i < ROWS_PER_THREAD && index; i++) {
		row = rows.lookup(&index);
		if (!row)
			break;
		index = row->next;
		row->open_since_ns = 0;
		row->state = ROW_EXITED;
	}
}

static __always_inline struct thread *known_thread(u64 task)
{
	u32 zero = 0, slot;
	u32 *latest = latest_slot.lookup(&zero), *found;
	struct thread *t;

	if (!latest)
		return 0;
	/* Another task may have written it meanwhile, where a program can be preempted: the slot itself says whose it is. */
	slot = *latest;
	t = threads.lookup(&slot);
	if (t && t->task == task)
		return t;
	found = slots.lookup(&task);
	if (!found)
		return 0;
	slot = *found;
	*latest = slot;
	return threads.lookup(&slot);
}

static __always_inline void forget_thread(u64 task, struct thread *t)
{
	u32 *found = slots.lookup(&task), slot;

	retire_rows(t);
	if (!found)
		return;
	slot = *found;
	t->task = 0;
	slots.delete(&task);
	free_slots.push(&slot, 0);
}

static __always_inline struct thread *thread_of(u64 task)
{
	struct thread *t = known_thread(task);
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 slot;

	if (t && t->pid_tgid == pid_tgid)
		return t;
	/* An end can be missed: some kernels run no BPF program while certain processes are current. */
	if (t) {
		retire_rows(t);
	} else {
		if (free_slots.pop(&slot) || slots.update(&task, &slot))
			return 0;
		t = threads.lookup(&slot);
		if (!t)
			return 0;
	}
	*t = (struct thread){
		.cached_node = NODE_UNKNOWN,
		.pid_tgid = pid_tgid,
		.task = task,
	};
	return t;
}

static __always_inline void row_refresh(struct row *row, u64 task)
{
	bpf_get_current_comm(&row->comm, sizeof(row->comm));
	row->cgroup_id = current_cgroup(task);
}

/* The index of the thread's row for a path and node; made if there is none, the path's overflow row if it can't be. */
static __always_inline u32 row_of(struct thread *t, u64 task, u32 path, s32 node)
{
	s32 cpu_node = CPU_NODE;
	u32 index = t->first_row;
	struct row *row;

	if (t->cached_row && t->cached_path == path && t->cached_node == node && t->cached_cpu_node == cpu_node)
		return t->cached_row;
	for (u32 i = 0; i < ROWS_PER_THREAD && index; i++) {
		row = rows.lookup(&index);
		if (!row)
			break;
		if (row->path == path && row->node == node && row->cpu_node == cpu_node)
			goto found;
		index = row->next;
	}
	if (index || free_rows.pop(&index))
		goto full;
	row = rows.lookup(&index);
	if (!row)
		goto full;
	row->start_ns = bpf_ktime_get_ns();
	row->path = path;
	row->node = node;
	row->cpu_node = cpu_node;
	row->tgid = current_tgid(task);
	row->tid = current_tid(task);
	row_refresh(row, task);
	row->next = t->first_row;
	row->state = ROW_LIVE;
	t->first_row = index;
found:
	t->cached_row = index;
	t->cached_path = path;
	t->cached_node = node;
	t->cached_cpu_node = cpu_node;
	t->named_ns = 0;
	return index;
full:
	count(STAT_TABLE_FULL_ROWS);
	return path < PATHS ? path : PATH_OTHER;
}

static __always_inline s32 node_here(void)
{
#ifdef NODE_GUESS
	return NODE_GUESS; /* not known, where no batch will ever tell */
#else
	return CPU_NODE;
#endif
}

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

/* ---- brackets ---- */

/* Adds the time since the bracket last ran to its row; running again says whether it goes on. */
static __always_inline void settle_in(struct bracket *b, struct row *row, bool shared, u64 now, bool running)
{
	u64 ns = now - b->resume_ns;

	if (b->resume_ns) {
		b->stall_ns += ns;
		ADD(row, stall_ns, ns);
		/* kswapd naps inside its bracket, so its time is only counted up to its latest batch. */
		if (!shared)
			row->open_since_ns = running && b->path != PATH_KSWAPD ? now : 0;
	}
	b->resume_ns = running ? now : 0;
}

static __always_inline void settle(struct bracket *b, u64 now, bool running)
{
	u32 index = b->row;
	struct row *row = rows.lookup(&index);

	if (row)
		settle_in(b, row, index < PATHS, now, running);
}

static __always_inline void flush_pending(struct thread *t, struct row *row, bool shared)
{
	if (!t->pending_file_pages && !t->pending_anon_pages)
		return;
	ADD(row, scanned_file_pages, t->pending_file_pages);
	ADD(row, scanned_anon_pages, t->pending_anon_pages);
	t->pending_file_pages = 0;
	t->pending_anon_pages = 0;
}

#ifdef DETAIL_PAGES
/* Whether somebody looks at single records now: asked before anything is spent on one. */
static __always_inline bool streams(u32 kind)
{
	u32 zero = 0;
	struct control *c = control.lookup(&zero);

	return c && c->detail & (1 << kind);
}

static __always_inline void emit(struct record *from, struct row *row, u64 task)
{
	u32 zero = 0;
	struct control *c = control.lookup(&zero);
	struct record *to;

	if (!c)
		return;
	if ((s64)c->quota <= 0) {
		count(STAT_SUPPRESSED + from->kind);
		return;
	}
	to = records.ringbuf_reserve(sizeof(*to));
	if (!to) {
		count(STAT_LOST + from->kind);
		return;
	}
	__sync_fetch_and_add(&c->quota, -1);
	*to = *from;
	to->cpu = bpf_get_smp_processor_id();
	to->tgid = current_tgid(task);
	to->tid = current_tid(task);
	to->cgroup_id = row->cgroup_id;
	bpf_get_current_comm(&to->comm, sizeof(to->comm));
	records.ringbuf_submit(to, BPF_RB_NO_WAKEUP);
}
#endif

static __always_inline void add_passes(struct bracket *b, struct row *row, bool shared)
{
	u32 passes = b->passes - b->passes_added;

	ADD(row, passes, passes);
	ADD(row, passes_futile, passes - b->passes_fruitful);
	b->passes_added = b->passes;
	b->passes_fruitful = 0;
}

#ifdef PASSES
/*
 * What the pass that is over took: what the scan_control's count grew by; kswapd's is set to 0 before each
 * (balance_pgdat), so there it is what its batches took.
 */
static __always_inline u64 pass_took(struct bracket *b, struct row *row, bool shared, u64 reclaimed_pages)
{
	u64 pages = reclaimed_pages - b->pass_reclaimed_pages;

	if (reclaimed_pages <= b->pass_reclaimed_pages)
		return 0;
	b->passes_fruitful++;
	ADD(row, pass_reclaimed_pages, pages);
	return pages;
}

/*
 * The pass that ran up to now is over; those before it have their time from here, too. What it scanned is what its
 * batches did: the scan_control cannot be read any more when the reclaim ends.
 */
static __always_inline void pass_over(struct bracket *b, struct row *row, bool shared, u64 task, u64 now,
				      u64 reclaimed_pages)
{
	u64 pages, ns = now - b->pass_begin_ns;

	if (!b->passes)
		return;
	pages = pass_took(b, row, shared, b->path == PATH_KSWAPD ? b->reclaimed_pages : reclaimed_pages);
	b->pass_begin_ns = now;
	ADD(row, pass_ns, ns);
	add_passes(b, row, shared);
#ifdef DETAIL_PAGES
	if (streams(RECORD_PASS)) {
		struct record record = {
			.time_ns = now,
			.duration_ns = ns,
			.asked_pages = b->asked_pages,
			.scanned_pages = b->scanned_pages - b->pass_scanned_pages,
			.reclaimed_pages = pages,
			.kind = RECORD_PASS,
			.path = b->path,
			.node = b->pass_node,
			.priority = b->pass_priority,
			.order = b->order,
			.gfp_flags = b->gfp_flags,
		};
		emit(&record, row, task);
	}
#endif
}
#endif

/* The end of a reclaim. now is 0 for kswapd where nothing says when it stopped: its latest batch does. */
static __always_inline void finish(struct thread *t, struct bracket *b, u64 task, u64 now, u64 reported_pages)
{
	u32 index = b->row, zero = 0, order = b->order, slot, bucket;
	struct row *row = rows.lookup(&index);
	struct control *c = control.lookup(&zero);
	bool shared = index < PATHS;
	u64 ns, own_pages;

	if (!row || !c)
		return;
#ifdef PASSES
	pass_over(b, row, shared, task, now ? now : b->resume_ns, reported_pages);
#endif
#ifdef PASSES_TWICE
	settle_by_one(&t->pass_by);
#endif
#ifdef TWICE_write_folio
	settle_by_one(&t->write_by);
#endif
	if (now)
		settle_in(b, row, shared, now, false);
	ns = b->stall_ns;
	flush_pending(t, row, shared);
	if (b->unseen)
		return;
	own_pages = reported_pages > b->nested_pages ? reported_pages - b->nested_pages : 0;
	slot = c->epoch & 1;
	bucket = masked(stall_bucket(ns), STALL_BUCKETS);
	ADD(row, reclaims, 1);
	ADD(row, asked_pages, b->asked_pages);
	ADD(row, reported_pages, own_pages);
	if (!own_pages)
		ADD(row, reclaims_futile, 1);
	ADD(row, stall_histogram[bucket], 1);
	ADD(row, order_histogram[masked(order, ORDERS)], 1);
	row->gfp_flags = b->gfp_flags;
	if (ns > row->stall_max_ns[slot])
		row->stall_max_ns[slot] = ns;
	if (own_pages > row->reclaimed_max_pages[slot])
		row->reclaimed_max_pages[slot] = own_pages;
	ADD(row, events, 1);
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
			.node = row->node,
			.priority = b->priority,
			.order = order,
			.gfp_flags = b->gfp_flags,
		};
		emit(&record, row, task);
	}
#endif
}

/* The bracket belongs to the node its first batch, or pass, took from. */
static __always_inline void move_bracket(struct bracket *b, struct row *row, u32 index, u64 task)
{
	u32 old_index = b->row;
	struct row *old;

	if (index == old_index)
		return;
	old = rows.lookup(&old_index);
	b->row = index;
	if (!old || old_index < PATHS || b->path == PATH_KSWAPD)
		return;
	old->open_since_ns = 0;
	old->events++;
	if (index >= PATHS) {
		row->open_since_ns = b->resume_ns;
		row_refresh(row, task);
	}
}

/* A bracket whose end never came: its time is unknown. */
static __always_inline void abandon(struct bracket *b)
{
	u32 index = b->row;
	struct row *row = rows.lookup(&index);

	count(STAT_UNMATCHED_BEGIN);
	if (!row)
		return;
	add_passes(b, row, index < PATHS);
	if (index >= PATHS)
		row->open_since_ns = 0;
}

static __always_inline void open_bracket(struct thread *t, struct bracket *b, u64 task, u64 now, u32 path, s32 node,
					 u32 order, u32 gfp_flags, u32 asked_pages)
{
	u32 index = row_of(t, task, path, node);
	struct row *row = rows.lookup(&index);

	*b = (struct bracket){
		.resume_ns = now,
		.path = path,
		.row = index,
		.order = order,
		.gfp_flags = gfp_flags,
		.asked_pages = asked_pages,
		.priority = PRIORITY_UNKNOWN,
	};
	if (!row || index < PATHS)
		return;
	if (now - t->named_ns > NAME_AGE_NS) {
		row_refresh(row, task);
		t->named_ns = now;
	}
	if (path != PATH_KSWAPD)
		row->open_since_ns = now;
	row->events++;
}

static __always_inline void begin(u32 path, s32 node, u32 order, u32 gfp_flags, u32 asked_pages)
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
		settle(&t->outer, now, false);
		b = &t->inner;
	} else if (t->depth) {
		if (t->depth == 2)
			abandon(&t->inner);
		abandon(&t->outer);
		t->depth = 0;
	}
	open_bracket(t, b, task, now, path, node, order, gfp_flags, asked_pages);
	t->depth++;
}

static __always_inline struct bracket *bracket_of(struct thread *t)
{
	return t->depth == 2 ? &t->inner : &t->outer;
}

/*
 * Whether an event that lies inside a bracket is to be counted, and its thread: none if the table is full. One met
 * outside of any bracket counts as PATH_OTHER.
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

/* The row of an event on a node, in the path of the bracket that is open; without a thread, an overflow row. */
static __always_inline u32 row_inside(struct thread *t, u64 task, s32 node)
{
	return t ? row_of(t, task, t->depth ? bracket_of(t)->path : PATH_OTHER, node) : PATH_OTHER;
}

#ifdef CTX_direct_reclaim_begin
int on_direct_reclaim_begin(struct CTX_direct_reclaim_begin *ctx)
{
	u32 order = ARG_direct_reclaim_begin_order;
	u32 asked = 1 << (order & 31);

	begin(PATH_DIRECT, node_here(), order, ARG_direct_reclaim_begin_gfp_flags,
	      asked > SWAP_CLUSTER_MAX ? asked : SWAP_CLUSTER_MAX);
	return 0;
}
#endif

#ifdef CTX_memcg_reclaim_begin
int on_memcg_reclaim_begin(struct CTX_memcg_reclaim_begin *ctx)
{
	begin(PATH_MEMCG, node_here(), ARG_memcg_reclaim_begin_order, ARG_memcg_reclaim_begin_gfp_flags,
	      SWAP_CLUSTER_MAX);
	return 0;
}
#endif

#ifdef CTX_softlimit_reclaim_begin
int on_softlimit_reclaim_begin(struct CTX_softlimit_reclaim_begin *ctx)
{
	begin(PATH_SOFTLIMIT, node_here(), ARG_softlimit_reclaim_begin_order, ARG_softlimit_reclaim_begin_gfp_flags,
	      SWAP_CLUSTER_MAX);
	return 0;
}
#endif

#ifdef CTX_node_reclaim_begin
int on_node_reclaim_begin(struct CTX_node_reclaim_begin *ctx)
{
	u32 order = ARG_node_reclaim_begin_order;
	u32 asked = 1 << (order & 31);

	begin(PATH_NODE, ARG_node_reclaim_begin_nid, order, ARG_node_reclaim_begin_gfp_flags,
	      asked > SWAP_CLUSTER_MAX ? asked : SWAP_CLUSTER_MAX);
	return 0;
}
#endif

#ifdef CTX_reclaim_end
/*
 * One program ends them all (each costs start-up time to compile): what ends is the innermost bracket. The end of a
 * reclaim that began before we came is not ours to count.
 */
int on_reclaim_end(struct CTX_reclaim_end *ctx)
{
	u64 task = bpf_get_current_task(), now = bpf_ktime_get_ns(), reported_pages = ARG_reclaim_end_nr_reclaimed;
	struct thread *t = known_thread(task);
	u32 index = PATH_OTHER;
	struct row *row;

	if (t && t->depth) {
		finish(t, bracket_of(t), task, now, reported_pages);
		t->depth--;
		if (t->depth) {
			t->outer.nested_pages += reported_pages;
			t->outer.resume_ns = now;
			settle(&t->outer, now, true);
		}
		return 0;
	}
	if (!watched(task))
		return 0;
	row = rows.lookup(&index);
	if (thread_of(task) || !row) {
		count(STAT_UNMATCHED_END);
		return 0;
	}
	/* The table is full, which begin() has told: the reclaim counts, its path and time are not known. */
	__sync_fetch_and_add(&row->reclaims, 1);
	__sync_fetch_and_add(&row->reported_pages, reported_pages);
	__sync_fetch_and_add(&row->events, 1);
	return 0;
}
#endif

/* ---- kswapd: one wake per balance_pgdat call, many wakes per sleep ---- */

static __always_inline void kswapd_stop(u64 task, u64 now, u64 reported_pages)
{
	struct thread *t = known_thread(task);

	if (!t || !t->depth || t->outer.path != PATH_KSWAPD)
		return;
	if (t->depth == 2)
		abandon(&t->inner);
	/* Without a report, what its batches took; like one, with what was nested: finish() takes that off. */
	if (!reported_pages)
		reported_pages = t->outer.reclaimed_pages + t->outer.nested_pages;
	finish(t, &t->outer, task, now, reported_pages);
	t->depth = 0;
}

#ifdef CTX_kswapd_wake
int on_kswapd_wake(struct CTX_kswapd_wake *ctx)
{
	kswapd_stop(bpf_get_current_task(), 0, 0);
	begin(PATH_KSWAPD, ARG_kswapd_wake_nid, ARG_kswapd_wake_order, 0, 0);
	return 0;
}
#endif

#ifdef CTX_kswapd_sleep
int on_kswapd_sleep(struct CTX_kswapd_sleep *ctx)
{
	kswapd_stop(bpf_get_current_task(), 0, 0);
	return 0;
}
#endif

#ifdef CTX_balance_pgdat_end
int on_balance_pgdat_end(struct CTX_balance_pgdat_end *ctx)
{
	kswapd_stop(bpf_get_current_task(), bpf_ktime_get_ns(), ARG_balance_pgdat_end_nr_reclaimed);
	return 0;
}
#endif

#ifdef CTX_wakeup_kswapd
int on_wakeup_kswapd(struct CTX_wakeup_kswapd *ctx)
{
	u64 task = bpf_get_current_task();
	struct thread *t;
	struct row *row;
	bool shared;
	u32 index;

	if (!inside(task, &t))
		return 0;
	index = row_inside(t, task, ARG_wakeup_kswapd_nid);
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	ADD(row, kswapd_wakeups, 1);
	ADD(row, events, 1);
	return 0;
}
#endif

/* ---- batches ---- */

#ifdef CTX_lru_isolate
/* By its name (kernel/kthread.c), which is only trusted until it is next seen to wake. */
static __always_inline bool is_kswapd(void)
{
	char comm[COMM_BYTES] = {};

	bpf_get_current_comm(&comm, sizeof(comm));
	return comm[0] == 'k' && comm[1] == 's' && comm[2] == 'w' && comm[3] == 'a' && comm[4] == 'p' && comm[5] == 'd';
}

/*
 * The only event whose sum is exactly pgscan: a batch that isolates nothing has no shrink_inactive event. The
 * multi-generational LRU counts what it took (scan_folios), the classic one what it looked at (isolate_lru_folios).
 */
int on_lru_isolate(struct CTX_lru_isolate *ctx)
{
	u64 task = bpf_get_current_task(), pages = ARG_lru_isolate_nr_scanned, taken = ARG_lru_isolate_nr_taken;
	u32 lru = ARG_lru_isolate_lru, zero = 0, index;
	struct control *c = control.lookup(&zero);
	struct thread *t;
	struct row *row;
	bool shared;

	if (!c || !inside(task, &t))
		return 0;
	/* kswapd may have been at it for hours when we came; every batch of its begins here. */
	if (t && !t->first_row && is_kswapd()) {
		open_bracket(t, &t->outer, task, bpf_ktime_get_ns(), PATH_KSWAPD, node_here(), 0, 0, 0);
		t->outer.unseen = 1;
		t->depth = 1;
	}
	if (lru != 0 && lru != 2)
		return 0;
	/* Both are read first: the verifier refuses a context pointer that was chosen between. */
	asm volatile("" : "+r"(pages), "+r"(taken));
	if (c->lru_gen)
		pages = taken;
	if (t && t->depth) {
		/* The batch that follows says from which node. */
		if (lru)
			t->pending_file_pages += pages;
		else
			t->pending_anon_pages += pages;
		bracket_of(t)->scanned_pages += pages;
		return 0;
	}
	index = row_inside(t, task, node_here());
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	if (lru)
		ADD(row, scanned_file_pages, pages);
	else
		ADD(row, scanned_anon_pages, pages);
	ADD(row, events, 1);
	return 0;
}
#endif

#ifdef CTX_lru_shrink_inactive
/* struct reclaim_stat, include/linux/vmstat.h: what became of the pages of a batch that were not reclaimed. */
struct batch_stat {
	u32 dirty, writeback, immediate, activated, referenced, unmap_failed;
};

int on_lru_shrink_inactive(struct CTX_lru_shrink_inactive *ctx)
{
	u64 task = bpf_get_current_task(), reclaimed = ARG_lru_shrink_inactive_nr_reclaimed;
	u64 scanned = ARG_lru_shrink_inactive_nr_scanned;
	s32 node = ARG_lru_shrink_inactive_nid;
	u32 priority = ARG_lru_shrink_inactive_priority, index;
	u32 file = ARG_lru_shrink_inactive_file;
	struct batch_stat stat = {};
	struct bracket *b = 0;
	struct thread *t;
	struct row *row;
	bool shared;

	if (!inside(task, &t))
		return 0;
#ifdef RAW_lru_shrink_inactive
	u64 from = ARG_lru_shrink_inactive_stat;

	stat.dirty = read_u32(from + OFF_reclaim_stat_nr_dirty);
	stat.writeback = read_u32(from + OFF_reclaim_stat_nr_writeback);
	stat.immediate = read_u32(from + OFF_reclaim_stat_nr_immediate);
	stat.activated = read_u32(from + OFF_reclaim_stat_nr_activate);
	stat.activated += read_u32(from + OFF_reclaim_stat_nr_activate + 4);
	stat.referenced = read_u32(from + OFF_reclaim_stat_nr_ref_keep);
	stat.unmap_failed = read_u32(from + OFF_reclaim_stat_nr_unmap_fail);
#else
	file &= 2; /* the trace record has RECLAIM_WB_FILE there, include/trace/events/vmscan.h */
	stat.dirty = ctx->nr_dirty;
	stat.writeback = ctx->nr_writeback;
	stat.immediate = ctx->nr_immediate;
	stat.activated = ctx->nr_activate0 + ctx->nr_activate1;
	stat.referenced = ctx->nr_ref_keep;
	stat.unmap_failed = ctx->nr_unmap_fail;
#endif
	if (t && t->depth)
		b = bracket_of(t);
	index = row_inside(t, task, node);
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	if (b) {
		if (!b->batches && !b->passes)
			move_bracket(b, row, index, task);
		b->batches++;
		b->reclaimed_pages += reclaimed;
		if (priority < b->priority)
			b->priority = priority;
		if (b->path == PATH_KSWAPD)
			settle(b, bpf_ktime_get_ns(), true);
	}
	if (t)
		flush_pending(t, row, shared);
	if (file)
		ADD(row, reclaimed_file_pages, reclaimed);
	else
		ADD(row, reclaimed_anon_pages, reclaimed);
	ADD(row, batches, 1);
	ADD(row, dirty_pages, stat.dirty);
	ADD(row, writeback_pages, stat.writeback);
	ADD(row, immediate_pages, stat.immediate);
	ADD(row, activated_pages, stat.activated);
	ADD(row, referenced_pages, stat.referenced);
	ADD(row, unmap_failed_pages, stat.unmap_failed);
	ADD(row, priority_histogram[masked(priority, PRIORITIES)], 1);
	ADD(row, events, 1);
#ifdef DETAIL_PAGES
	if (streams(RECORD_BATCH)) {
		struct record record = {
			.time_ns = bpf_ktime_get_ns(),
			.scanned_pages = scanned,
			.reclaimed_pages = reclaimed,
			.kind = RECORD_BATCH,
			.path = b ? b->path : PATH_OTHER,
			.node = node,
			.priority = priority,
			.file = file != 0,
		};
		emit(&record, row, task);
	}
#endif
	return 0;
}
#endif

#ifdef CTX_lru_shrink_active
int on_lru_shrink_active(struct CTX_lru_shrink_active *ctx)
{
	u64 task = bpf_get_current_task();
	u32 priority = ARG_lru_shrink_active_priority, index;
	struct thread *t;
	struct row *row;
	bool shared;

	if (!inside(task, &t))
		return 0;
	index = row_inside(t, task, ARG_lru_shrink_active_nid);
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	ADD(row, active_batches, 1);
	ADD(row, active_taken_pages, ARG_lru_shrink_active_nr_taken);
	ADD(row, deactivated_pages, ARG_lru_shrink_active_nr_deactivated);
	ADD(row, priority_histogram[masked(priority, PRIORITIES)], 1);
	if (t && t->depth && priority < bracket_of(t)->priority)
		bracket_of(t)->priority = priority;
	ADD(row, events, 1);
	return 0;
}
#endif

/* ---- what else takes time in reclaim ---- */

#ifdef CTX_shrink_slab_start
int on_shrink_slab_start(struct CTX_shrink_slab_start *ctx)
{
	struct thread *t;

	if (inside(bpf_get_current_task(), &t) && t)
		t->shrinker_begin_ns = bpf_ktime_get_ns();
	return 0;
}
#endif

#ifdef CTX_shrink_slab_end
int on_shrink_slab_end(struct CTX_shrink_slab_end *ctx)
{
	u64 task = bpf_get_current_task(), ns;
	struct thread *t = known_thread(task);
	s32 freed = ARG_shrink_slab_end_retval;
	struct row *row;
	bool shared;
	u32 index;

	if (!t || !t->shrinker_begin_ns)
		return 0;
	ns = bpf_ktime_get_ns() - t->shrinker_begin_ns;
	t->shrinker_begin_ns = 0;
	index = row_inside(t, task, ARG_shrink_slab_end_nid);
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	ADD(row, shrinker_calls, 1);
	ADD(row, shrinker_ns, ns);
	if (freed > 0)
		ADD(row, shrinker_objects, freed);
	ADD(row, events, 1);
	return 0;
}
#endif

#ifdef CTX_throttled
int on_throttled(struct CTX_throttled *ctx)
{
	u64 task = bpf_get_current_task(), ns = 1000ULL * ARG_throttled_usec_delayed;
	u32 reason = ARG_throttled_reason, index;
	struct thread *t;
	struct row *row;
	bool shared;

#ifndef RAW_throttled
	/* The trace record holds 1 << reason. */
	reason = reason & 2 ? 1 : reason & 4 ? 2 : reason & 8 ? 3 : 0;
#endif
	if (!inside(task, &t))
		return 0;
	index = row_inside(t, task, ARG_throttled_nid);
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	reason = masked(reason, THROTTLE_REASONS);
	ADD(row, throttled[reason], 1);
	ADD(row, throttled_ns[reason], ns);
	ADD(row, events, 1);
	return 0;
}
#endif

#ifdef CTX_write_folio
static __always_inline int wrote(struct CTX_write_folio *ctx, u32 by)
{
	u64 task = bpf_get_current_task(), pages = 1;
	struct thread *t;
	struct row *row;
	bool shared;
	u32 index;

#if defined(RAW_write_folio) && defined(OFF_folio_nr_pages)
	u64 folio = ARG_write_folio_folio;

	if (read_u64(folio) & (1ULL << PG_HEAD))
		pages = read_u32(folio + OFF_folio_nr_pages);
#endif
	if (!inside(task, &t))
		return 0;
#ifdef TWICE_write_folio
	if (t ? noted(&t->write_by, by) : by != FIRST_PROGRAM)
		return 0;
#endif
	index = t && t->depth ? bracket_of(t)->row : row_inside(t, task, node_here());
	row = rows.lookup(&index);
	if (!row)
		return 0;
	shared = index < PATHS;
	ADD(row, written_pages, pages);
	ADD(row, events, 1);
	return 0;
}

int on_write_folio(struct CTX_write_folio *ctx)
{
	return wrote(ctx, FIRST_PROGRAM);
}

#ifdef TWICE_write_folio
int on_write_folio_again(struct CTX_write_folio *ctx)
{
	return wrote(ctx, OTHER_PROGRAM(FIRST_PROGRAM));
}
#endif
#endif

/* ---- passes: one call of shrink_node, a rung of the priority ladder ---- */

#ifdef PASSES
#ifdef PASSES_FENTRY
/* The kernel knows these pointers, and a read through them is one instruction. */
#define READ(type, pointer, member) (*(type *)(pointer + OFF_##member))
#else
#define READ(type, pointer, member) read_##type(pointer + OFF_##member)
#endif

/*
 * Only the entry is probed: a pass is over when the next one begins, or the reclaim ends. The return would cost as much
 * again, five times in every futile node reclaim. Nor is the clock read where the reclaim's end will do.
 */
static __always_inline void pass(u64 pgdat, u64 sc, u32 by)
{
	u64 task = bpf_get_current_task(), now = 0, reclaimed_pages, asked_pages;
	struct thread *t = known_thread(task);
	u32 index, priority;
	bool shared, clocked;
	struct bracket *b;
	struct row *row;

	if (!t || !t->depth)
		return;
#ifdef PASSES_TWICE
	if (noted(&t->pass_by, by))
		return;
#endif
	b = bracket_of(t);
	index = b->row;
	row = rows.lookup(&index);
	if (!row)
		return;
	shared = index < PATHS;
	clocked = b->path == PATH_KSWAPD;
	reclaimed_pages = READ(u64, sc, scan_control_nr_reclaimed);
#ifdef DETAIL_PAGES
	clocked |= streams(RECORD_PASS);
#endif
	if (b->passes && !clocked) {
		pass_took(b, row, shared, reclaimed_pages);
	} else if (b->passes) {
		now = bpf_ktime_get_ns();
		pass_over(b, row, shared, task, now, reclaimed_pages);
	} else {
		/* node_reclaim calls shrink_node at once; what begins otherwise may have something else to do before. */
		now = b->path == PATH_NODE ? b->resume_ns : bpf_ktime_get_ns();
		b->pass_begin_ns = now;
#ifdef BIT_scan_control_proactive
		/* memory.reclaim and nodeN/reclaim come the same way as limits and zone_reclaim. */
		if (READ(u8, sc, scan_control_proactive) & (1 << BIT_scan_control_proactive))
			b->path = PATH_PROACTIVE;
#endif
		/* More than the path's own rule says where a caller had a number: memory.reclaim. */
		asked_pages = READ(u64, sc, scan_control_nr_to_reclaim);
		if (b->path != PATH_KSWAPD && asked_pages > b->asked_pages)
			b->asked_pages = asked_pages;
		/* node_reclaim has told its node when it began. */
		if (!b->batches && b->path != PATH_NODE) {
			index = row_of(t, task, b->path, READ(u32, pgdat, pglist_data_node_id));
			row = rows.lookup(&index);
			if (!row)
				return;
			shared = index < PATHS;
			move_bracket(b, row, index, task);
		}
	}
	b->passes++;
	priority = READ(u8, sc, scan_control_priority);
	ADD(row, pass_histogram[masked(priority, PRIORITIES)], 1);
	b->pass_reclaimed_pages = reclaimed_pages;
	if (b->path == PATH_KSWAPD) {
		b->pass_reclaimed_pages = b->reclaimed_pages;
		settle(b, now, true);
		ADD(row, events, 1); /* of the others, the reclaim under way has the row read */
	}
#ifdef DETAIL_PAGES
	b->pass_scanned_pages = b->scanned_pages;
	b->pass_priority = priority;
	if (priority < b->priority)
		b->priority = priority;
	b->pass_node = READ(u32, pgdat, pglist_data_node_id);
#endif
}
#endif

#ifdef PASSES_FENTRY
KFUNC_PROBE(shrink_node, u64 pgdat, u64 sc)
{
	pass(pgdat, sc, FIRST_PROGRAM);
	return 0;
}
#endif

#ifdef PASSES_TWICE
/* BCC attaches one program to a function: mmwatch/kernel/syscall.py attaches this one. */
int on_pass_again(u64 *ctx)
{
	pass(ctx[0], ctx[1], OTHER_PROGRAM(FIRST_PROGRAM));
	return 0;
}
#endif

#ifdef PASSES_KPROBE
int on_pass(struct pt_regs *ctx)
{
	pass(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), FIRST_PROGRAM);
	return 0;
}
#endif

/* ---- the life of a task ---- */

#ifdef FOLLOW_CHILDREN
/*
 * A process that was followed has ended: its number may be given to another one. Not so if a thread called exec: it
 * took over the number, and this task_struct has got another one (fs/exec.c, de_thread).
 */
static __always_inline void forget(u64 task)
{
	u64 *both = followed.lookup(&task);
	u32 child;

	if (!both)
		return;
	child = *both;
	if (read_u32(task + OFF_task_struct_pid) == *both >> 32)
		watched_tgids.delete(&child);
	followed.delete(&task);
}
#endif

/* The last that is heard of a task_struct. */
int on_sched_process_free(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0];
	struct thread *t = known_thread(task);

#ifdef FOLLOW_CHILDREN
	forget(task);
#endif
	if (t)
		forget_thread(task, t);
	return 0;
}

#ifdef FOLLOW_CHILDREN
int on_sched_process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[1], both;
	u32 tgid = current_tgid(bpf_get_current_task()), pid = read_u32(task + OFF_task_struct_pid), child = pid;
	u8 one = 1;

	if (!watched_tgids.lookup(&tgid) || read_u64(task + OFF_task_struct_group_leader) != task)
		return 0;
#ifdef PIDNS_INUM
	child = task_nr(task);
#endif
	both = (u64)pid << 32 | child;
	if (watched_tgids.update(&child, &one) || followed.update(&task, &both))
		count(STAT_TABLE_FULL_THREADS);
	return 0;
}
#endif
