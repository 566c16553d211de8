// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"net"
	"reflect"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// MaxHops is the highest hop limit that can be set.
const MaxHops = 64

var errNoTCP = errors.New("no TCP connection was found on which a hop limit can be set")

// LimitHops makes everything that leaves on the connection from now on, also
// what is sent again, get no further than this number of hops: each router
// takes one. Nothing else may follow on the connection. A Unix socket has no
// hops.
func LimitHops(conn net.Conn, hops int) error {
	for range 8 { // layers; more than anyone has
		switch layer := conn.(type) {
		case *net.TCPConn:
			return limit(layer, hops)
		case *net.UnixConn:
			return nil
		case interface{ NetConn() net.Conn }: // TLS among others
			conn = layer.NetConn()
		case interface{ Raw() net.Conn }: // the PROXY protocol
			conn = layer.Raw()
		default:
			conn = embedded(layer)
		}
	}
	return errNoTCP
}

// embedded is the connection that a layer is made of. Caddy's own layers, such
// as the one for `protocols h1`, embed it and have no method that gives it.
func embedded(layer net.Conn) net.Conn {
	value := reflect.ValueOf(layer)
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if value.Kind() != reflect.Struct {
		return nil
	}
	field, found := value.Type().FieldByName("Conn")
	if !found || !field.Anonymous || !field.IsExported() {
		return nil
	}
	inner, err := value.FieldByIndexErr(field.Index)
	if err != nil { // through a nil pointer
		return nil
	}
	conn, _ := inner.Interface().(net.Conn)
	return conn
}

func limit(conn *net.TCPConn, hops int) (err error) {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	switch {
	case !ok:
		return errNoTCP
	case remote.IP.To4() != nil: // on a socket for both kinds of addresses, too
		err = ipv4.NewConn(conn).SetTTL(hops)
	default:
		err = ipv6.NewConn(conn).SetHopLimit(hops)
	}
	if err != nil {
		return fmt.Errorf("setting the hop limit of a connection: %w", err)
	}
	return nil
}
