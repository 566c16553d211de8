// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/tests/harness"
)

// TestRedisSentinel: the primary is found through Sentinel, also after a
// failover; a Sentinel that knows no such master never looks like an empty
// Redis.
func TestRedisSentinel(t *testing.T) {
	harness.NeedRedis(t, "redis-sentinel")
	ctx := context.Background()
	primary := harness.StartRedis(t, "--requirepass", plantedPassword, "--masterauth", plantedPassword)
	replica := harness.StartRedis(t, "--requirepass", plantedPassword, "--masterauth", plantedPassword,
		"--replicaof", "127.0.0.1", strconv.Itoa(primary.Port))
	sentinel := harness.StartSentinel(t, "mymaster", primary, "sentinel auth-pass mymaster "+plantedPassword, "requirepass of-sentinel")
	url := func(master, options string) string {
		return "redis://:of-sentinel@" + sentinel.Address + "?master_name=" + master + "&addr=127.0.0.1:1" + options
	}
	password := "&password=" + plantedPassword

	t.Run("no such master", func(t *testing.T) {
		latch, failed, _ := startRedisLatch(t, url("another", password))
		if !strings.Contains(failed, "Sentinel does not know the master_name") {
			t.Errorf("Start: %q", failed)
		}
		if record, version, err := latch.Load(ctx, mustKey(t, instance)); err == nil {
			t.Errorf("loaded %+v %q", record, version)
		}
		if err := latch.Reset(ctx, mustKey(t, instance)); err == nil {
			t.Error("a reset says that it was done")
		}
		_, refusal := newKeeper(t, latch, newClock()).Reserve(ctx, instance, []byte("x"))
		wantRefusal(t, refusal, decision.LatchUnavailable, "latch_failed")
	})
	t.Run("no password for Redis", func(t *testing.T) {
		if _, failed, _ := startRedisLatch(t, url("mymaster", "")); !strings.Contains(failed, "for Sentinel also as the option password") {
			t.Errorf("Start: %q", failed)
		}
	})
	t.Run("no password for Sentinel", func(t *testing.T) {
		_, failed, _ := startRedisLatch(t, "redis://"+sentinel.Address+"?master_name=mymaster"+password)
		if !strings.Contains(failed, "wants a password") {
			t.Errorf("Start: %q", failed)
		}
	})
	t.Run("Sentinel itself", func(t *testing.T) {
		if _, failed, _ := startRedisLatch(t, "redis://:of-sentinel@"+sentinel.Address); !strings.Contains(failed, "add the option master_name") {
			t.Errorf("Start: %q", failed)
		}
	})
	t.Run("a failover", func(t *testing.T) {
		latch, failed, logged := startRedisLatch(t, url("mymaster", password))
		if failed+logged != "" {
			t.Fatalf("%q, %q", failed, logged)
		}
		clock := newClock()
		keeper := newKeeper(t, latch, clock)
		write(t, keeper, clock, "first", Accepted)
		_, version := loadState(t, latch, mustKey(t, instance))
		replicated := redis.NewClient(&redis.Options{Addr: replica.Address, Password: plantedPassword})
		t.Cleanup(func() { _ = replicated.Close() })
		eventually(t, "the replica has it", func() bool {
			value, err := replicated.Get(ctx, redisPrefix+mustKey(t, instance).Name()).Result()
			return err == nil && Version(value) == version
		})
		client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Address, Password: "of-sentinel"})
		t.Cleanup(func() { _ = client.Close() })
		eventually(t, "Sentinel knows the replica", func() bool {
			replicas, err := client.Replicas(ctx, "mymaster").Result()
			return err == nil && len(replicas) == 1 && replicas[0]["flags"] == "slave"
		})
		eventually(t, "Sentinel begins a failover", func() bool { return client.Failover(ctx, "mymaster").Err() == nil })
		eventually(t, "the replica is primary", func() bool {
			role, err := replicated.Do(ctx, "ROLE").Slice()
			return err == nil && role[0] == "master"
		})
		primary.Kill()
		eventually(t, "writing to the new primary", func() bool {
			reservation, refusal := keeper.Reserve(ctx, instance, []byte("second"))
			return refusal == nil && reservation.Settle(Accepted) == nil
		})
		if value, err := replicated.Get(ctx, redisPrefix+mustKey(t, instance).Name()).Result(); err != nil || Version(value) == version {
			t.Errorf("there is %q, %v", value, err)
		}
	})
}

