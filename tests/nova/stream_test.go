// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// TestStreamThroughAgent streams large user data through Neutron's agent, whose
// HTTP library takes a body that is shorter than its length for whole: what
// broke off must not be a 200 there.
func TestStreamThroughAgent(t *testing.T) {
	t.Parallel()
	need(t)
	large := strings.Repeat("0123456789abcdef", 20_000)
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK(large) })
	g := guardBefore(t, upstream.Address, setup{
		identify: "identify neutron {\n\t\t\tsecret {env.METAGUARD_NEUTRON_SECRET}\n\t\t}\n\t\tresponse {\n\t\t\tmax_buffer 4KiB\n\t\t\toverflow stream\n\t\t}",
	})
	agent := agentBefore(t, g.address)
	ask := func() reply {
		return send(t, address(lifeOfAgent), agent.address, request("GET", "/openstack/latest/user_data", nil, nil))
	}
	if got := ask(); got.status != 200 || got.body != large {
		t.Errorf("whole: %d with %d bytes", got.status, len(got.body))
	}
	upstream.Script(func(string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(large), large[1:])
	})
	if got := ask(); got.status == 200 {
		t.Errorf("what broke off is a 200 with %d bytes", len(got.body))
	}
}
