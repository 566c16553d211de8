// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// probeExpiry is when Redis forgets what a probe wrote, in milliseconds.
const probeExpiry = 1000

// probe does what a request would do, under a key that nobody else uses and
// that is gone soon, and looks at what Redis says of its own settings.
func (l *RedisLatch) probe(ctx context.Context) error {
	info, err := askRedis(ctx, l, func(ctx context.Context, client redis.UniversalClient) ([]string, error) {
		key, value := redisPrefix+"probe:"+newToken(), newToken()
		if err := swapRedis(ctx, client, key, "", value, probeExpiry); err != nil {
			return nil, err
		}
		if err := swapRedis(ctx, client, key, "", newToken(), probeExpiry); !errors.Is(err, ErrConflict) {
			if err == nil {
				err = errRedisAnswer // it gave what it was not to give
			}
			return nil, err
		}
		stored, _, err := loadRedis(ctx, client, key)
		if err == nil && stored != value {
			err = errRedisAnswer
		}
		if err != nil {
			return nil, err
		}
		return redisInfo(ctx, client), nil
	})
	if wrong := new(redisMistake); errors.As(err, &wrong) && l.isCluster() && (wrong.code == "MOVED" || wrong.code == "ASK") {
		return &redisTrouble{wrong.code, "the Redis cluster is moving the key"} // its client knows where to
	}
	if err != nil {
		return err
	}
	return l.judge(info)
}

func (l *RedisLatch) isCluster() bool {
	options, err := parseRedisURL(string(l.url.Reveal()))
	return err == nil && options.IsClusterMode
}

// redisInfo gives the INFO of every node that holds keys, as far as the user
// may ask for it.
func redisInfo(ctx context.Context, client redis.UniversalClient) []string {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		text, err := client.Info(ctx).Result()
		if err != nil {
			return nil // not permitted, or not known: the latch works without
		}
		return []string{text}
	}
	var nodes []string
	collected := make(chan string)
	go func() {
		defer close(collected)
		// Nodes are asked at once. What one does not say is not known.
		_ = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			if text, err := node.Info(ctx).Result(); err == nil {
				collected <- text
			}
			return nil
		})
	}()
	for text := range collected {
		nodes = append(nodes, text)
	}
	return nodes
}

// judge looks for settings under which Redis forgets.
func (l *RedisLatch) judge(info []string) error {
	var forgetful bool
	for _, node := range info {
		for line := range strings.Lines(node) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch {
			case name == "maxmemory_policy" && strings.HasPrefix(value, "allkeys-"):
				return &redisMistake{"maxmemory-policy allkeys", "Redis would evict records, and a second password would pass: " +
					"set its maxmemory-policy to noeviction or volatile-lru"}
			case name == "aof_enabled" && value == "0":
				forgetful = true
			}
		}
	}
	if forgetful {
		redisLog().Warn("Redis forgets records when it crashes: set its appendonly to yes and appendfsync to always",
			redisField(l.URL))
	}
	return nil
}
