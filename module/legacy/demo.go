// SPDX-License-Identifier: Apache-2.0

package legacy

import "encoding/base64"

// The projects of the demonstration instances.
const (
	projectA = "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa"
	projectB = "bbbbbbbbbbbb4bbb8bbbbbbbbbbbbbbb"
)

// demo gives the instances that are there when none is configured. The first
// has no password; the second one as long as a 2048-bit RSA result; the third
// has keys that only begin like a password's.
func demo() []Instance {
	all := make([]byte, 256)
	for n := range all {
		all[n] = byte(n)
	}
	long := base64.StdEncoding.EncodeToString(all) // 344 characters
	instances := []Instance{
		{
			ID: "11111111-1111-4111-8111-111111111111", Project: projectA, Name: "vm-nopass",
			Addresses: []string{"127.0.0.1", "10.0.0.11"},
		},
		{
			ID: "22222222-2222-4222-8222-222222222222", Project: projectB, Name: "vm-pass",
			Addresses: []string{"127.0.0.2", "10.0.0.22"},
			SystemMetadata: map[string]string{
				"password_0": long[:chunkLength], "password_1": long[chunkLength:], "password_2": "", "password_3": "",
			},
		},
		{
			ID: "33333333-3333-4333-8333-333333333333", Project: projectA, Name: "vm-extra",
			Addresses: []string{"127.0.0.3", "10.0.0.33"},
			SystemMetadata: map[string]string{
				"password_0": "[0]", "password_1": "[1]", "password_2": "[2]", "password_3": "[3]",
				"password_10": "[10]", "password_evil": "[evil]", "Password_9": "[upper]", "password_": "[bare]",
				"image_os_type": "linux",
			},
		},
	}
	for n := range instances {
		instances[n].UserData = "#cloud-config\n{}\n"
		instances[n].Meta = map[string]string{"role": "test"}
	}
	return instances
}
