// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestRedisURL: what is read of a URL, in go-redis's own terms.
func TestRedisURL(t *testing.T) {
	for url, want := range map[string]string{
		"redis://h":                   "h:6379 db0",
		"redis://h:1/":                "h:1 db0",
		"redis://[::1]:7/5":           "[::1]:7 db5",
		"redis://u:p%40%3a%2f@h?db=7": "u/p@:/@h:6379 db7",
		"redis://:p@h?dial_timeout=7": "/p@h:6379 db0 dial7s",
		"rediss://u:p@h:1/2":          "u/p@h:1 db2 tls-h",
		"unix:///run/r.sock":          "/run/r.sock db0",
		"unix://u:p@/run/r.sock?db=2": "u/p@/run/r.sock db2",
		"redis://s1?master_name=m":    "m of s1:6379 db0",
		"rediss://su:sp@s1:9/4?master_name=m&addr=s2:8&addr=s3:7&username=u&password=p": "u/p@m of su/sp@s1:9,s2:8,s3:7 db4 tls-s1",
		"redis://u:p@a:1?addr=b:2&addr=[::1]:3":                                         "cluster u/p@a:1,b:2,[::1]:3",
		"rediss://a:1?cluster=true":                                                     "cluster a:1 tls-a",
		"redis://a:1/0?cluster=1":                                                       "cluster a:1",
		"redis://a:1?cluster=false":                                                     "a:1 db0",
	} {
		t.Run(url, func(t *testing.T) {
			options, err := parseRedisURL(url)
			if err != nil {
				t.Fatal(err)
			}
			client := newRedisClient(options)
			defer client.Close()
			if got := describeRedis(options); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			sameAsGoRedis(t, url, options)
		})
	}
}

// describeRedis puts options in short.
func describeRedis(o *redis.UniversalOptions) string {
	user := func(name, password string) string {
		if name+password == "" {
			return ""
		}
		return name + "/" + password + "@"
	}
	text := user(o.Username, o.Password)
	addresses := strings.Join(o.Addrs, ",")
	switch {
	case o.MasterName != "":
		text += fmt.Sprintf("%s of %s%s db%d", o.MasterName, user(o.SentinelUsername, o.SentinelPassword), addresses, o.DB)
	case o.IsClusterMode:
		text = "cluster " + text + addresses
	default:
		text += fmt.Sprintf("%s db%d", addresses, o.DB)
	}
	if o.DialTimeout != redisTimeout {
		text += " dial" + o.DialTimeout.String()
	}
	if o.TLSConfig != nil {
		text += " tls-" + o.TLSConfig.ServerName
	}
	return text
}

// sameAsGoRedis holds the options against go-redis's own reading.
func sameAsGoRedis(t *testing.T, url string, o *redis.UniversalOptions) {
	t.Helper()
	var theirs redis.UniversalOptions
	switch {
	case o.MasterName != "":
		read, err := redis.ParseFailoverURL(url)
		if err != nil {
			t.Fatal(err)
		}
		theirs = redis.UniversalOptions{
			Addrs: read.SentinelAddrs, MasterName: read.MasterName, DB: read.DB, DialTimeout: read.DialTimeout, TLSConfig: read.TLSConfig,
			Username: read.Username, Password: read.Password, SentinelUsername: read.SentinelUsername, SentinelPassword: read.SentinelPassword,
		}
	case o.IsClusterMode:
		read, err := redis.ParseClusterURL(strings.NewReplacer("cluster=true", "", "cluster=1", "").Replace(url))
		if err != nil {
			t.Fatal(err)
		}
		theirs = redis.UniversalOptions{
			Addrs: read.Addrs, DialTimeout: read.DialTimeout, TLSConfig: read.TLSConfig,
			Username: read.Username, Password: read.Password, IsClusterMode: true,
		}
	default:
		read, err := redis.ParseURL(strings.NewReplacer("cluster=false", "").Replace(url))
		if err != nil {
			t.Fatal(err)
		}
		theirs = redis.UniversalOptions{
			Addrs: []string{read.Addr}, DB: read.DB, DialTimeout: read.DialTimeout, TLSConfig: read.TLSConfig,
			Username: read.Username, Password: read.Password,
		}
	}
	if theirs.DialTimeout == 0 {
		theirs.DialTimeout = redisTimeout
	}
	if ours, theirs := describeRedis(o), describeRedis(&theirs); ours != theirs {
		t.Errorf("read as %s, by go-redis as %s", ours, theirs)
	}
}

