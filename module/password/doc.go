// SPDX-License-Identifier: Apache-2.0

// Package password holds the rules for passwords: how large one may be, what a
// policy learns of it, which stored keys may pass, that only one writer wins,
// and that what is read is what was written.
//
// # The life of a password
//
// Every instance has one [Record], kept by a [Latch]. The [Keeper] moves it
// from state to state; a record that does not exist is free.
//
//	state    event                    next state        held until
//	free     Reserve                  pending           now + write_timeout + write_once
//	pending  Reserve                  refused: password_write_pending
//	set      Reserve                  refused: password_already_set
//	pending  Settle(Accepted)         set               now + write_once
//	pending  Settle(AlreadySet)       set               now + write_once
//	pending  Settle(Refused)          free              -
//	pending  Settle(Unsent)           free              -
//	pending  Settle(Unknown)          pending           now + write_timeout + write_once
//	pending  nothing, or a crash      free              (what Reserve said)
//	set      time passes              free              (what Settle said)
//	any      Reset                    free, and all fingerprints are forgotten
//
// With write_once off its share is zero and an accepted or existing password
// leaves the record free: the latch then only keeps writes apart.
//
// What an upstream write came to:
//
//	the legacy server                                outcome
//	answers 2xx                                      Accepted
//	answers 409                                      AlreadySet
//	answers any other 4xx but 499                    Refused
//	was never reached (no connection was made)       Unsent
//	anything else: 5xx, 3xx, reset, cut, no reply    Unknown
//
// The record is on disk as pending before anything is forwarded. A process that
// dies after that leaves it pending until its time is up. A process must not
// send a write after [Reservation.Deadline]; then no write outlives the
// reservation that covers it.
//
// # What may be read
//
// Beside the state the record keeps keyed fingerprints (HMAC-SHA256 over the
// instance id, a zero byte and the password; never the password):
//
//	accepted   what the server last accepted through Metaguard
//	possible   writes since then whose outcome is unknown, the newest eight
//	candidate  the write that is under way
//
// An answer passes [Keeper.CheckRead] if it is empty, or if it matches any of
// them. If it matches none and an accepted fingerprint is there, it is refused
// with password_mismatch. If none was ever accepted, the password was written
// elsewhere and the setting `unverified` decides. An answer over max_size is
// refused before all that, and every answer is while the latch is unavailable.
//
// Accepted makes the candidate the only fingerprint. AlreadySet, Refused and
// Unsent drop the candidate. Unknown, and a crash, move it to the possible
// ones. Fingerprints are kept until the next accepted write or a reset, also
// long after write_once has passed; nothing else removes them.
//
// A server that shows the chunks that it stores has its answer put together by
// [ReadDocument], and the whole is what CheckRead is asked about.
//
// Without fingerprint keys no fingerprints are made or compared: a password
// then passes only by the setting `unverified`. A fingerprint under a key that
// is no longer given matches nothing (fingerprint_key_unknown).
//
// # Passwords that the server makes
//
// CloudStack's router gives a password to whoever asks, and forgets it when it is
// told so. The record then keeps a handover: a fingerprint of what the server was
// last seen to hold, who got it, and what is under way.
//
//	event                                   the handover then
//	BeginRead                               has one read more under way
//	a read sees a password                  is of this password; nobody may acknowledge it, if it is a new one
//	a read sees none, or what is not fit    is empty: nobody may acknowledge
//	read ends: a password, passed on        its reader may acknowledge, if it is of this password still
//	read ends: client left, nothing seen    is as before
//	a read never ends                       is empty after 2 minutes
//	Acknowledge                             has it under way, for write_timeout
//	  … by anybody else, or 2 minutes late  refused: password_unverified, acknowledge_without_read
//	  … while something is under way        waits 2 s, then refused: password_write_pending
//	  … once more                           nothing is sent: it would meet a newer password
//	Settle(Accepted)                        was acknowledged
//	Settle(anything else)                   is as before: the reader may try again
//
// What a read has seen is recorded before its answer is passed on, and that this was
// passed on afterwards: a client with its answer may read again at once, and what it
// is given then is the newer one, however late the end of the first read is told.
//
// So an acknowledgement is sent only for a caller who has got the newest password
// that was seen. What the protocol cannot give, since an acknowledgement does not
// say of which password it is: one that is set between the last read and the
// acknowledgement, and that nobody has asked for yet, is forgotten unread.
//
// # Where records are kept
//
// A [Latch] is one compare-and-swap register for each instance: [FileLatch] on a
// directory, [RedisLatch] in Redis. Neither knows what a record means, and both
// outlast a crash as far as what they stand on does. The key of the fingerprints
// is kept elsewhere: whoever has both can try passwords out.
//
// # Clocks
//
// Times are wall-clock times in the record, because they must outlast the
// process and be shared. So the clocks of replicas, and jumps of one clock, may
// differ by less than write_once minus the legacy server's cache time (Nova:
// 15 s) before a record can be freed while the server still takes a second
// write. A clock that stepped back only holds longer: a record from the future
// counts as held, and if it lies further ahead than its own term the first
// write that meets it dates it anew, so that it never holds for more than two
// terms from then.
package password
