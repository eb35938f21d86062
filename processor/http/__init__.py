"""HTTP transport: sends a request, reads its reply and maps errors. The only package that imports aiohttp for sending.

`processor.http.settings` imports no aiohttp; import `processor.http.client` only where something is sent.
"""
