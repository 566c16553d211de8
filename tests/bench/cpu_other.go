// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"time"
)

var errLinux = errors.New("CPU time and memory of other processes are read as Linux tells them: run this on Linux")

func cpuTime(int) (time.Duration, error) { return 0, errLinux }

func residentSize(int) (int64, error) { return 0, errLinux }

func machineTime() (busy, all time.Duration, err error) { return 0, 0, errLinux }
