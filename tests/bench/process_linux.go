// SPDX-License-Identifier: Apache-2.0

package main

import "syscall"

// orphanless lets the kernel end a process whose parent is gone.
func orphanless() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
