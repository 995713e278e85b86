/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counts page reclaim per thread × path × node, in the kernel. There is one header per subject. mmwatch/kernel/source.py
 * merges them into one text, because BCC rewrites table calls only in the main file. BCC compiles it at start-up. Flags
 * cover the differences between kernels and sessions (mmwatch/kernel/plan.py, flags.py):
 *
 *   CTX_event            the event is attached, and this is its context type: that of a raw tracepoint, or, if the raw
 *                        arguments are unknown, the struct that BCC makes from the tracefs format
 *   ARG_event_field      how to read a field from that context
 *   RAW_event            it is a raw tracepoint
 *   FENTRY_function      the function is probed by fentry
 *   KPROBE_function      the function is probed by a kprobe
 *   PAIR_name            the event or function has a pair of programs (pairs.h)
 *   OFF_struct_member    offset from BTF, where known
 *   BIT_struct_member    a bit field's bit in its byte, likewise
 *   FILTER_*             only matching tasks are counted
 *   DETAIL_PAGES         size of the ring buffer, if single records may be requested
 *   ROWS                 size of the tables
 *
 * Raw tracepoints are preferred: they cost less than perf's, and are not skipped while a BPF map system call runs on
 * the same CPU (kernel/trace/bpf_trace.c, trace_call_bpf: bpf_prog_active).
 */
#include <linux/types.h>
#include <asm/ptrace.h>

#ifndef CPU_NODE /* a constant where there is only one node */
#define CPU_NODE bpf_get_numa_node_id()
#endif

#include "brackets.h"
#include "kswapd.h"
#include "batches.h"
#include "work.h"
#include "shrink_node.h"
#include "schedule_timeout_killable.h"
#include "life.h"
