// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// clock is a tokenCache's time.
type clock struct{ now atomic.Pointer[time.Time] }

func (c *clock) set(k *Keystone) {
	start := time.Now()
	c.now.Store(&start)
	k.tokens.now = func() time.Time { return *c.now.Load() }
}

func (c *clock) forward(d time.Duration) {
	later := c.now.Load().Add(d)
	c.now.Store(&later)
}

func (f *fakeKeystone) wantAsked(tb testing.TB, want int64) {
	tb.Helper()
	if asked := f.asked.Load(); asked != want {
		tb.Errorf("asked %d times, want %d", asked, want)
	}
}

func identifiedUser(tb testing.TB, k *Keystone, token string) {
	tb.Helper()
	if caller, refusal := k.identify(token); caller == nil {
		tb.Error(refusal)
	}
}

func TestKeystoneRemembers(t *testing.T) {
	fake := newFakeKeystone(t, tells(alice("")))
	k := newKeystone(t, fake.URL, nil)
	var c clock
	c.set(k)
	identifiedUser(t, k, planted)
	identifiedUser(t, k, planted)
	fake.wantAsked(t, 1)
	identifiedUser(t, k, older)
	fake.wantAsked(t, 2)

	// Revoked: noticed when the time is over, not later.
	fake.answers(says(http.StatusNotFound))
	c.forward(defaultKeystoneCache - time.Nanosecond)
	identifiedUser(t, k, planted)
	fake.wantAsked(t, 2)
	c.forward(time.Nanosecond)
	refuses(t, k, decision.IdentityInvalid, "keystone_token_invalid", planted)
	fake.wantAsked(t, 3)

	// Refused: for a short time without asking.
	fake.answers(tells(alice("")))
	c.forward(maxRefusedFor - time.Nanosecond)
	refuses(t, k, decision.IdentityInvalid, "keystone_token_invalid", planted)
	fake.wantAsked(t, 3)
	c.forward(time.Nanosecond)
	identifiedUser(t, k, planted)
	fake.wantAsked(t, 4)
}

func TestKeystoneBelievesNoExpiredToken(t *testing.T) {
	fake := newFakeKeystone(t, tells(alice(`"expires_at": "`+time.Now().Add(10*time.Second).UTC().Format(time.RFC3339Nano)+`"`)))
	k := newKeystone(t, fake.URL, nil)
	var c clock
	c.set(k)
	identifiedUser(t, k, planted)
	fake.answers(says(http.StatusUnauthorized))
	c.forward(9 * time.Second)
	identifiedUser(t, k, planted)
	c.forward(time.Second)
	refuses(t, k, decision.IdentityInvalid, "keystone_token_invalid", planted)
	fake.wantAsked(t, 2)
}

// What is no answer is not remembered, and drives out nothing.
func TestKeystoneForgetsFaults(t *testing.T) {
	fake := newFakeKeystone(t, says(http.StatusBadGateway))
	k := newKeystone(t, fake.URL, nil)
	refuses(t, k, decision.IdentityUnavailable, "keystone_unavailable", planted)
	fake.answers(tells(alice("")))
	identifiedUser(t, k, planted)
	fake.answers(says(http.StatusBadGateway))
	identifiedUser(t, k, planted)
	fake.wantAsked(t, 2)
}

func TestKeystoneWithoutCache(t *testing.T) {
	fake := newFakeKeystone(t, tells(alice("")))
	k := newKeystone(t, fake.URL, func(k *Keystone) { k.Cache = -1 })
	identifiedUser(t, k, planted)
	fake.answers(says(http.StatusNotFound))
	refuses(t, k, decision.IdentityInvalid, "keystone_token_invalid", planted)
	fake.answers(tells(alice("")))
	identifiedUser(t, k, planted)
	fake.wantAsked(t, 3)
}

