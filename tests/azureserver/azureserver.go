// SPDX-License-Identifier: Apache-2.0

// Package azureserver is Azure's Instance Metadata Service as Microsoft
// describes it, for tests: no real one can be had outside Azure. "Page" below is
// "Azure Instance Metadata Service" (MicrosoftDocs/azure-compute-docs,
// articles/virtual-machines/instance-metadata-service.md), and "OpenAPI" the
// service's document in Azure/azure-rest-api-specs, specification/imds/data-plane.
// instance.json is the page's sample of a Linux machine, with its network.
package azureserver

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Instance is the document of the instance.
//
//go:embed instance.json
var Instance string

// Token is the access token that everyone gets.
const Token = "eyJ0eXAiOiJKV1QiLCJhbGciOi.PLANTED-access-token"

// versions are some of the page's "Supported API versions", newest first.
var versions = []string{"2025-04-07", "2024-07-17", "2024-03-15", "2021-08-01", "2021-02-01", "2020-07-01", "2019-06-01", "2018-10-01", "2018-02-01"}

// Events is the page about scheduled events' sample of one.
const Events = `{"DocumentIncarnation":2,"Events":[{"EventId":"C7061BAC-AFDC-4513-B24B-AA5F13A16123","EventStatus":"Scheduled","EventType":"Freeze","ResourceType":"VirtualMachine","Resources":["WestNO_0","WestNO_1"],"NotBefore":"Mon, 11 Apr 2026 22:26:58 GMT","Description":"Virtual machine is being paused.","EventSource":"Platform","DurationInSeconds":5}]}`

// Answer is the script of a harness.Upstream.
func Answer(request string) string {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		return answer(http.StatusBadRequest, err.Error())
	}
	query := r.URL.Query()
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	// Page, "Security and authentication": both are rejected.
	case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
		return answer(http.StatusBadRequest, `{"error":"Bad request. Required metadata header not specified"}`)
	case len(r.Header.Values("X-Forwarded-For")) > 0:
		return answer(http.StatusBadRequest, `{"error":"Bad request. X-Forwarded-For header is not allowed"}`)
	// Page, "HTTP verbs"; the page about scheduled events, "Start an event".
	case r.Method != http.MethodGet && (r.Method != http.MethodPost || path != "/metadata/scheduledevents"):
		return answer(http.StatusMethodNotAllowed, `{"error":"Method not allowed"}`)
	// Page, "Query parameters".
	case slices.ContainsFunc(slices.Collect(maps.Values(query)), func(values []string) bool { return len(values) > 1 }):
		return answer(http.StatusBadRequest, `{"error":"Bad request. Duplicate query parameters"}`)
	// Page, "Versions".
	case path == "/metadata/versions":
		return document(map[string]any{"apiVersions": versions})
	// Page, "Versioning".
	case !slices.Contains(versions, query.Get("api-version")):
		text, _ := json.Marshal(map[string]any{
			"error":           "Bad request. api-version is invalid or was not specified in the request. For more information refer to aka.ms/azureimds",
			"newest-versions": versions[:3],
		})
		return answer(http.StatusBadRequest, string(text))
	}
	if below, found := strings.CutPrefix(path, "/metadata/instance"); found && (below == "" || below[0] == '/') {
		return instance(below, query)
	}
	switch path {
	case "/metadata/identity/oauth2/token":
		return token(query)
	case "/metadata/identity/info": // OpenAPI, IdentityInfoResponse
		return answer(http.StatusOK, `{"tenantId":"72f988bf-86f1-41af-91ab-2d7cd011db47"}`)
	case "/metadata/attested/document": // Page, "Get Attested data"
		return answer(http.StatusOK, `{"encoding":"pkcs7","signature":"MIIEEgYJKoZIhvcNAQcCoIIEAzCCA-PLANTED-`+query.Get("nonce")+`"}`)
	case "/metadata/loadbalancer": // the page howto-load-balancer-imds
		return answer(http.StatusOK, `{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"51.0.0.1","privateIpAddress":"10.1.0.4"}],"inboundRules":[],"outboundRules":[]}}`)
	case "/metadata/scheduledevents":
		if r.Method == http.MethodPost {
			return approve(r.Body)
		}
		return answer(http.StatusOK, Events)
	}
	return answer(http.StatusNotFound, `{"error":"Not found"}`) // Page, "Errors and debugging"
}

// instance walks down the document (page, "Route parameters").
func instance(below string, query url.Values) string {
	at := json.RawMessage(Instance)
	if query.Get("extended") != "true" { // cloud-init, _get_metadata_from_imds; not on the page
		var members map[string]json.RawMessage
		_ = json.Unmarshal(at, &members)
		delete(members, "extended")
		at, _ = json.Marshal(members)
	}
	for _, name := range strings.FieldsFunc(below, func(r rune) bool { return r == '/' }) {
		next, found := children(at)[name]
		if !found {
			return answer(http.StatusNotFound, `{"error":"Not found"}`)
		}
		at = next
	}
	nodes, text := children(at), query.Get("format") == "text"
	var value string
	switch {
	case nodes != nil && !text:
		return answer(http.StatusOK, string(at))
	case nodes != nil:
		// The author of the service shows a listing as "compute/", "network/"
		// (blog.bonggeek.com/2017/09/azure-instance-metadata-service.html).
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(nodes)) {
			if children(nodes[name]) != nil {
				name += "/"
			}
			lines = append(lines, name)
		}
		return plain(strings.Join(lines, "\n"))
	case !text: // Page, "Route parameters", the note: a leaf needs format=text
		return answer(http.StatusBadRequest, `{"error":"Bad request. Missing parameter format=text"}`)
	case json.Unmarshal(at, &value) != nil:
		value = string(at)
	}
	return plain(value)
}

// children gives the members of an object or the elements of an array by their
// index; nil for a value.
func children(of json.RawMessage) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(of, &members) == nil {
		return members
	}
	var elements []json.RawMessage
	if json.Unmarshal(of, &elements) != nil {
		return nil
	}
	members = make(map[string]json.RawMessage)
	for i, element := range elements {
		members[fmt.Sprint(i)] = element
	}
	return members
}

// token is OpenAPI's Identity_GetToken, and the answers of the page
// how-to-use-vm-token ("Error handling").
func token(query url.Values) string {
	if query.Get("resource") == "" {
		return answer(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Required query variable 'resource' is missing"}`)
	}
	if id := query.Get("client_id"); id != "" && id != "22222222-0000-4000-8000-000000000000" {
		return answer(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Identity not found"}`)
	}
	return document(map[string]string{
		"access_token": Token, "client_id": "22222222-0000-4000-8000-000000000000", "expires_in": "86400", "expires_on": "4102444800",
		"ext_expires_in": "86399", "not_before": "1506484173", "resource": query.Get("resource"), "token_type": "Bearer",
	})
}

// approve takes a list of events to start ("Start an event").
func approve(body io.Reader) string {
	var asked struct{ StartRequests []struct{ EventID string } }
	text, _ := io.ReadAll(body)
	if json.Unmarshal(text, &asked) != nil || len(asked.StartRequests) == 0 {
		return answer(http.StatusBadRequest, `{"error":"malformed payload"}`)
	}
	return answer(http.StatusOK, "")
}

func document(of any) string {
	text, _ := json.Marshal(of)
	return answer(http.StatusOK, string(text))
}

func plain(text string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nServer: IMDS/150.870.65.1854\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

func answer(status int, text string) string {
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\nServer: IMDS/150.870.65.1854\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(text), text)
}
