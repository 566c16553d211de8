// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package module

import (
	"errors"
	"syscall"
)

const transparentSupported = false

func transparent(string, string, syscall.RawConn) error { return errors.ErrUnsupported }

func checkTransparent(bool) error { return errors.ErrUnsupported }
