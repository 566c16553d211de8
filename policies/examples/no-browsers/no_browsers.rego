# No browser has any business here. What renders pages inside an instance, a headless
# browser or a converter to PDF, follows links that others wrote, and those may
# lead to the metadata server. To it there is nothing.

package metaguard.team

# METADATA
# title: Browser
# description: Whatever a browser asks for is refused.
deny contains "browser" if _browser

# METADATA
# title: Status
# description: As if nothing were there.
status := 404 if _browser

# METADATA
# title: From a browser
# description: Every browser since 1993 calls itself Mozilla. A request without a user agent is not from one.
_browser if startswith(lower(input.request.headers["user-agent"]), "mozilla/")
