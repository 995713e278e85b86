/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#ifndef PAGE_SIZE /* BCC sizes ring buffers in pages; the front end passes this machine's */
#define PAGE_SIZE 4096
#endif
