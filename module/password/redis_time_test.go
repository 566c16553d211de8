// SPDX-License-Identifier: Apache-2.0

package password

import (
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/tests/harness"
)

// Redis is asked the time, and no error shows where it is or its password.
func TestRedisTime(t *testing.T) {
	server := harness.StartRedis(t)
	before := time.Now()
	now, err := RedisTime(t.Context(), decision.NewSecret(redisURL(server)))
	if err != nil || now.Before(before.Add(-time.Second)) || now.After(time.Now().Add(time.Second)) {
		t.Errorf("%v %v, asked at %v", now, err, before)
	}
	client := redisClient(t, server)
	if err := client.Do(t.Context(), "ACL", "SETUSER", "metaguard", "on", ">pl4nted", "~metaguard:*", "+get", "+set").Err(); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"unix://metaguard:pl4nted@" + server.Socket: "+time",
		"unix://metaguard:wr0ng@" + server.Socket:   "user and password",
		"unix://pl4nted@/nowhere":                   "no connection",
		"pl4nted":                                   "the URL of Redis",
	} {
		if _, err := RedisTime(t.Context(), decision.NewSecret(url)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pl4nted") || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
