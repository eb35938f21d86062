"""HTTP: sends a request, streams its reply, maps what goes wrong. The only room that knows aiohttp.

`processor.transport.settings` is light; import `processor.transport.http` only where something is sent.
"""
