"""HTTP: sends a request, streams its reply, maps what goes wrong. The only room that knows aiohttp.

`processor.http.settings` is light; import `processor.http.client` only where something is sent.
"""
