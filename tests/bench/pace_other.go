// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "time"

type pacer struct{}

func newPacer() *pacer { return new(pacer) }

func (*pacer) until(then time.Time) { time.Sleep(time.Until(then)) }

func (*pacer) close() {}
