// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// recordVersion is the version of the stored form. Another one is refused: a
// record that is not understood whole is never taken for free.
const recordVersion = 1

// maxRecord bounds a stored record, in bytes. The largest has about 3.5 KiB.
const maxRecord = 4096

// maxTerm bounds what a stored record can hold back, whatever it says.
const maxTerm = 366 * 24 * time.Hour

// stored is the form of a record in a latch.
type stored struct {
	Version   int           `json:"version"`
	Key       string        `json:"key"`
	Nonce     string        `json:"nonce"`
	State     state         `json:"state"`
	At        time.Time     `json:"at"`
	Until     time.Time     `json:"until"`
	Token     string        `json:"token,omitempty"`
	Accepted  fingerprint   `json:"accepted,omitempty"`
	Possible  []fingerprint `json:"possible,omitempty"`
	Candidate fingerprint   `json:"candidate,omitempty"`

	Handover *storedHandover `json:"handover,omitempty"`
}

// EncodeRecord gives a record's stored form, one line of JSON. No two calls
// give the same bytes, so that a stored form tells the version of a record.
func EncodeRecord(key Key, r Record) ([]byte, error) {
	form := stored{
		Version: recordVersion, Key: key.name, Nonce: newToken(),
		State: r.state, At: r.at, Until: r.until, Token: r.token,
		Accepted: r.accepted, Possible: r.possible, Candidate: r.candidate,
		Handover: r.handover.stored(),
	}
	if form.State == "" {
		form.State = stateFree
	}
	if err := form.check(key); err != nil {
		return nil, err
	}
	return form.encode()
}

// DecodeRecord reads a stored form back. Anything that EncodeRecord does not
// write, byte for byte, for this key is an error that wraps ErrCorrupt.
func DecodeRecord(key Key, data []byte) (Record, error) {
	if len(data) > maxRecord {
		return Record{}, fmt.Errorf("%w: too large", ErrCorrupt)
	}
	var form stored
	if err := json.Unmarshal(data, &form); err != nil {
		// The error's text could quote the file; its kind is enough.
		return Record{}, fmt.Errorf("%w: not a JSON record", ErrCorrupt)
	}
	if err := form.check(key); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	again, err := form.encode()
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !bytes.Equal(data, again) {
		return Record{}, fmt.Errorf("%w: not as Metaguard writes it", ErrCorrupt)
	}
	return Record{
		state: form.State, at: form.At, until: form.Until, token: form.Token,
		accepted: form.Accepted, possible: form.Possible, candidate: form.Candidate,
		handover: form.Handover.handover(),
	}, nil
}

func (s stored) encode() ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return append(data, '\n'), nil
}

// check tells whether the form means anything.
func (s stored) check(key Key) error {
	switch {
	case s.Version != recordVersion:
		return fmt.Errorf("version %d of a record, not %d", s.Version, recordVersion)
	case s.Key != key.name || key.name == "":
		return errors.New("record of another instance")
	case !isToken(s.Nonce):
		return errors.New("no nonce")
	case s.State != stateFree && s.State != statePending && s.State != stateSet:
		return errors.New("unknown state")
	case s.Token != "" && (!isToken(s.Token) || s.State != statePending):
		return errors.New("token out of place")
	case s.At.IsZero() || s.At.Location() != time.UTC || s.Until.Location() != time.UTC:
		return errors.New("no time")
	case s.Until.Before(s.At) || s.Until.Sub(s.At) > maxTerm:
		return errors.New("term out of range")
	case len(s.Possible) > maxPossible:
		return errors.New("too many fingerprints")
	case s.Candidate != "" && s.State != statePending:
		return errors.New("candidate out of place")
	}
	for _, p := range append([]fingerprint{s.Accepted, s.Candidate}, s.Possible...) {
		if p != "" && !p.valid() {
			return errors.New("bad fingerprint")
		}
	}
	for _, p := range s.Possible {
		if p == "" {
			return errors.New("empty fingerprint")
		}
	}
	return s.Handover.check()
}

// newToken makes a random name that nobody can guess or meet again.
func newToken() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return hex.EncodeToString(random[:])
}

func isToken(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 16 && hex.EncodeToString(raw) == text
}