func TestKeystoneFlood(t *testing.T) {
	fake := newFakeKeystone(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("X-Auth-Token"), "bad") {
			says(http.StatusUnauthorized)(w, r)
			return
		}
		tells(alice(""))(w, r)
	})
	k := newKeystone(t, fake.URL, func(k *Keystone) { k.CacheSize = 10 })
	for i := range 5 {
		identifiedUser(t, k, fmt.Sprint("good", i))
	}
	for i := range 300 {
		refuses(t, k, decision.IdentityInvalid, "keystone_token_invalid", fmt.Sprint("bad", i))
	}
	fake.wantAsked(t, 305)
	for i := range 5 {
		identifiedUser(t, k, fmt.Sprint("good", i))
	}
	fake.wantAsked(t, 305)
	if size := k.tokens.refused.EstimatedSize(); size > 20 {
		t.Errorf("%d refused tokens are kept", size)
	}
	for i := range 300 {
		identifiedUser(t, k, fmt.Sprint("more", i))
	}
	if size := k.tokens.taken.EstimatedSize(); size > 20 {
		t.Errorf("%d tokens are kept", size)
	}
}

// waiting is how many requests wait for one question.
func waiting(k *Keystone) (n int) {
	k.tokens.flights.mu.Lock()
	defer k.tokens.flights.mu.Unlock()
	for _, f := range k.tokens.flights.running {
		n += f.waiting
	}
	return n
}

func TestKeystoneSharesAQuestion(t *testing.T) {
	release := make(chan struct{})
	fake := newFakeKeystone(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		tells(alice(""))(w, r)
	})
	k := newKeystone(t, fake.URL, func(k *Keystone) { k.Timeout = caddy.Duration(time.Minute) })
	var all, one sync.WaitGroup
	hasty, hangUp := context.WithCancel(context.Background())
	one.Go(func() { // it asks, and does not wait for the answer
		_, refusal := k.Identify(withToken(planted).WithContext(hasty), loopback)
		if refusal == nil || refusal.Reason != decision.IdentityUnavailable || refusal.Code != "keystone_abandoned" {
			t.Error(refusal)
		}
	})
	eventually(t, func() bool { return waiting(k) == 1 })
	for range 20 {
		all.Go(func() { identifiedUser(t, k, planted) })
	}
	eventually(t, func() bool { return waiting(k) == 21 })
	hangUp()
	one.Wait()
	close(release)
	all.Wait()
	fake.wantAsked(t, 1)
	if waiting(k) != 0 {
		t.Error("somebody waits still")
	}
}

func TestKeystoneCallsAQuestionOff(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	fake := newFakeKeystone(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	for name, edit := range map[string]func(*Keystone){
		"shared": func(k *Keystone) { k.Timeout = caddy.Duration(time.Minute) },
		"own":    func(k *Keystone) { k.Timeout, k.Cache = caddy.Duration(time.Minute), -1 },
	} {
		t.Run(name, func(t *testing.T) {
			begun, ended = make(chan struct{}), make(chan struct{})
			k := newKeystone(t, fake.URL, edit)
			ctx, hangUp := context.WithCancel(context.Background())
			var done sync.WaitGroup
			done.Go(func() {
				if _, refusal := k.Identify(withToken(planted).WithContext(ctx), loopback); refusal == nil || refusal.Code != "keystone_abandoned" {
					t.Error(refusal)
				}
			})
			<-begun
			hangUp()
			done.Wait()
			<-ended
			fake.answers(tells(alice("")))
			identifiedUser(t, k, planted)
			fake.answers(func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				<-r.Context().Done()
				close(ended)
			})
		})
	}
}

func TestKeystoneSurvivesAPanic(t *testing.T) {
	k := stubbed(t)
	k.tokens.ask = func(context.Context, string) (*keystoneUser, *decision.Refusal) { panic(planted) }
	refuses(t, k, decision.IdentityUnavailable, "keystone_unavailable", older)
	if waiting(k) != 0 {
		t.Error("the question goes on")
	}
}
