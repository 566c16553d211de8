// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(new(RedisLatch))
}

// redisPrefix begins the name of every key that is used, so that an ACL can
// say ~metaguard:*.
const redisPrefix = "metaguard:latch:"

// RedisLatch keeps passwords' states in Redis, for replicas that share no
// directory: one Redis, one behind Sentinel, or a cluster.
//
// A replica is never asked, but Redis hands its records on to replicas only
// after it has answered: a failover can forget the newest ones, and then a
// second password passes if the legacy server takes it. To outlast a crash of
// Redis itself it needs `appendonly yes` and `appendfsync always`; with
// everysec the last second can be lost. It must never evict keys without an
// expiry (`maxmemory-policy noeviction` or `volatile-*`).
//
// Keys are `metaguard:latch:<instance>`, of about 1 KiB at most, and never
// expire: fingerprints are kept until the next accepted write or a reset. Of
// Redis's commands GET, SET, STRLEN, EVAL and EVALSHA are used, and INFO once
// at start if the user may:
//
//	user metaguard on >… ~metaguard:* +get +set +strlen +eval +evalsha +info
//
// A cluster also wants +cluster|slots.
//
// While Redis cannot be asked, passwords can be neither read nor written;
// everything else goes on.
type RedisLatch struct {
	// Where Redis is, as the placeholder `{env.NAME}` or `{file.PATH}` of a
	// URL, which may hold a password. Required. The URL is one of
	//
	//	redis://[<user>:<password>@]<host>[:<port>][/<database>][?<options>]
	//	rediss://…                                       the same over TLS
	//	unix://[<user>:<password>@]<socket>[?db=<database>]
	//	redis[s]://<sentinel>?master_name=<name>[&addr=<sentinel>…]
	//	redis[s]://<node>?cluster=true[&addr=<node>…]
	//
	// With master_name, user and password before the host are Sentinel's; the
	// options username and password are Redis's. Further options: client_name,
	// db, protocol, dial_timeout, read_timeout, write_timeout (2s each),
	// pool_size (32), pool_timeout, min_idle_conns, max_idle_conns,
	// max_active_conns, conn_max_idle_time, conn_max_lifetime, max_retries,
	// min_retry_backoff, max_retry_backoff, max_redirects. What would read
	// from a replica or trust any certificate is refused; the certificate of
	// a private authority belongs into the file that SSL_CERT_FILE names.
	//
	// A URL that is changed is used after the next reload.
	URL string `json:"url,omitempty"`

	url  decision.Secret
	key  string      // the client's in the pool
	held atomic.Bool // a reference of the pool is this latch's own
}

// CaddyModule names the guest module.
func (*RedisLatch) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.latches.redis",
		New: func() caddy.Module { return new(RedisLatch) },
	}
}

// Provision reads and checks the URL. It opens no connection.
func (l *RedisLatch) Provision(caddy.Context) error {
	url, err := resolveRedisURL(l.URL)
	if err != nil {
		return fmt.Errorf("latch redis: %w", err)
	}
	if _, err := parseRedisURL(string(url.Reveal())); err != nil {
		return fmt.Errorf("latch redis: the URL in %s: %w", l.URL, err)
	}
	l.url, l.key = url, redisKey(url)
	if _, err := l.acquire(); err != nil {
		return err
	}
	l.held.Store(true)
	return nil
}

// Start tries what the latch needs. What nobody can mend but an operator is an
// error; a Redis that cannot be reached now may be there later, so that is only
// logged: metadata other than passwords is served without it.
func (l *RedisLatch) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), latchTimeout)
	defer cancel()
	err := l.probe(ctx)
	if err == nil {
		return nil
	}
	if wrong := new(redisMistake); errors.As(err, &wrong) {
		return fmt.Errorf("latch redis %s: %w", l.URL, err)
	}
	redisLog().Error("the latch is unavailable, passwords are refused until it is back",
		redisField(l.URL), errField(err))
	return nil
}

// Cleanup gives up the client. It is closed after its last user.
func (l *RedisLatch) Cleanup() error {
	if !l.held.CompareAndSwap(true, false) {
		return nil
	}
	return l.release()
}

// loadScript gives the value, 0 if there is none, or 1 if it is larger than any
// record, so that no foreign value fills the memory. It never gives nil, which
// would look like a Sentinel's that knows no such master.
var loadScript = redis.NewScript(`
if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[1]) then return 1 end
return redis.call('GET', KEYS[1]) or 0`)

// swapScript sets the value to ARGV[2] if it is ARGV[1], which is empty for no
// value. It gives 1, or 0 if the value is another one. Where it is ARGV[2]
// already, an earlier try did it and only its answer was lost: no two records
// have the same bytes (EncodeRecord). ARGV[3], milliseconds, is for probes.
var swapScript = redis.NewScript(`
local now = redis.call('GET', KEYS[1])
if now == ARGV[2] then return 1 end
if ARGV[1] == '' then
	if now then return 0 end
elseif now ~= ARGV[1] then
	return 0
end
if ARGV[3] then
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else
	redis.call('SET', KEYS[1], ARGV[2])
end
return 1`)

