/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/* Asked for by BCC's own helpers.h; nothing of ours looks at it. The oldest kernel supported, 5.10. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
