/* SPDX-License-Identifier: GPL-2.0-only */
/* Forks of the processes a filter follows, and the end of threads. */
#ifndef MMWATCH_LIFE_H
#define MMWATCH_LIFE_H

#include "rows.h"

#ifdef FOLLOW_CHILDREN
/*
 * A followed process has ended, so its PID may be reused: stop watching it. But if one of its threads called exec, that
 * thread took over the PID, and this task_struct got another one (fs/exec.c, de_thread): keep watching.
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

/* The last event of a task_struct, after which its address may be reused. */
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

#endif
