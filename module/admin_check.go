// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policytool"
)

// checkPath is the endpoint that judges a described request. It shows how the
// policy judges, and so answers the owner only.
const checkPath = "/metaguard/check"

// maxDescribed bounds the description of a request, in bytes.
const maxDescribed = 64 << 10

// described is a request in words, as `metaguard policy eval` takes it, but for
// the site that it is sent to.
type described struct {
	// Site is where it is sent. Default: the only one that there is.
	Site string `json:"site"`
	// Caller is who sends it, as an identity source would say. A source that is not
	// named is the usual one for such a caller, if the site has it, or the site's
	// first.
	Caller *describedCaller `json:"caller"`
	// Address is where it comes from, in the place of Caller: the site's inventory
	// says who is there, or its source anonymous.
	Address string `json:"address"`
	// Method is GET unless it is said.
	Method string `json:"method"`
	// Path is as a client would spell it, with the query.
	Path string `json:"path"`
	// Host is that of a metadata server unless it is said.
	Host string `json:"host"`
	// Headers are the request's; none that identifies the caller.
	Headers map[string]string `json:"headers"`
	// Body is what its body looks like. Default: none.
	Body *policytool.Body `json:"body"`
	// SessionAge is how long ago a session began that is valid, such as 30s, where
	// the site has sessions. Default: no session.
	SessionAge string `json:"session_age"`
	// Target is the instance that it is about, and TargetProject its project.
	// Default: as the caller's source says.
	Target        string `json:"target"`
	TargetProject string `json:"target_project"`
}

// describedCaller is a caller with what its token or certificate claims.
type describedCaller struct {
	policytool.Caller
	Claims map[string]any `json:"claims"`
}

// checkAnswer says what would become of the request.
type checkAnswer struct {
	// Site is where it was judged.
	Site string `json:"site"`
	// Verdict and Reason are as in the decision log, and Code says more precisely
	// what was wrong.
	Verdict decision.Verdict `json:"verdict"`
	Reason  decision.Reason  `json:"reason"`
	Code    string           `json:"code,omitempty"`
	Error   string           `json:"error,omitempty"`
	// Outcome is forwarded, refused, empty (answered as an empty resource) or
	// answered (with a session token). What the legacy server would say, the limits,
	// and whether a password is set already, are not known here.
	Outcome outcome `json:"outcome"`
	// Status is what a client gets, and AgentStatus what one behind a trusted Neutron
	// agent gets; 0 is the legacy server's own.
	Status      int `json:"status,omitempty"`
	AgentStatus int `json:"agent_status,omitempty"`
	// Codes and Rules are the policy's, Redact is what it hides, and Revision which
	// policy it is. They are empty where it was not asked.
	Codes    []string         `json:"codes"`
	Rules    []string         `json:"rules"`
	Redact   *decision.Redact `json:"redact,omitempty"`
	Revision string           `json:"revision,omitempty"`
	// Input is the document that was judged; none where the policy was not asked.
	Input any `json:"input,omitempty"`
}

// serveCheck judges a described request.
func serveCheck(w http.ResponseWriter, r *http.Request) error {
	if err := onlyOwner(w, r, http.MethodPost); err != nil {
		return err
	}
	var asked described
	if err := readAdminBody(r.Body, maxDescribed, &asked); err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	h, err := app.siteByName(asked.Site)
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	x, err := h.describe(r.Context(), &asked)
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	answer, err := x.checked(x.check(&asked))
	if err != nil {
		return err
	}
	answer.Site = h.site
	return writeJSON(w, http.StatusOK, answer)
}
