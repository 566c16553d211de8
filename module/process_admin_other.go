// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package module

// checkRunningAdmin has nothing to do: processes are identified on Linux only.
func (*App) checkRunningAdmin() error { return nil }
