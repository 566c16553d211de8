// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"
)

// This file is Nova's request handling (handler.py and password.py): who is
// asked about, and what is answered.

// Nova's limits for a password.
const (
	chunks      = 4
	chunkLength = 255 // characters
	maxPassword = chunks * chunkLength
)

// answer is what the application says, before a server frames it.
type answer struct {
	status      int
	contentType string // empty: none is sent
	body        string
	explanation string // of an error; it is rendered as the client accepts it
	crash       bool   // the application raised an exception; nothing else counts
	unread      bool   // the body was left unread, on purpose
}

// Answers without variable parts.
var (
	notFound = refused(http.StatusNotFound, "The resource could not be found.")
	crashed  = answer{crash: true}
)

func found(contentType, body string) answer {
	return answer{status: http.StatusOK, contentType: contentType, body: body}
}

func refused(status int, explanation string) answer {
	return answer{status: status, explanation: explanation}
}

// call is one request as the application sees it.
type call struct {
	*http.Request
	pathInfo string
	joint    string // what the server puts between two headers of one name
}

// header is a header's value as WSGI has it, and whether there is one.
func (c *call) header(name string) (value string, present bool) {
	values := c.Header.Values(name)
	return strings.Join(values, c.joint), len(values) > 0
}

// nova answers a request the way the pipeline of Debian's api-paste.ini does.
func (h *Handler) nova(c *call) answer {
	resource := NovaResource(c.pathInfo)
	switch resource {
	case "":
		return crashed
	case HealthPath: // for anybody; oslo's HTML and JSON forms of it are left out
		if c.Method == http.MethodHead {
			return answer{status: http.StatusNoContent}
		}
		return found(plainText, "OK")
	}
	out := h.metadata(c, resource)
	if c.Method == http.MethodOptions && !out.crash && out.status != http.StatusOK {
		// oslo's CORS middleware takes it for a preflight request, whoever asks.
		return answer{status: http.StatusOK}
	}
	return out
}

// metadata is MetadataRequestHandler.
func (h *Handler) metadata(c *call, resource string) answer {
	if resource == "/" { // before it is known who asks
		return found(plainText, listing(ec2Versions))
	}
	v, refusal := h.identify(c)
	if refusal != nil {
		return *refusal
	}
	if PasswordResource(resource) {
		return h.password(c, v)
	}
	return v.tree(resource) // any method is a GET
}

// identify finds the instance that a request is about. It looks at nothing but
// headers: never at the method, the path, or who is at the other end.
func (h *Handler) identify(c *call) (v *view, refusal *answer) {
	refuse := func(status int, explanation string) (*view, *answer) {
		out := refused(status, explanation)
		return nil, &out
	}
	if h.secret.Empty() {
		address, claimed := c.header("X-Forwarded-For")
		if !claimed {
			address = peerAddress(c.RemoteAddr)
		}
		if address == "" {
			return refuse(http.StatusInternalServerError, "An unknown error has occurred. Please try your request again.")
		}
		if v = h.store.viewByAddress(address); v == nil {
			return nil, &notFound
		}
		return v, nil
	}

	address, hasAddress := c.header("X-Forwarded-For")
	if provider, _ := c.header("X-Metadata-Provider"); provider != "" {
		// The way for load balancers: the same secret signs another id, so a
		// signature of the one is good for the other.
		if !hasAddress {
			return refuse(http.StatusBadRequest, "X-Forwarded-For is missing from request.")
		}
		signature, _ := c.header("X-Metadata-Provider-Signature")
		if refusal = h.verify(provider, signature); refusal != nil {
			return nil, refusal
		}
		return refuse(http.StatusBadRequest, "Could not find any subnets for provider "+provider)
	}
	values := map[string]string{}
	for _, name := range []string{"X-Instance-ID", "X-Instance-ID-Signature", "X-Tenant-ID"} {
		value, present := c.header(name)
		if !present {
			return refuse(http.StatusBadRequest, name+" header is missing from request.")
		}
		values[name] = value
	}
	if refusal = h.verify(values["X-Instance-ID"], values["X-Instance-ID-Signature"]); refusal != nil {
		return nil, refusal
	}
	v = h.store.viewByID(values["X-Instance-ID"], address)
	if v == nil || v.instance.Project != values["X-Tenant-ID"] {
		return nil, &notFound
	}
	return v, nil
}

// verify is _validate_shared_secret, less the log line in which Nova writes
// the signature that it expected.
func (h *Handler) verify(id, signature string) *answer {
	for i := range len(signature) {
		if signature[i] >= utf8.RuneSelf { // constant_time_compare raises TypeError
			out := crashed
			return &out
		}
	}
	mac := hmac.New(sha256.New, h.secret.Reveal())
	mac.Write([]byte(id))
	if !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(signature)) {
		out := refused(http.StatusForbidden, "Invalid proxy request signature.")
		return &out
	}
	return nil
}

// peerAddress is the connection's address without its port.
func peerAddress(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// password is handle_password.
func (h *Handler) password(c *call, v *view) answer {
	switch c.Method {
	case http.MethodGet:
		return found(htmlText, v.password)
	case http.MethodPost:
	default: // HEAD too
		return refused(http.StatusBadRequest, "GET and POST only are supported.")
	}
	if v.password != "" {
		return refused(http.StatusConflict, "There was a conflict when trying to complete your request.")
	}
	if c.ContentLength < 0 || c.Header.Get("Content-Length") == "" && c.ContentLength == 0 {
		return crashed // None > 1020 is a TypeError
	}
	if c.ContentLength > maxPassword { // without reading it
		out := refused(http.StatusBadRequest, "Request is too large.")
		out.unread = true
		return out
	}
	body, err := io.ReadAll(io.LimitReader(c.Body, maxPassword))
	if err != nil || !utf8.Valid(body) { // a body that ends too early is an error
		return crashed
	}
	h.store.setPassword(v.instance, string(body))
	return found(htmlText, "")
}
