// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/metaguard/metaguard/module/decision"
)

// The parts of a token, in bytes.
const (
	version     = 1
	nonceEnd    = 1 + chacha20poly1305.NonceSizeX
	timesSize   = 2 * 8
	rawSize     = nonceEnd + timesSize + chacha20poly1305.Overhead
	encodedSize = (rawSize*8 + 5) / 6
)

// maxAhead is how far in the future a token may have been made, by the clock of
// another replica.
const maxAhead = 30 * time.Second

var encoding = base64.RawURLEncoding.Strict()

// Holder is whose a token is, and where. Nothing of it stands in the token, and
// no other one can use it.
type Holder struct {
	// Source, ID and ProjectID are the caller's. Its address is none of them: it
	// may change while a token lives.
	Source, ID, ProjectID string
	// Site tells one guarded server from another. It must be the same after a
	// reload and on every replica.
	Site string
}

// appendTo appends what is authenticated beside the times. Every part has its
// length before it, so that no two holders are the same bytes.
func (h *Holder) appendTo(data []byte) []byte {
	data = append(data, version)
	for _, part := range [...]string{h.Source, h.ID, h.ProjectID, h.Site} {
		data = binary.AppendUvarint(data, uint64(len(part)))
		data = append(data, part...)
	}
	return data
}

// Issue makes a token that lives for ttl, but never longer than the longest
// time that these keys allow.
func (k *Keys) Issue(holder Holder, now time.Time, ttl time.Duration) string {
	raw := make([]byte, nonceEnd, rawSize)
	raw[0] = version
	_, _ = rand.Read(raw[1:]) // never fails (crypto/rand)
	times := make([]byte, 0, timesSize)
	times = binary.BigEndian.AppendUint64(times, uint64(now.UnixMilli()))
	times = binary.BigEndian.AppendUint64(times, uint64(now.Add(min(ttl, k.maxTTL)).UnixMilli()))
	raw = k.ciphers[0].Seal(raw, raw[1:nonceEnd], times, holder.appendTo(nil))
	return encoding.EncodeToString(raw)
}

// Check gives the age of a holder's token, or refuses it. Whatever does not
// authenticate is foreign: made up, changed, of another key, caller or site.
// The refusal holds nothing of it.
func (k *Keys) Check(token string, holder Holder, now time.Time) (age time.Duration, _ *decision.Refusal) {
	if len(token) != encodedSize {
		return 0, decision.Refuse(decision.SessionInvalid, "session_malformed")
	}
	// One piece of memory for all that the cipher reads and writes.
	buffer := make([]byte, rawSize+timesSize, 320)
	raw, times := buffer[:rawSize], buffer[rawSize:rawSize:rawSize+timesSize]
	var text [encodedSize]byte
	copy(text[:], token)
	if n, err := encoding.Decode(raw, text[:]); err != nil || n != rawSize || raw[0] != version {
		return 0, decision.Refuse(decision.SessionInvalid, "session_malformed")
	}
	bound := holder.appendTo(buffer)[len(buffer):]
	for _, aead := range k.ciphers {
		opened, err := aead.Open(times, raw[1:nonceEnd], raw[nonceEnd:], bound)
		if err == nil {
			return k.live(opened, now)
		}
	}
	return 0, decision.Refuse(decision.SessionInvalid, "session_foreign")
}

// live holds the times of a token of ours against the clock.
func (k *Keys) live(times []byte, now time.Time) (age time.Duration, _ *decision.Refusal) {
	issued := time.UnixMilli(int64(binary.BigEndian.Uint64(times)))
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(times[8:])))
	switch {
	case issued.After(now.Add(maxAhead)):
		return 0, decision.Refuse(decision.SessionInvalid, "session_future")
	case !now.Before(expires), !now.Before(issued.Add(k.maxTTL)):
		return 0, decision.Refuse(decision.SessionInvalid, "session_expired")
	}
	return max(0, now.Sub(issued)), nil
}
