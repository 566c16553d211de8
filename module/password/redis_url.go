// SPDX-License-Identifier: Apache-2.0

package password

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/metaguard/metaguard/module/decision"
)

// The defaults of a client. A call may take latchTimeout in all.
const (
	redisTimeout  = 2 * time.Second // for a connection, a read and a write each
	redisPoolSize = 32
)

// checkRedisPlaceholder returns an error unless s is exactly one placeholder
// {env.NAME} or {file.PATH}. The error never shows s, which may be the URL.
func checkRedisPlaceholder(s string) error {
	const advice = "latch redis: the URL is given as {env.NAME} or {file.PATH}"
	name, opened := strings.CutPrefix(s, "{")
	name, closed := strings.CutSuffix(name, "}")
	name, env := strings.CutPrefix(name, "env.")
	name, file := strings.CutPrefix(name, "file.")
	switch {
	case !opened || !closed:
		return errors.New(advice + "; a literal, which {$NAME} is too, would stand in the running configuration")
	case env == file: // neither, or env.file.X
		return errors.New(advice + "; other placeholders are not allowed")
	case name == "" || strings.ContainsAny(name, "{}\n\r\x00") || strings.HasSuffix(name, `\`):
		return errors.New(advice + ", alone and with nothing around it")
	}
	return nil
}

// resolveRedisURL reads the URL behind the placeholder, without white space
// around it.
func resolveRedisURL(placeholder string) (decision.Secret, error) {
	if placeholder == "" {
		return decision.Secret{}, errors.New("the placeholder of a URL is required, {env.NAME} or {file.PATH}")
	}
	if err := checkRedisPlaceholder(placeholder); err != nil {
		return decision.Secret{}, err
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(placeholder, true, true)
	if err != nil {
		return decision.Secret{}, fmt.Errorf("%s is not set, empty or cannot be read: %w", placeholder, err)
	}
	value = strings.TrimSpace(value)
	if value == "" {
		return decision.Secret{}, fmt.Errorf("%s is empty", placeholder)
	}
	return decision.NewSecret(value), nil
}

// parseRedisURL reads a URL as go-redis does, with less freedom: what go-redis
// drops or fills in silently is an error, because it could make a replica use
// a Redis of its own. It does not use go-redis's parser, whose errors quote
// the URL; its own name nothing but options that are known.
func parseRedisURL(text string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || strings.Contains(text, "#") {
		return nil, errors.New("it is not a URL; in user and password all but letters and digits must be percent-encoded")
	}
	o := &redis.UniversalOptions{
		ContextTimeoutEnabled: true,
		DialTimeout:           redisTimeout,
		ReadTimeout:           redisTimeout,
		WriteTimeout:          redisTimeout,
		DialerRetries:         1, // a command is tried again anyhow
		PoolSize:              redisPoolSize,
		PipelinePoolSize:      -1, // nothing is pipelined
		ReadBufferSize:        2 * maxRecord,
		WriteBufferSize:       2 * maxRecord,
		Protocol:              2, // nothing newer is needed, and proxies know it
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled, // it would want more of the ACL
		},
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if u.Scheme == "unix" {
		err = redisSocket(o, u)
	} else {
		err = redisHost(o, u)
	}
	if err != nil {
		return nil, err
	}
	if err := redisQuery(o, u); err != nil {
		return nil, err
	}
	return o, nil
}

// redisSocket reads what a URL of a Unix socket says before its options.
func redisSocket(o *redis.UniversalOptions, u *url.URL) error {
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" {
		return errors.New("unix:// must be followed by the socket's absolute path, as in unix:///run/redis.sock")
	}
	o.Addrs = []string{u.Path}
	return nil
}

// redisHost reads what any other URL says before its options.
func redisHost(o *redis.UniversalOptions, u *url.URL) error {
	switch u.Scheme {
	case "redis":
	case "rediss":
		o.TLSConfig = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	default:
		return errors.New("it must begin with redis://, rediss:// or unix://")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if u.Hostname() == "" || !between(port, 1, 65535) {
		return errors.New("it has no host, or no usable port; in user and password all but letters and digits must be percent-encoded")
	}
	o.Addrs = []string{net.JoinHostPort(u.Hostname(), port)}
	database := strings.Trim(u.Path, "/")
	if database == "" {
		return nil
	}
	if !between(database, 0, maxDatabase) {
		return errors.New("its path is not the number of a database; in user and password all but letters and digits must be percent-encoded")
	}
	o.DB, _ = strconv.Atoi(database)
	return nil
}

// redisQuery reads the options of a URL.
func redisQuery(o *redis.UniversalOptions, u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("its options are not well-formed; they must be percent-encoded")
	}
	for name, values := range query {
		read, known := redisOptions[name]
		switch {
		case slices.Contains(replicaOptions, name):
			return fmt.Errorf("the option %s is not allowed: a replica may show an old record", name)
		case name == "skip_verify":
			return errors.New("the option skip_verify is not allowed: anyone could answer for Redis; " +
				"name the certificate of a private authority in SSL_CERT_FILE")
		case !known:
			return errors.New("it has an option that is unknown here; in user and password all but letters and digits must be percent-encoded")
		case len(values) > 1 && name != "addr":
			return fmt.Errorf("the option %s is given twice", name)
		}
		for _, value := range values {
			if !read(o, value) {
				return fmt.Errorf("the option %s has a value that cannot be used", name)
			}
		}
	}
	return redisForm(o, u, query)
}

// redisForm decides between one Redis, Sentinel and a cluster, and refuses
// options that the form does not take.
func redisForm(o *redis.UniversalOptions, u *url.URL, query url.Values) error {
	sentinel := query.Has("master_name")
	o.IsClusterMode = o.IsClusterMode || (query.Has("addr") && !sentinel)
	switch {
	case sentinel && o.IsClusterMode:
		return errors.New("master_name is for Sentinel, cluster is for a cluster: give one of them")
	case u.Scheme == "unix" && (sentinel || o.IsClusterMode):
		return errors.New("unix:// takes none of the options master_name, addr and cluster")
	case o.IsClusterMode && o.DB != 0:
		return errors.New("a cluster has only database 0")
	case sentinel:
		o.SentinelUsername, o.SentinelPassword = o.Username, o.Password
		o.Username, o.Password = query.Get("username"), query.Get("password")
	case query.Has("username") || query.Has("password"):
		return errors.New("the options username and password are for Sentinel; give them before the host")
	}
	if o.MaxActiveConns == 0 {
		o.MaxActiveConns = o.PoolSize
	}
	if o.MinIdleConns > o.PoolSize {
		return errors.New("min_idle_conns is more than pool_size")
	}
	return nil
}

// newRedisClient makes the client that the options are for. It connects when
// it is first used.
func newRedisClient(o *redis.UniversalOptions) redis.UniversalClient {
	switch {
	case o.MasterName != "":
		return redis.NewFailoverClient(o.Failover())
	case o.IsClusterMode:
		cluster := o.Cluster()
		cluster.DisableRoutingPolicies = true // they would want COMMAND
		return redis.NewClusterClient(cluster)
	}
	return redis.NewClient(o.Simple())
}

// maxDatabase is far more than any Redis has.
const maxDatabase = 1 << 20

// replicaOptions would have replicas asked.
var replicaOptions = []string{
	"read_only", "replica_only", "use_disconnected_replicas",
	"route_by_latency", "route_by_latency_tolerance", "route_randomly",
}

// redisOptions reads the options of a URL; false is for a value that cannot be
// used. They have go-redis's names.
var redisOptions = map[string]func(*redis.UniversalOptions, string) bool{
	"cluster":     func(o *redis.UniversalOptions, s string) bool { return redisSwitch(s, &o.IsClusterMode) },
	"master_name": func(o *redis.UniversalOptions, s string) bool { o.MasterName = s; return s != "" },
	"addr":        redisAddr,
	"username":    func(*redis.UniversalOptions, string) bool { return true }, // see redisForm
	"password":    func(*redis.UniversalOptions, string) bool { return true },
	"client_name": func(o *redis.UniversalOptions, s string) bool { o.ClientName = s; return isClientName(s) },

	"db":               func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.DB, 0, maxDatabase) },
	"protocol":         func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.Protocol, 2, 3) },
	"pool_size":        func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.PoolSize, 1, 4096) },
	"min_idle_conns":   func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.MinIdleConns, 0, 4096) },
	"max_idle_conns":   func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.MaxIdleConns, 0, 4096) },
	"max_active_conns": func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.MaxActiveConns, 1, 4096) },
	"max_retries":      func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.MaxRetries, -1, 16) },
	"max_redirects":    func(o *redis.UniversalOptions, s string) bool { return redisNumber(s, &o.MaxRedirects, -1, 16) },

	"dial_timeout":  func(o *redis.UniversalOptions, s string) bool { return redisDuration(s, &o.DialTimeout, time.Minute) },
	"read_timeout":  func(o *redis.UniversalOptions, s string) bool { return redisDuration(s, &o.ReadTimeout, time.Minute) },
	"write_timeout": func(o *redis.UniversalOptions, s string) bool { return redisDuration(s, &o.WriteTimeout, time.Minute) },
	"pool_timeout":  func(o *redis.UniversalOptions, s string) bool { return redisDuration(s, &o.PoolTimeout, time.Minute) },
	"min_retry_backoff": func(o *redis.UniversalOptions, s string) bool {
		return redisDuration(s, &o.MinRetryBackoff, time.Minute)
	},
	"max_retry_backoff": func(o *redis.UniversalOptions, s string) bool {
		return redisDuration(s, &o.MaxRetryBackoff, time.Minute)
	},
	"conn_max_idle_time": func(o *redis.UniversalOptions, s string) bool { return redisDuration(s, &o.ConnMaxIdleTime, maxTerm) },
	"conn_max_lifetime":  func(o *redis.UniversalOptions, s string) bool { return redisDuration(s, &o.ConnMaxLifetime, maxTerm) },
}

// redisAddr adds one more address of a cluster or of Sentinel.
func redisAddr(o *redis.UniversalOptions, s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || !between(port, 1, 65535) {
		return false
	}
	o.Addrs = append(o.Addrs, net.JoinHostPort(host, port))
	return true
}

func redisSwitch(s string, into *bool) bool {
	*into = s == "true" || s == "1"
	return *into || s == "false" || s == "0"
}

func redisNumber(s string, into *int, low, high int) bool {
	number, err := strconv.Atoi(s)
	*into = number
	return err == nil && low <= number && number <= high
}

// redisDuration takes seconds or a Go duration, as go-redis does. There is no
// "never": a call must end.
func redisDuration(s string, into *time.Duration, high time.Duration) bool {
	if between(s, 1, int(high/time.Second)) {
		s += "s"
	}
	duration, err := time.ParseDuration(s)
	*into = duration
	return err == nil && time.Millisecond <= duration && duration <= high
}

// isClientName tells whether Redis would take s as a connection's name.
func isClientName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}

// between tells whether s is a plain number within bounds.
func between(s string, low, high int) bool {
	number, err := strconv.Atoi(s)
	return err == nil && low <= number && number <= high
}
