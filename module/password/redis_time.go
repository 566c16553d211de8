// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/metaguard/metaguard/module/decision"
)

// RedisTime asks the Redis at a URL, as `latch redis` takes it, what time it is, to the
// microsecond. It opens a connection of its own and closes it. Redis's user needs
// the command TIME for that, which the latch itself does not. No error shows the URL.
func RedisTime(ctx context.Context, url decision.Secret) (time.Time, error) {
	options, err := parseRedisURL(string(url.Reveal()))
	if err != nil {
		return time.Time{}, fmt.Errorf("the URL of Redis: %w", err)
	}
	client := newRedisClient(options)
	defer client.Close() //nolint:errcheck // nothing was written
	now, err := client.Time(ctx).Result()
	var refused redis.Error
	switch {
	case errors.As(err, &refused) && (strings.HasPrefix(refused.Error(), "NOPERM") || strings.Contains(refused.Error(), "can't run this command")):
		return time.Time{}, errors.New("the Redis user may not ask for the time: give it +time, or leave the check out")
	case err != nil:
		return time.Time{}, explainRedis(err)
	}
	return now, nil
}
