// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/decision"
)

// redisClients holds the clients in use, by a digest of their URL, so that a
// reload with an equal URL keeps its connections.
var redisClients = caddy.NewUsagePool()

// pooledRedis is a client in the pool. It is made when it is first needed,
// since validating a configuration must start nothing.
type pooledRedis struct {
	mu     sync.Mutex
	client redis.UniversalClient // nil until then
}

// open gives the client.
func (p *pooledRedis) open(url decision.Secret) (redis.UniversalClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		options, err := parseRedisURL(string(url.Reveal()))
		if err != nil {
			return nil, err
		}
		routeRedisLog()
		p.client = newRedisClient(options)
	}
	return p.client, nil
}

// Destruct closes the client after its last user.
func (p *pooledRedis) Destruct() error {
	if p.client == nil {
		return nil
	}
	return p.client.Close()
}

// redisKey names a client in the pool without showing its URL.
func redisKey(url decision.Secret) string {
	sum := sha256.Sum256(url.Reveal())
	return hex.EncodeToString(sum[:])
}

// acquire takes a reference, which release gives back, once.
func (l *RedisLatch) acquire() (*pooledRedis, error) {
	pooled, _, err := redisClients.LoadOrNew(l.key, func() (caddy.Destructor, error) { return new(pooledRedis), nil })
	if err != nil {
		return nil, err // and no reference
	}
	return pooled.(*pooledRedis), nil
}

func (l *RedisLatch) release() error {
	_, err := redisClients.Delete(l.key)
	return err
}

// askRedis makes one call with a reference of its own to the client, so that
// it also works while the latch is cleaned up, and after that.
func askRedis[T any](ctx context.Context, l *RedisLatch, call func(context.Context, redis.UniversalClient) (T, error)) (T, error) {
	var none T
	pooled, err := l.acquire()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, latchTimeout)
	defer cancel()
	return untilDone(ctx, "Redis", func() (T, error) {
		defer func() { _ = l.release() }() // what closing says changes no answer
		client, err := pooled.open(l.url)
		if err != nil {
			return none, err
		}
		value, err := call(ctx, client)
		return value, explainRedis(err)
	})
}

// redisLog is the log of the running configuration, not of the one that made
// the client. Tests replace it.
var redisLog = func() *zap.Logger { return caddy.Log().Named("metaguard.latches.redis") }

func redisField(placeholder string) zap.Field { return zap.String("url", placeholder) }

func errField(err error) zap.Field { return zap.String("error", err.Error()) }

// routeRedisLog takes over go-redis's logger, which belongs to the process and
// writes to standard error.
var routeRedisLog = sync.OnceFunc(func() { redis.SetLogger(redisLogger{}) })

// redisLogger writes go-redis's lines to Caddy's log, at debug level: what goes
// wrong is told by the call that it goes wrong for.
type redisLogger struct{}

// Printf shows the format, numbers, and errors in words of our own; anything
// else could be an address, a name or an answer that quotes the password.
func (redisLogger) Printf(_ context.Context, format string, args ...any) {
	line := redisLog().Check(zap.DebugLevel, "go-redis")
	if line == nil {
		return
	}
	shown := make([]any, len(args))
	for i, arg := range args {
		switch kind := reflect.ValueOf(arg); {
		case arg == nil || kind.CanInt() || kind.CanUint() || kind.Kind() == reflect.Bool:
			shown[i] = arg
		default:
			if err, ok := arg.(error); ok {
				shown[i] = explainRedis(err)
				continue
			}
			shown[i] = "…"
		}
	}
	line.Write(zap.String("line", fmt.Sprintf(format, shown...)))
}