// TestRedisCluster: three primaries share the keys.
func TestRedisCluster(t *testing.T) {
	harness.NeedRedis(t, "redis-cli")
	ctx := context.Background()
	arguments := []string{"--cluster", "create"}
	var nodes []*harness.Redis
	for range 3 {
		// The bus is at a port of its own, which must be free, too.
		node := harness.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(harness.FreePort(t)))
		nodes = append(nodes, node)
		arguments = append(arguments, node.Address)
	}
	if output, err := exec.Command("redis-cli", append(arguments, "--cluster-yes")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, node := range nodes {
		client := redisClient(t, node)
		eventually(t, "the cluster is up", func() bool {
			info, err := client.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok")
		})
		if err := client.Do(ctx, "ACL", "SETUSER", "right", "on", ">"+plantedPassword, "~metaguard:*",
			"+get", "+set", "+strlen", "+eval", "+evalsha", "+info", "+cluster|slots").Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("one client", func(t *testing.T) {
		failures := 0
		for _, node := range nodes { // the probe's key is at home on one of them
			if _, failed, _ := startRedisLatch(t, "redis://"+node.Address); strings.Contains(failed, "add the option cluster=true") {
				failures++
			}
		}
		if failures == 0 {
			t.Error("Start succeeds on every node")
		}
	})
	t.Run("database 1", func(t *testing.T) {
		if _, failed, _ := startRedisLatch(t, "redis://"+nodes[0].Address+"/1"); !strings.Contains(failed, "cluster=true") {
			t.Errorf("Start: %q", failed)
		}
	})
	url := func(i int) string {
		return fmt.Sprintf("redis://right:%s@%s?cluster=true&addr=%s&client_name=r%d", plantedPassword, nodes[i%3].Address, nodes[(i+1)%3].Address, i)
	}
	t.Run("the ACL is enough", func(t *testing.T) {
		latch, failed, logged := startRedisLatch(t, strings.Replace(url(0), "&client_name=r0", "", 1))
		if failed+logged != "" {
			t.Errorf("%q, %q", failed, logged)
		}
		if _, err := latch.Swap(ctx, mustKey(t, "acl"), "", sampleRecords(t)["free"]); err != nil {
			t.Error(err)
		}
		for i, node := range nodes {
			if refused, err := redisClient(t, node).ACLLog(ctx, 9).Result(); err != nil || len(refused) > 0 {
				t.Errorf("node %d refused %+v, %v", i, refused, err)
			}
		}
	})
	t.Run("racing writers", func(t *testing.T) {
		for _, node := range nodes {
			if err := redisClient(t, node).Do(ctx, "ACL", "SETUSER", "right", "+client|setname").Err(); err != nil {
				t.Fatal(err)
			}
		}
		raceKeepers(t, redisReplicas(t, 3, url), 60)
		for i, node := range nodes {
			keys, err := redisClient(t, node).DBSize(ctx).Result()
			if err != nil || keys < 5 {
				t.Errorf("node %d has %d keys, %v", i, keys, err)
			}
		}
	})
	t.Run("one of them would evict", func(t *testing.T) {
		if err := redisClient(t, nodes[2]).ConfigSet(ctx, "maxmemory-policy", "allkeys-lfu").Err(); err != nil {
			t.Fatal(err)
		}
		if _, failed, _ := startRedisLatch(t, url(0)); !strings.Contains(failed, "would evict records") {
			t.Errorf("Start: %q", failed)
		}
	})
	t.Run("a node is gone", func(t *testing.T) {
		latch := newRedisLatch(t, url(1))
		nodes[0].Kill()
		served, refused := 0, 0
		for i := range 30 {
			switch _, err := latch.Swap(ctx, mustKey(t, fmt.Sprint("gone ", i)), "", sampleRecords(t)["free"]); {
			case err == nil:
				served++
			case errors.Is(err, ErrConflict), errors.Is(err, ErrCorrupt):
				t.Errorf("got %v", err)
			default:
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("%d served, %d refused", served, refused)
		}
	})
}
