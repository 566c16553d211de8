// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// errElsewhere is why something is not looked at.
var errElsewhere = errors.New("it can be looked at on Linux only")

// peerOf cannot tell.
func peerOf(net.Conn) (int, error) { return 0, errElsewhere }

// fileLimit cannot tell.
func (*examination) fileLimit() (limit uint64, of string, err error) { return 0, "", errElsewhere }

// checkSynchronised cannot tell.
func checkSynchronised(_ context.Context, _ *examination, f *finder) {
	f.leftOut("the kernel's clock", errElsewhere.Error())
}

// listeners cannot tell.
func listeners() ([]netip.AddrPort, error) { return nil, errElsewhere }
