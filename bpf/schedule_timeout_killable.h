/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * long schedule_timeout_killable(long timeout): where tasks sleep because their cgroup is above memory.high.
 *
 * mem_cgroup_handle_over_high (mm/memcontrol.c) reclaims, and then sleeps here for up to two seconds; above
 * memory.swap.high, too. It is not probed itself: in many releases it runs at each return to user mode with
 * TIF_NOTIFY_RESUME, and nearly always for nothing. Few call this function, and of these, nobody else does while PSI counts
 * the task as waiting for memory (in_memstall), outside of reclaim. So the probe costs next to nothing, the function has
 * one name in all releases, and no time in reclaim has to be subtracted.
 */
#ifndef MMWATCH_SCHEDULE_TIMEOUT_KILLABLE_H
#define MMWATCH_SCHEDULE_TIMEOUT_KILLABLE_H

#include "pairs.h"
#include "rows.h"

#if defined(FENTRY_schedule_timeout_killable) || defined(KPROBE_schedule_timeout_killable)
/* The sleep is over. counted: its end was seen; or else it is not known how long it took. */
static __always_inline void wake_up(struct thread *t, bool counted)
{
	u64 since_ns = t->high_since_ns;
	struct place at;

	t->high_since_ns = 0;
	if (!since_ns || !find(&at, t->high_row))
		return;
	if (!shared(&at))
		at.row->high_since_ns = 0;
	if (counted)
		ADD(&at, high_sleep_ns, bpf_ktime_get_ns() - since_ns);
	ADD(&at, events, 1);
}

static __always_inline void fall_asleep(u32 program)
{
	u64 task = bpf_get_current_task();
	struct thread *t = known_thread(task); /* it has just reclaimed, so it is known, if it is watched */
	struct place at;

	if (!t || t->pid_tgid != bpf_get_current_pid_tgid())
		return;
#ifdef PAIR_schedule_timeout_killable
	if (paired(&t->high_pair, program))
		return;
	settle_pair(&t->high_end_pair);
#endif
	wake_up(t, false);
	if (t->depth || !(read_u8(task + OFF_task_struct_in_memstall) & 1 << BIT_task_struct_in_memstall))
		return;
	/* Most likely, the row of that reclaim. */
	t->high_row = t->cached_row && t->cached_path == PATH_MEMCG
			      ? t->cached_row
			      : row_of(t, task, PATH_MEMCG, node_here(), t->target_id);
	t->high_since_ns = bpf_ktime_get_ns();
#ifdef FENTRY_schedule_timeout_killable
	/* A kretprobe has few slots, for as many sleepers at a time: the end may never be seen, so show no begin. */
	if (!find(&at, t->high_row) || shared(&at))
		return;
	at.row->high_since_ns = t->high_since_ns;
	at.row->events++;
#endif
}

static __always_inline void awake(u32 program)
{
	struct thread *t = known_thread(bpf_get_current_task());

	if (!t)
		return;
#ifdef PAIR_schedule_timeout_killable
	if (paired(&t->high_end_pair, program))
		return;
	settle_pair(&t->high_pair);
#endif
	wake_up(t, true);
}

#ifdef FENTRY_schedule_timeout_killable
/* bcc 0.18 makes no program without arguments. */
KFUNC_PROBE(schedule_timeout_killable, long timeout)
{
	fall_asleep(PAIR_FIRST);
	return 0;
}

KRETFUNC_PROBE(schedule_timeout_killable, long timeout, long left)
{
	awake(PAIR_FIRST);
	return 0;
}

#ifdef PAIR_schedule_timeout_killable
int on_schedule_timeout_killable_pair(u64 *ctx)
{
	fall_asleep(PAIR_SECOND);
	return 0;
}

int on_schedule_timeout_killable_return_pair(u64 *ctx)
{
	awake(PAIR_SECOND);
	return 0;
}
#endif
#else
int on_schedule_timeout_killable(struct pt_regs *ctx)
{
	fall_asleep(PAIR_FIRST);
	return 0;
}

int on_schedule_timeout_killable_return(struct pt_regs *ctx)
{
	awake(PAIR_FIRST);
	return 0;
}
#endif
#endif

#endif
