// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"net"
	"net/http"
	"reflect"

	"github.com/pires/go-proxyproto"
)

// connectionKey is under which a request's context holds its socket.
type connectionKey struct{}

// WithConnection keeps the socket of a new connection for its requests. A
// server's ConnContext calls it; whoever else is registered there sees nothing
// of it.
func WithConnection(ctx context.Context, conn net.Conn) context.Context {
	if ctx.Value(connectionKey{}) != nil {
		return ctx
	}
	return context.WithValue(ctx, connectionKey{}, socketOf(conn))
}

// Connection is the socket that a request came on, below TLS, the PROXY
// protocol and whatever else Caddy's listeners put around it. It is nil where
// there is none of its own, as in HTTP/3.
func Connection(r *http.Request) net.Conn {
	conn, _ := r.Context().Value(connectionKey{}).(net.Conn)
	return conn
}

// maxLayers is more than anyone puts around a socket.
const maxLayers = 16

// socketOf takes the layers off.
func socketOf(conn net.Conn) net.Conn {
	for range maxLayers {
		below := below(conn)
		if below == nil {
			return conn
		}
		conn = below
	}
	return conn
}

// below is the connection that a layer is around, or nil.
func below(conn net.Conn) net.Conn {
	switch layer := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return nil
	case *proxyproto.Conn:
		return layer.Raw()
	case interface{ NetConn() net.Conn }: // *tls.Conn and others
		return layer.NetConn()
	}
	// Caddy's own layers embed what is below and have no method that tells
	// (modules/caddyhttp/http2listener.go, httpredirectlistener.go).
	value := reflect.Indirect(reflect.ValueOf(conn))
	if value.Kind() != reflect.Struct {
		return nil
	}
	if field := value.FieldByName("Conn"); field.IsValid() && field.CanInterface() {
		embedded, _ := field.Interface().(net.Conn)
		return embedded
	}
	return nil
}
