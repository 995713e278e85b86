/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads, their rows, and adding to a row. */
#ifndef MMWATCH_ROWS_H
#define MMWATCH_ROWS_H

#include "maps.h"
#include "who.h"

#define ROWS_PER_THREAD 64 /* rows that one thread may use before it shares the overflow rows */

/* A row to add to. The overflow rows are shared: any number of threads add to them at once. */
struct place {
	struct row *row;
	u32 index;
};

static __always_inline bool find(struct place *place, u32 index)
{
	place->row = rows.lookup(&index);
	place->index = index;
	return place->row;
}

static __always_inline bool shared(struct place *place)
{
	return place->index < PATHS;
}

#define ADD(place, member, n)                                             \
	do {                                                              \
		if (shared(place))                                        \
			__sync_fetch_and_add(&(place)->row->member, (n)); \
		else                                                      \
			(place)->row->member += (n);                      \
	} while (0)

/* The thread has exited, so nothing writes to its rows any more. */
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
		row->high_since_ns = 0;
		row->state = ROW_EXITED;
	}
}

/* The thread of a task, NULL if there is none yet. */
static __always_inline struct thread *known_thread(u64 task)
{
	u32 zero = 0, slot;
	u32 *latest = latest_slot.lookup(&zero), *found;
	struct thread *t;

	if (!latest)
		return 0;
	/* A task that preempted this one may have overwritten latest_slot, so check whose slot it is. */
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

/* The thread of the current task, created if there is none; NULL if the table is full. */
static __always_inline struct thread *thread_of(u64 task)
{
	struct thread *t = known_thread(task);
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 slot;

	if (t && t->pid_tgid == pid_tgid)
		return t;
	/* The end of an earlier thread was missed: some kernels run no BPF program while certain processes are current. */
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

/*
 * Index of the thread's row for a path, node and target, created if there is none; the path's overflow row if that fails.
 */
static __always_inline u32 row_of(struct thread *t, u64 task, u32 path, s32 node, u64 target_id)
{
	s32 cpu_node = CPU_NODE;
	u32 index = t->first_row;
	struct row *row;

	if (t->cached_row && t->cached_path == path && t->cached_node == node && t->cached_cpu_node == cpu_node &&
	    t->cached_target_id == target_id)
		return t->cached_row;
	for (u32 i = 0; i < ROWS_PER_THREAD && index; i++) {
		row = rows.lookup(&index);
		if (!row)
			break;
		if (row->path == path && row->node == node && row->cpu_node == cpu_node && row->target_id == target_id)
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
	row->target_id = target_id;
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
	t->cached_target_id = target_id;
	t->named_ns = 0;
	return index;
full:
	count(STAT_TABLE_FULL_ROWS);
	return path < PATHS ? path : PATH_OTHER;
}

static __always_inline s32 node_here(void)
{
#ifdef NODE_GUESS
	return NODE_GUESS; /* NODE_UNKNOWN, because no batch will name the node */
#else
	return CPU_NODE;
#endif
}

#endif
