/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The header tree BCC is given in place of the kernel's (BCC_KERNEL_SOURCE). BCC force-includes this file and
 * a handful of others before our own text; these hold just what it needs, so no kernel header package is needed.
 */
#pragma once
#define CONFIG_BPF_SYSCALL 1
