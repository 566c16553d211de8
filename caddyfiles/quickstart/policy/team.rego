# METADATA
# title: A team's own rules
# description: Nothing here changes the built-in policy yet. Uncomment the rule and save; it is live within two seconds.
package metaguard.team

# allow contains "console_reads_password" if {
# 	input.resource.kind == "password"
# 	input.resource.action == "read"
# 	input.caller.instance_id == "11111111-1111-4111-8111-111111111111"
# }
