/* SPDX-License-Identifier: GPL-2.0-only */
/* Who reclaims: PIDs in user space's PID namespace, cgroups, and whether a task passes the filter. */
#ifndef MMWATCH_WHO_H
#define MMWATCH_WHO_H

#include "maps.h"

#ifdef CPU_TIME
#define EXEC_START (OFF_task_struct_se + OFF_sched_entity_exec_start)

#ifdef CURRENT_TASK_BTF
/* The verifier knows what this points to, so a load is one instruction (helper 158, 5.11; the number is stable). */
static u64 (*current_task_btf)(void) = (void *)CURRENT_TASK_BTF;
#endif

static __always_inline struct runtime runtime_of(u64 task)
{
	struct runtime found = {};

#ifdef CURRENT_TASK_BTF
	u64 entity = current_task_btf();

	found.exec_start_ns = *(u64 *)(entity + EXEC_START);
	found.runtime_ns = *(u64 *)(entity + EXEC_START + 8);
#else
	bpf_probe_read_kernel(&found.exec_start_ns, 16, (void *)(task + EXEC_START));
#endif
	found.cpu = bpf_get_smp_processor_id();
	return found;
}

/*
 * CPU time of the current task between two moments that are ns apart. The scheduler adds to sum_exec_runtime only now and
 * then (update_curr, kernel/sched/fair.c), and moves exec_start by as much. When the task is switched in, exec_start alone
 * moves on. So what exec_start gains on sum_exec_runtime is the time off the CPU, exactly. Clocks of two CPUs may differ
 * (rq_clock_task leaves out interrupts); then only sum_exec_runtime counts, which may lag by a tick at either end.
 */
static __always_inline u64 ran_ns(struct runtime *from, struct runtime *to, u64 ns)
{
	u64 ran = to->runtime_ns - from->runtime_ns, off = to->exec_start_ns - from->exec_start_ns - ran;

	if (to->cpu == from->cpu)
		ran = (s64)off > 0 ? ns - off : ns;
	return ran < ns ? ran : (s64)ran < 0 ? 0 : ns;
}
#endif

#define LEVELS_MAX 32 /* MAX_PID_NS_LEVEL; also, the cgroup filter checks at most this many levels */

#ifdef PIDNS_INUM
/* A task's PID in user space's PID namespace (struct pid, include/linux/pid.h); 0 if it has none there. */
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

#if defined(MEMORY_CGRP_ID) || defined(FILTER_CGROUP) || defined(MEMCG_ID)
static __always_inline u64 css_id(u64 css)
{
	u64 cgroup = read_u64(css + OFF_cgroup_subsys_state_cgroup);

	return read_u64(read_u64(cgroup + OFF_cgroup_kn) + OFF_kernfs_node_id);
}
#endif

#ifdef MEMCG_ID
/* The ID of a struct mem_cgroup's cgroup. */
static __always_inline u64 memcg_id(u64 memcg)
{
	return memcg ? css_id(memcg + OFF_mem_cgroup_css) : 0;
}
#endif

#if defined(MEMORY_CGRP_ID) || defined(FILTER_CGROUP)
/* The css in the hierarchy that limits memory: that of the memory controller on cgroup v1, the unified one on v2. */
static __always_inline u64 current_css(u64 task)
{
	u64 set = read_u64(task + OFF_task_struct_cgroups);

#ifdef MEMORY_CGRP_ID
	return read_u64(set + OFF_css_set_subsys + 8 * MEMORY_CGRP_ID);
#else
	return read_u64(set + OFF_css_set_dfl_cgrp) + OFF_cgroup_self;
#endif
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

#endif
