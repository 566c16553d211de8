// SPDX-License-Identifier: Apache-2.0

package password

import (
	"errors"
	"time"
)

// storedHandover is the form of a handover in a record.
type storedHandover struct {
	Seen          fingerprint      `json:"seen,omitempty"`
	Readers       []storedReader   `json:"readers,omitempty"`
	Reads         []storedUnderway `json:"reads,omitempty"`
	Acknowledging *storedUnderway  `json:"acknowledging,omitempty"`
	Done          bool             `json:"done,omitempty"`
}

type storedReader struct {
	Who   string    `json:"who"`
	Until time.Time `json:"until"`
}

type storedUnderway struct {
	Token string    `json:"token"`
	Until time.Time `json:"until"`
}

// known tells whether anything is known.
func (h handover) known() bool {
	return h.seen != "" || len(h.readers) > 0 || len(h.reads) > 0 || h.acknowledging.token != "" || h.done
}

// stored is nil where nothing is known.
func (h handover) stored() *storedHandover {
	if !h.known() {
		return nil
	}
	form := &storedHandover{Seen: h.seen, Done: h.done}
	for _, r := range h.readers {
		form.Readers = append(form.Readers, storedReader{r.who, r.until})
	}
	for _, u := range h.reads {
		form.Reads = append(form.Reads, storedUnderway{u.token, u.until})
	}
	if u := h.acknowledging; u.token != "" {
		form.Acknowledging = &storedUnderway{u.token, u.until}
	}
	return form
}

func (s *storedHandover) handover() handover {
	if s == nil {
		return handover{}
	}
	h := handover{seen: s.Seen, done: s.Done}
	for _, r := range s.Readers {
		h.readers = append(h.readers, reader{r.Who, r.Until})
	}
	for _, u := range s.Reads {
		h.reads = append(h.reads, underway{u.Token, u.Until})
	}
	if u := s.Acknowledging; u != nil {
		h.acknowledging = underway{u.Token, u.Until}
	}
	return h
}

// check tells whether the form means anything.
func (s *storedHandover) check() error {
	switch {
	case s == nil:
		return nil
	case !s.handover().known():
		return errors.New("empty handover")
	case s.Seen != "" && !s.Seen.valid():
		return errors.New("bad fingerprint")
	case len(s.Readers) > maxReaders || len(s.Reads) > maxReads:
		return errors.New("too many readers")
	case s.Acknowledging != nil && !s.Acknowledging.valid():
		return errors.New("acknowledgement out of place")
	}
	for _, r := range s.Readers {
		if !isReaderName(r.Who) || r.Until.Location() != time.UTC {
			return errors.New("bad reader")
		}
	}
	for _, u := range s.Reads {
		if !u.valid() {
			return errors.New("bad read")
		}
	}
	return nil
}

func (u storedUnderway) valid() bool { return isToken(u.Token) && u.Until.Location() == time.UTC }
