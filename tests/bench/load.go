// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// load is what clients asked in one round.
type load struct {
	requests int
	elapsed  time.Duration
}

// closedLoop lets every client ask, read, check and ask again until the time is over or
// the source is empty. The first wrong answer ends it.
func closedLoop(ctx context.Context, address string, right *expectation, clients int, duration time.Duration, from source) (load, error) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	conns, err := connect(ctx, address, clients, duration)
	if err != nil {
		return load{}, err
	}
	defer closeAll(conns)
	counts, errs := make([]int, clients), make([]error, clients)
	began := time.Now()
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			counts[i], errs[i] = ask(ctx, conn, right, i, from)
			if errs[i] != nil {
				cancel()
			}
		})
	}
	all.Wait()
	result := load{elapsed: time.Since(began)}
	for i, err := range errs {
		if err != nil {
			return load{}, fmt.Errorf("client %d: %w", i, err)
		}
		result.requests += counts[i]
	}
	return result, nil
}

func ask(ctx context.Context, conn net.Conn, right *expectation, client int, from source) (count int, err error) {
	reader := bufio.NewReader(conn)
	var got answer
	var buffer []byte
	for ctx.Err() == nil {
		request, path, ok := from.next(client, buffer[:0])
		if !ok {
			break
		}
		buffer = request
		if _, err := conn.Write(request); err != nil {
			return count, err
		}
		if err := got.read(reader); err != nil {
			return count, err
		}
		if err := right.check(&got, path); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

// connect opens connections that last for duration.
func connect(ctx context.Context, address string, clients int, duration time.Duration) (conns []net.Conn, err error) {
	for range clients {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, conn)
		if err := conn.SetDeadline(time.Now().Add(duration + patience)); err != nil {
			closeAll(conns)
			return nil, err
		}
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		_ = conn.Close()
	}
}
