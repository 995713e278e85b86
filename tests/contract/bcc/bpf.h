/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stands for BCC's copy of include/uapi/linux/bpf.h where there is no BCC: what our programs use of it, and no more.
 */
#pragma once
#include <linux/types.h>

enum {
	BPF_F_MMAPABLE = 1U << 10,
};

enum {
	BPF_RB_NO_WAKEUP = 1ULL << 0,
};

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};
