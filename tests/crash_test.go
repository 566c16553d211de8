// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// A process that is killed at any moment forgets no accepted password, and finds
// its keys, its bundle and every record as it left them. TestLongCrash is the same
// sixty times, and kills Redis, too.
func TestCrash(t *testing.T) {
	t.Parallel()
	crash(t, 4, "file", nil)
}

func TestLongCrash(t *testing.T) {
	long(t)
	t.Run("file", func(t *testing.T) { crash(t, 60, "file", nil) })
	t.Run("redis", func(t *testing.T) {
		server := harness.StartRedis(t)
		crash(t, 60, "redis {env.METAGUARD_REDIS_URL}", server)
	})
}

const (
	crashWriters   = 6
	crashInstances = 2000 // of each writer
)

// crashSite is a site whose callers are known by their addresses.
func crashSite(t *testing.T, latch string, c *control, server *passwordServer) *managed {
	t.Helper()
	var inventory []string
	for w := range crashWriters + 1 {
		for n := range crashInstances {
			inventory = append(inventory, fmt.Sprintf(`{"address": %q, "instance_id": %q, "project_id": %q}`, crashAddress(w, n), crashInstance(w, n), projectA))
		}
	}
	settings := "identify remote_ip inventory.json\nassert neutron {env.METAGUARD_NEUTRON_SECRET}\nsession optional\npolicy policy {\nopa opa.yaml\nready_timeout 30s\ntimeout 10m\n}\npassword {\nwrite_once 10m\nlatch " + latch + "\n}"
	m := prepareManaged(t, settings, map[string]string{
		"opa.yaml": c.opa(""), "inventory.json": "[" + strings.Join(inventory, ",") + "]", "policy/data.json": soakGrants,
	})
	m.edit(t, "Caddyfile", m.upstream.Address, server.Address)
	return m
}

func crashInstance(writer, number int) string {
	return fmt.Sprintf("%08d-0000-4000-8000-%012d", writer, number)
}

func crashAddress(writer, number int) string {
	return fmt.Sprintf("127.%d.%d.%d", 20+writer, number/250, 1+number%250)
}

func crash(t *testing.T, kills int, latch string, redis *harness.Redis) {
	c, server := newControl(t), newPasswordServer(t)
	c.put(t, "r0", "userdata")
	m := crashSite(t, latch, c, server)
	if redis != nil {
		m.Setenv("METAGUARD_REDIS_URL", "redis://"+redis.Address)
	}
	m.Run(m.address)
	url := "http://" + m.address

	// What must be known after each crash.
	first := newVisitor(crashAddress(crashWriters, 0), false)
	token := ""
	m.Eventually("a token", func() bool {
		answer, ok := first.visit("PUT", url+"/latest/api/token", "", "X-aws-ec2-metadata-token-ttl-seconds", "21600")
		token = answer.Body
		return ok && answer.Status == 200
	})
	first.expect(200, "", "POST", url+guestPath, "the first of all")
	intact := func() {
		t.Helper()
		first.expect(200, "the first of all", "GET", url+guestPath, "")
		first.expect(409, "Conflict: password_already_set", "POST", url+guestPath, "another")
		first.expect(200, "", "GET", url+metadataPath, "", tokenHeader, token)
		first.expect(403, "Forbidden: policy_deny", "GET", url+userdataPath, "")
		for _, problem := range first.wrong {
			t.Errorf("after a crash: %s", problem)
		}
		if first.lost.Load() > 0 || t.Failed() {
			t.Fatalf("after a crash: %d connections lost", first.lost.Load())
		}
	}
	intact()

	var over, revisions atomic.Bool
	var written atomic.Int64
	var all sync.WaitGroup
	writers := make([]*crashWriter, crashWriters)
	for w := range writers {
		writers[w] = &crashWriter{number: w, told: make(map[string]string)}
		all.Go(func() { writers[w].write(url, &over, &written) })
	}
	all.Go(func() { // bundles are written, too
		for n := 1; !over.Load(); n++ {
			if !revisions.Load() {
				c.put(t, fmt.Sprint("r", n), "userdata")
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	for kill := range kills {
		target := written.Load() + int64(1+kill%7)
		m.Eventually("some more were written", func() bool { return written.Load() >= target })
		if redis != nil && kill%3 == 0 {
			redis.Kill()
			redis.Run()
		}
		m.Kill()
		revisions.Store(true)
		c.setDown(true) // what was persisted must do
		m.Run(m.address)
		intact()
		c.setDown(false)
		revisions.Store(false)
	}
	over.Store(true)
	all.Wait()
	checkCrash(t, m, server, writers, int(written.Load()), kills)
}

// crashWriter writes one password for each of its instances, and another one when
// it does not know what became of that.
type crashWriter struct {
	number int
	told   map[string]string // the password that was accepted, by instance
	asked  []string
	wrong  []string
}

func (w *crashWriter) write(url string, over *atomic.Bool, written *atomic.Int64) {
	for n := 0; n < crashInstances && !over.Load(); n++ {
		instance := crashInstance(w.number, n)
		w.asked = append(w.asked, instance)
		v := newVisitor(crashAddress(w.number, n), false)
		for attempt := 0; !over.Load(); attempt++ {
			password := fmt.Sprintf("password %d of %s", attempt, instance)
			answer, ok := v.visit("POST", url+guestPath, password)
			if !ok || answer.Status == 503 { // killed, or its Redis was
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if answer.Status == 200 {
				w.told[instance] = password
			} else if answer.Status != 409 {
				w.wrong = append(w.wrong, fmt.Sprintf("%s: %d %q", instance, answer.Status, answer.Body))
			}
			written.Add(1)
			break
		}
	}
}

func checkCrash(t *testing.T, m *managed, server *passwordServer, writers []*crashWriter, written, kills int) {
	t.Helper()
	reader := func(writer, n int) *visitor { return newVisitor(crashAddress(writer, n), false) }
	unknown := 0
	for _, w := range writers {
		for _, problem := range w.wrong {
			t.Error(problem)
		}
		for n, instance := range w.asked {
			accepted, told := server.accepted(instance), w.told[instance]
			if len(accepted) > 1 || told != "" && (len(accepted) != 1 || accepted[0] != told) {
				t.Errorf("%s: the server took %q, the writer was told of %q", instance, accepted, told)
			}
			answer, ok := reader(w.number, n).visit("GET", "http://"+m.address+guestPath, "")
			if len(accepted) == 1 && (!ok || answer.Status != 200 || answer.Body != accepted[0]) {
				t.Errorf("%s: what was accepted reads as %d %q", instance, answer.Status, answer.Body)
			}
			if told == "" {
				unknown++
			}
		}
	}
	left := 0
	err := filepath.WalkDir(m.Data, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(entry.Name(), ".new-") || strings.Contains(entry.Name(), ".tmp")) {
			left++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if left > kills*(crashWriters+2) { // one of each that was on its way
		t.Errorf("%d temporary files are left of %d crashes", left, kills)
	}
	t.Logf("%d passwords in %d crashes, the outcome of %d is unknown to their writers, %d temporary files are left", written, kills, unknown, left)
}
