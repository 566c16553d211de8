// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// publicKey is the key pair that every instance has.
const publicKey = "ssh-rsa AAAAB3NzaC1yc2E= k1"

// Instance is one machine that the server knows. What is written in it stands
// in the running configuration in clear: it is for made-up data only.
type Instance struct {
	// ID is the instance's UUID, in lower case. Required.
	ID string `json:"id"`
	// Project is the id of the project (tenant) that owns it. Required.
	Project string `json:"project"`
	// Name is its name and the first part of its host name. Default: the ID.
	Name string `json:"name,omitempty"`
	// Addresses are texts by which it is found without a secret. Nova compares
	// the whole of X-Forwarded-For with them, and so do we.
	Addresses []string `json:"addresses,omitempty"`
	// UserData is given as it is. Empty: the instance has none.
	UserData string `json:"user_data,omitempty"`
	// Meta is the user's own metadata, shown in meta_data.json.
	Meta map[string]string `json:"meta,omitempty"`
	// SystemMetadata is Nova's table of that name, in which passwords live: in
	// password_0 to password_3 when Nova wrote them. Every key that begins with
	// "password_" is part of what a reader gets.
	SystemMetadata map[string]string `json:"system_metadata,omitempty"`

	number int // from 1, in the order of the configuration
}

// hostname is the name with Nova's default [api]dhcp_domain.
func (i *Instance) hostname() string { return i.Name + ".novalocal" }

// clone makes a copy whose tables are its own.
func (i Instance) clone() *Instance {
	i.Addresses = slices.Clone(i.Addresses)
	i.Meta = maps.Clone(i.Meta)
	i.SystemMetadata = maps.Clone(i.SystemMetadata)
	if i.SystemMetadata == nil {
		i.SystemMetadata = map[string]string{}
	}
	if i.Name == "" {
		i.Name = i.ID
	}
	return &i
}

// store is Nova's database and, in front of it, the cache of one worker
// process.
type store struct {
	now    func() time.Time
	expiry time.Duration // 0: nothing is cached

	mu    sync.Mutex
	byID  map[string]*Instance
	byIP  map[string]*Instance
	cache map[string]*view
}

// view is what a worker knows of an instance: Nova's InstanceMetadata object.
// It is built once and then served until it expires, while the database moves
// on; this is why a password can be overwritten, unseen, for 15 seconds.
type view struct {
	instance *Instance // only what never changes is read through it
	password string    // as joined when the view was built
	address  string    // what the first asker claimed to be
	expires  time.Time
}

func newStore(instances []Instance, expiry time.Duration, now func() time.Time) *store {
	s := &store{
		now: now, expiry: expiry,
		byID: map[string]*Instance{}, byIP: map[string]*Instance{}, cache: map[string]*view{},
	}
	for n, instance := range instances {
		own := instance.clone()
		own.number = n + 1
		s.byID[own.ID] = own
		for _, address := range own.Addresses {
			s.byIP[address] = own
		}
	}
	return s
}

// viewByID finds an instance by its id; nil: there is none.
func (s *store) viewByID(id, address string) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cached("metadata-"+id, s.byID[id], address)
}

// viewByAddress finds an instance by an address; nil: there is none.
func (s *store) viewByAddress(address string) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cached("metadata-"+address, s.byIP[address], address)
}

// cached gives the view under key, building it when there is none or it has
// expired. Expiry counts from building, not from last use.
func (s *store) cached(key string, instance *Instance, address string) *view {
	if instance == nil {
		return nil
	}
	if v := s.cache[key]; v != nil && s.now().Before(v.expires) {
		return v
	}
	v := &view{
		instance: instance,
		password: joinPassword(instance.SystemMetadata),
		address:  address,
		expires:  s.now().Add(s.expiry),
	}
	if s.expiry > 0 {
		s.cache[key] = v
	}
	return v
}

// joinPassword is extract_password: every key that begins with "password_", in
// the order of the text (password_10 before password_2), without any limit.
func joinPassword(systemMetadata map[string]string) string {
	var joined strings.Builder
	for _, key := range slices.Sorted(maps.Keys(systemMetadata)) {
		if strings.HasPrefix(key, "password_") {
			joined.WriteString(systemMetadata[key])
		}
	}
	return joined.String()
}

// setPassword is convert_password and Instance.save: four chunks of characters,
// all four written even when there is nothing to write. No view hears of it.
func (s *store) setPassword(instance *Instance, password string) {
	rest := []rune(password)
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range chunks {
		size := min(chunkLength, len(rest))
		instance.SystemMetadata["password_"+string(rune('0'+n))] = string(rest[:size])
		rest = rest[size:]
	}
}

// systemMetadata gives a copy of an instance's table, for tests.
func (s *store) systemMetadata(id string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.byID[id].SystemMetadata)
}
