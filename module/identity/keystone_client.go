// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/metaguard/metaguard/module/decision"
)

const (
	// keystoneSlots is how many questions are asked at a time.
	keystoneSlots = 64
	// maxKeystoneAnswer is the longest answer in bytes. Without the catalog,
	// which is not asked for, it has some thousands.
	maxKeystoneAnswer = 1 << 20
	// codeAbandoned: the client hung up before there was an answer.
	codeAbandoned = "keystone_abandoned"
)

// keystoneClient asks Keystone to validate tokens. It is safe for concurrent
// use, and works after close, too.
type keystoneClient struct {
	service   *gophercloud.ServiceClient
	transport *http.Transport
	timeout   time.Duration
	slots     chan struct{}
	closed    atomic.Bool
}

// newKeystoneClient connects to nothing yet.
func newKeystoneClient(address, ca string, timeout time.Duration) (*keystoneClient, error) {
	endpoint, err := keystoneEndpoint(address)
	if err != nil {
		return nil, err
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		if settings.RootCAs, err = readAuthorities(ca); err != nil {
			return nil, err
		}
	}
	c := &keystoneClient{timeout: timeout, slots: make(chan struct{}, keystoneSlots)}
	c.transport = &http.Transport{
		Proxy:                  nil, // never one from the environment: it would see every token
		DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
		TLSClientConfig:        settings,
		TLSHandshakeTimeout:    timeout,
		ResponseHeaderTimeout:  timeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    keystoneSlots,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true, // so that the bound is one of memory
	}
	provider := &gophercloud.ProviderClient{HTTPClient: http.Client{
		Transport: boundedTransport{c.transport},
		// A token goes to no other place than the one that was configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	provider.UserAgent.Prepend("metaguard")
	c.service = &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: endpoint, Type: "identity"}
	return c, nil
}

// close closes the connections that wait for use, now and after each question
// that is still asked.
func (c *keystoneClient) close() {
	c.closed.Store(true)
	c.transport.CloseIdleConnections()
}

// ask asks who has the token, which validates itself.
func (c *keystoneClient) ask(ctx context.Context, token string) (*keystoneUser, *decision.Refusal) {
	asking, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
	case <-asking.Done():
		if ctx.Err() != nil {
			return nil, unavailable(codeAbandoned)
		}
		return nil, unavailableBecause("keystone_busy", fmt.Errorf("%d other tokens are being asked about", keystoneSlots))
	}
	defer func() {
		<-c.slots
		if c.closed.Load() {
			c.transport.CloseIdleConnections()
		}
	}()
	body, err := c.validate(asking, token)
	if err != nil {
		if ctx.Err() != nil {
			return nil, unavailable(codeAbandoned)
		}
		return nil, refusalOf(err)
	}
	user, err := readToken(body)
	switch {
	case err != nil:
		return nil, unavailableBecause("keystone_unavailable", err)
	case user.bound:
		return nil, invalid("keystone_token_bound")
	case !time.Now().Before(user.expires):
		return nil, invalid("keystone_token_expired")
	}
	return user, nil
}

// validate gives the body of Keystone's answer. gophercloud's own
// tokens.Get asks for the catalog, too, which may be longer than all the rest.
func (c *keystoneClient) validate(ctx context.Context, token string) ([]byte, error) {
	response, err := c.service.Get(ctx, c.service.ServiceURL("auth", "tokens")+"?nocatalog", nil, &gophercloud.RequestOpts{
		MoreHeaders:      map[string]string{headerAuthToken: token, headerSubjectToken: token},
		OkCodes:          []int{http.StatusOK},
		KeepResponseBody: true,
	})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	// Something between that keeps answers might give another caller's.
	if subject := response.Header[headerSubjectToken]; len(subject) != 1 || subject[0] != token {
		return nil, errOtherSubject
	}
	return io.ReadAll(response.Body)
}

// What is wrong with an answer, in words that hold nothing of it: an answer may
// repeat the token.
var (
	errOtherSubject = errors.New("keystone's answer is about another token than the one that was asked about")
	errTooLong      = fmt.Errorf("keystone's answer is longer than %d bytes", maxKeystoneAnswer)
	errNotPermitted = errors.New("keystone does not let this token validate itself: its policy must allow identity:validate_token by rule:token_subject, as the default does; a token of a trust with impersonation is never allowed")
)

// refusalOf tells a token that is not valid from a Keystone that does not say.
// The error is gophercloud's or net/http's; its text is not shown, since it may
// hold the answer.
func refusalOf(err error) *decision.Refusal {
	var status gophercloud.ErrUnexpectedResponseCode
	var verify *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &status):
		switch status.Actual {
		case http.StatusUnauthorized, http.StatusNotFound:
			return invalid("keystone_token_invalid")
		case http.StatusForbidden:
			return unavailableBecause("keystone_not_permitted", errNotPermitted)
		}
		err = fmt.Errorf("keystone answered with status %d", status.Actual)
	case errors.Is(err, errTooLong):
		err = errTooLong
	case errors.Is(err, errOtherSubject):
		err = errOtherSubject
	case errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err):
		err = errors.New("keystone did not answer in time")
	case errors.As(err, &verify):
		err = fmt.Errorf("connecting to Keystone: %w", verify)
	case errors.As(err, &op):
		err = fmt.Errorf("connecting to Keystone: %w", op)
	default:
		err = errors.New("keystone's answer is cut or no HTTP")
	}
	return unavailableBecause("keystone_unavailable", err)
}

// boundedTransport bounds the length of every answer, which gophercloud reads
// whole.
type boundedTransport struct{ next http.RoundTripper }

// RoundTrip fulfils http.RoundTripper.
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err == nil {
		response.Body = &boundedBody{ReadCloser: response.Body, left: maxKeystoneAnswer}
	}
	return response, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// keystoneEndpoint is the base of all requests, with a slash at its end. The
// error does not show the address, in which a password may stand.
func keystoneEndpoint(address string) (string, error) {
	const advice = "it is Keystone's v3 endpoint, such as https://keystone.example:5000/v3"
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "", errors.New("url: " + advice)
	case u.User != nil:
		return "", errors.New("url: without a user: " + advice + "; the caller's token is all that is needed")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawPath != "":
		return "", errors.New("url: without a query, a fragment or anything encoded: " + advice)
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		return "", errors.New("url: it must be https, except on the loopback address: tokens would go over the network in the clear")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("url: the scheme is https: " + advice)
	}
	path := strings.TrimSuffix(u.Path, "/")
	switch {
	case path == "":
		path = "/v3"
	case !strings.HasSuffix(path, "/v3"):
		return "", errors.New("url: its path must end in /v3: " + advice)
	}
	return u.Scheme + "://" + u.Host + path + "/", nil
}