// TestRedisOptions: the options of a URL reach the client; the rest are safe.
func TestRedisOptions(t *testing.T) {
	o, err := parseRedisURL("redis://h?pool_size=3&read_timeout=1500ms&write_timeout=3&min_idle_conns=2&conn_max_lifetime=2h&max_retries=-1&client_name=me&protocol=3")
	if err != nil {
		t.Fatal(err)
	}
	if o.PoolSize != 3 || o.MaxActiveConns != 3 || o.ReadTimeout != 1500*time.Millisecond || o.WriteTimeout != 3*time.Second ||
		o.MinIdleConns != 2 || o.ConnMaxLifetime != 2*time.Hour || o.MaxRetries != -1 || o.ClientName != "me" || o.Protocol != 3 {
		t.Errorf("got %+v", o)
	}
	o, err = parseRedisURL("redis://h")
	if err != nil {
		t.Fatal(err)
	}
	if !o.ContextTimeoutEnabled || o.MaxActiveConns != redisPoolSize || o.ReadTimeout != redisTimeout || o.DialTimeout != redisTimeout ||
		o.WriteTimeout != redisTimeout || o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
		t.Errorf("got %+v", o)
	}
}

// TestRedisURLErrors: what is wrong is said, and nothing of the URL but the
// names of known options.
func TestRedisURLErrors(t *testing.T) {
	const encoded = "percent-encoded"
	for url, want := range map[string]string{
		"":                                                    "must begin with",
		plantedPassword:                                       "must begin with",
		plantedPassword + ":6379":                             "not a URL",
		"http://:" + plantedPassword + "@h":                   "must begin with",
		"redis:" + plantedPassword:                            "not a URL",
		"redis://:" + plantedPassword:                         encoded,
		"redis://:" + plantedPassword + "@":                   "no host",
		"redis://":                                            "no host",
		"redis://:6379":                                       "no host",
		"redis://h:0":                                         "no usable port",
		"redis://h:99999":                                     "no usable port",
		"redis://:" + plantedPassword + "#@h":                 encoded,
		"redis://:" + plantedPassword + "/@h":                 encoded,
		"redis://:" + plantedPassword + "?@h":                 encoded,
		"redis://u:1/" + plantedPassword + "@h":               encoded,
		"redis://u:1?" + plantedPassword + "@h":               encoded,
		"redis://h#" + plantedPassword:                        encoded,
		"redis://:%zz" + plantedPassword + "@h":               encoded,
		"redis://h/" + plantedPassword:                        "number of a database",
		"redis://h/-1":                                        "number of a database",
		"redis://h/1/2":                                       "number of a database",
		"redis://h?db=" + plantedPassword:                     "option db has a value",
		"redis://h?" + plantedPassword + "=1":                 "unknown here",
		"redis://h?a;" + plantedPassword:                      "not well-formed",
		"redis://h?a=%zz" + plantedPassword:                   "not well-formed",
		"redis://h?db=1&db=2":                                 "option db is given twice",
		"redis://h?read_timeout=0":                            "option read_timeout has",
		"redis://h?read_timeout=-1":                           "option read_timeout has",
		"redis://h?read_timeout=1h":                           "option read_timeout has",
		"redis://h?pool_size=0":                               "option pool_size has",
		"redis://h?pool_size=99999999999":                     "option pool_size has",
		"redis://h?min_idle_conns=33":                         "min_idle_conns is more than pool_size",
		"redis://h?client_name=a%20b":                         "option client_name has",
		"redis://h?protocol=4":                                "option protocol has",
		"redis://h?cluster=yes":                               "option cluster has",
		"redis://h?addr=" + plantedPassword:                   "option addr has",
		"redis://h?addr=:1":                                   "option addr has",
		"redis://h?master_name=":                              "option master_name has",
		"redis://h?password=" + plantedPassword:               "are for Sentinel",
		"redis://h?username=u":                                "are for Sentinel",
		"redis://h?master_name=m&cluster=true":                "give one of them",
		"redis://h/1?cluster=true":                            "only database 0",
		"redis://h/1?addr=b:2":                                "only database 0",
		"redis://h?db=1&cluster=true":                         "only database 0",
		"unix://":                                             "absolute path",
		"unix:///":                                            "absolute path",
		"unix://run/r.sock":                                   "absolute path",
		"unix:///r?addr=a:1":                                  "unix:// takes none",
		"unix:///r?master_name=m":                             "unix:// takes none",
		"redis://h?skip_verify=true":                          "skip_verify is not allowed",
		"rediss://h?skip_verify=true":                         "skip_verify is not allowed",
		"redis://h?cluster=true&read_only=true":               "replica may show an old record",
		"redis://h?addr=b:2&route_by_latency=true":            "replica may show an old record",
		"redis://h?addr=b:2&route_by_latency_tolerance=1s":    "replica may show an old record",
		"redis://h?addr=b:2&route_randomly=true":              "replica may show an old record",
		"redis://h?master_name=m&replica_only=true":           "replica may show an old record",
		"redis://h?master_name=m&use_disconnected_replicas=1": "replica may show an old record",
	} {
		t.Run(url, func(t *testing.T) {
			_, err := parseRedisURL(url)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want %q", err, want)
			}
			if strings.Contains(err.Error(), plantedPassword) {
				t.Errorf("the error quotes the URL: %v", err)
			}
		})
	}
}

// TestRedisReplicaOptions: go-redis has no way to a replica that we know not of.
func TestRedisReplicaOptions(t *testing.T) {
	for _, name := range replicaOptions {
		if redisOptions[name] != nil {
			t.Errorf("%s is read", name)
		}
	}
	for name := range redisOptions {
		if strings.Contains(name, "replica") || strings.Contains(name, "route") || strings.Contains(name, "read_only") {
			t.Errorf("%s is read", name)
		}
	}
}

