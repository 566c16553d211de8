# SPDX-License-Identifier: Apache-2.0
"""What Nova's metadata API asks of Neutron: ports, security groups and subnets.

Instance n has the address 10.0.0.nn (n times 11), and instance 1 also 127.0.0.1.
"""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def port(address, digit):
    project = "b" * 12 + "4bbb8" + "b" * 15 if digit == "2" else "a" * 12 + "4aaa8" + "a" * 15
    device = "-".join([digit * 8, digit * 4, "4" + digit * 3, "8" + digit * 3, digit * 12])
    return {"id": "port-" + address, "device_id": device, "tenant_id": project, "security_groups": ["sg0"],
            "network_id": "net0", "fixed_ips": [{"ip_address": address}]}


PORTS = [port("10.0.0.%d" % (int(digit, 16) * 11), digit) for digit in "12345678abcdef"] + [port("127.0.0.1", "1")]


class Neutron(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "security-groups" in url.path:
            answer = {"security_groups": [{"id": "sg0", "name": "default"}]}
        elif "subnets" in url.path:  # only asked for X-Metadata-Provider; there is one provider, "p"
            answer = {"subnets": [{"network_id": "net0"}] if query.get("advanced_service_providers") == ["p"] else []}
        else:
            addresses = [value.removeprefix("ip_address=") for value in query.get("fixed_ips", [])]
            devices = query.get("device_id", [])
            answer = {"ports": [p for p in PORTS
                                if p["fixed_ips"][0]["ip_address"] in addresses or p["device_id"] in devices]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Neutron).serve_forever()
