// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "syscall"

func orphanless() *syscall.SysProcAttr { return nil }