// Load reads the record. Its version is the stored bytes.
func (l *RedisLatch) Load(ctx context.Context, key Key) (Record, Version, error) {
	got, err := askRedis(ctx, l, func(ctx context.Context, client redis.UniversalClient) (loaded, error) {
		data, found, err := loadRedis(ctx, client, redisPrefix+key.name)
		if err != nil || !found {
			return loaded{}, err
		}
		record, err := DecodeRecord(key, []byte(data))
		return loaded{record, Version(data)}, err
	})
	if err != nil {
		return Record{}, "", fmt.Errorf("latch redis, key %s%s: %w", redisPrefix, key.name, err)
	}
	return got.record, got.version, nil
}

// Swap sets the next record, if the stored one still is the old one. It may be
// sent again after a lost answer; that changes nothing.
func (l *RedisLatch) Swap(ctx context.Context, key Key, old Version, next Record) (Version, error) {
	data, err := EncodeRecord(key, next)
	if err != nil {
		return "", err
	}
	_, err = askRedis(ctx, l, func(ctx context.Context, client redis.UniversalClient) (struct{}, error) {
		return struct{}{}, swapRedis(ctx, client, redisPrefix+key.name, string(old), string(data))
	})
	if err != nil {
		return "", fmt.Errorf("latch redis, key %s%s: %w", redisPrefix, key.name, err)
	}
	return Version(data), nil
}

// Reset replaces whatever is there, of any type, by an empty record, so that no
// earlier version comes again.
func (l *RedisLatch) Reset(ctx context.Context, key Key) error {
	data, err := EncodeRecord(key, Record{}.lasting(time.Now(), 0))
	if err != nil {
		return err
	}
	_, err = askRedis(ctx, l, func(ctx context.Context, client redis.UniversalClient) (struct{}, error) {
		return struct{}{}, resetRedis(ctx, client, redisPrefix+key.name, string(data))
	})
	if err != nil {
		return fmt.Errorf("latch redis, key %s%s: %w", redisPrefix, key.name, err)
	}
	return nil
}

// loadRedis gives the bytes under a key, if there is such a key.
func loadRedis(ctx context.Context, client redis.UniversalClient, key string) (data string, found bool, err error) {
	value, err := loadScript.Run(ctx, client, []string{key}, maxRecord).Result()
	if err != nil {
		return "", false, err
	}
	switch value {
	case int64(0):
		return "", false, nil
	case int64(1):
		return "", true, fmt.Errorf("%w: too large", ErrCorrupt)
	}
	data, found = value.(string)
	if !found {
		return "", false, errRedisAnswer
	}
	return data, true, nil
}

// resetRedis replaces what is under a key, if anything is. Only what was read is
// replaced: a reset that arrives late must not free what came after it.
func resetRedis(ctx context.Context, client redis.UniversalClient, key, data string) error {
	for range maxAttempts {
		stored, found, err := loadRedis(ctx, client, key)
		if ctx.Err() != nil {
			return ctx.Err() // nobody waits: what was found may be another's by now
		}
		foreign := errors.Is(explainRedis(err), ErrCorrupt) // too large, or no string
		switch {
		case foreign || err == nil && found && stored == "":
			err := client.SetArgs(ctx, key, data, redis.SetArgs{Mode: "XX"}).Err()
			if err == redis.Nil { //nolint:errorlint // a Sentinel's nil comes wrapped, and is none
				err = nil // it is gone
			}
			return err
		case err != nil || !found:
			return err
		}
		if err := swapRedis(ctx, client, key, stored, data); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// swapRedis replaces the bytes under a key; more are arguments of the script.
func swapRedis(ctx context.Context, client redis.UniversalClient, key, old, next string, more ...any) error {
	swapped, err := swapScript.Run(ctx, client, []string{key}, append([]any{old, next}, more...)...).Int()
	switch {
	case err != nil:
		return err
	case swapped == 1:
		return nil
	case swapped == 0:
		return ErrConflict
	}
	return errRedisAnswer
}

// UnmarshalCaddyfile reads
//
//	redis <placeholder>
//
// The placeholder is {env.NAME} or {file.PATH}.
func (l *RedisLatch) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if !d.NextArg() {
		return d.Err("latch redis needs the placeholder of a URL, {env.NAME} or {file.PATH}")
	}
	l.URL = d.Val()
	if err := checkRedisPlaceholder(l.URL); err != nil {
		return d.WrapErr(err)
	}
	if d.NextArg() {
		return d.Err("latch redis takes one placeholder; a cluster's or Sentinel's other addresses are options of the URL")
	}
	if d.NextBlock(d.Nesting()) {
		return d.Err("latch redis has no settings; they are options of the URL")
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*RedisLatch)(nil)
	_ caddy.CleanerUpper    = (*RedisLatch)(nil)
	_ caddyfile.Unmarshaler = (*RedisLatch)(nil)
	_ Latch                 = (*RedisLatch)(nil)
	_ Starter               = (*RedisLatch)(nil)
)