// quoting is an error of Redis's that quotes what it was sent.
type quoting string

func (q quoting) Error() string { return string(q) }
func (quoting) RedisError()     {}

// TestRedisExplained: no error that Redis, go-redis or the network may give is
// shown as it is.
func TestRedisExplained(t *testing.T) {
	for text, want := range map[string]struct {
		err     error
		mistake bool
	}{
		"(NOAUTH)":                    {quoting("NOAUTH HELLO must be called with the client already authenticated"), true},
		"(WRONGPASS)":                 {quoting("WRONGPASS invalid username-password pair or user is disabled."), true},
		"add the option cluster=true": {quoting("MOVED 3999 127.0.0.1:6381"), true},
		"protected mode":              {quoting("DENIED Redis is running in protected mode"), true},
		"does not know":               {quoting("ERR unknown command 'AUTH', with args beginning with: '" + plantedPassword + "'"), true},
		"with an error (ERR)":         {quoting("ERR " + plantedPassword), false},
		"no room":                     {quoting("ERR max number of clients reached"), false},
		"Redis has no password":       {quoting("ERR AUTH <password> called without any password configured for the default user."), true},
		"(another code)":              {quoting(plantedPassword), false},
		"loading":                     {quoting("LOADING Redis is loading the dataset in memory"), false},
		"takes no writes":             {quoting("ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica."), false},
		"may not do what":             {quoting("ERR Error running script (call to f_1): @user_script:3: NOPERM x"), true},
		"connection refused":          {&net.OpError{Op: "dial", Addr: &net.UnixAddr{Name: plantedPassword}, Err: syscall.ECONNREFUSED}, false},
		"cannot be resolved":          {&net.OpError{Op: "dial", Err: &net.DNSError{Name: plantedPassword}}, false},
		"for another reason":          {errors.New("redis: can't parse " + plantedPassword), false},
		"master_name":                 {fmt.Errorf("redis: all sentinels are unreachable: %w", redis.Nil), true},
		"no answer":                   {fmt.Errorf("%s: %w", plantedPassword, context.DeadlineExceeded), false},
		"cannot be understood":        {quoting("ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation against a key"), false},
	} {
		err := explainRedis(fmt.Errorf("failed to initialise: %w", want.err))
		mistake := new(redisMistake)
		if !strings.Contains(err.Error(), text) || errors.As(err, &mistake) != want.mistake {
			t.Errorf("%v is explained as %v, want %s", want.err, err, text)
		}
		if strings.Contains(err.Error(), plantedPassword) {
			t.Errorf("the error quotes the password: %v", err)
		}
	}
}

// TestRedisLog: lines of go-redis show numbers and errors in our own words.
func TestRedisLog(t *testing.T) {
	logs := observeRedis(t)
	redisLogger{}.Printf(context.Background(), "dial %s %d times, %v: %q %t %v", plantedPassword, 5,
		quoting("ERR "+plantedPassword), []byte(plantedPassword), true, nil)
	text := logText(logs)
	if strings.Contains(text, plantedPassword) || !strings.Contains(text, `dial … 5 times, Redis answers with an error (ERR): "…" true <nil>`) {
		t.Error(text)
	}
}

// FuzzRedisURL: whatever the URL is, there is a client or an error that does
// not quote it.
func FuzzRedisURL(f *testing.F) {
	for _, parts := range [][2]string{
		{"redis://:", "@h"},
		{"rediss://u:", "@h:1/2?db=3"},
		{"unix://:", "@/run/r?db=1"},
		{"redis://h?addr=", ""},
		{"redis://h?master_name=m&password=", "&addr=a:1"},
		{"redis://h?", "=1"},
		{"redis://h/", "?cluster=true"},
		{"", ""},
		{"redis://h?pool_size=", "&min_idle_conns=4"},
		{"redis://h#", ""},
		{"redis://", ":6379"},
		{"redis://h?read_timeout=9s&protocol=3&x", ""},
	} {
		f.Add(parts[0], parts[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, url := range []string{before + plantedPassword + after, before + after} {
			options, err := parseRedisURL(url)
			if err != nil {
				if strings.Contains(err.Error(), plantedPassword) {
					t.Fatalf("%q: the error quotes it: %v", url, err)
				}
				continue
			}
			if len(options.Addrs) == 0 || options.Addrs[0] == "" || options.ReadOnly || options.RouteByLatency || options.RouteRandomly ||
				!options.ContextTimeoutEnabled || options.PoolSize < 1 || options.ReadTimeout <= 0 || options.DialTimeout <= 0 ||
				(options.TLSConfig != nil && options.TLSConfig.InsecureSkipVerify) {
				t.Fatalf("%q: %+v", url, options)
			}
			if options.MinIdleConns > 0 {
				continue // that one would connect
			}
			if err := newRedisClient(options).Close(); err != nil {
				t.Fatalf("%q: %v", url, err)
			}
		}
	})
}
