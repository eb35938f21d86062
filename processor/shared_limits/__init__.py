"""One rate limiter, and one budget, for several sessions in processes of their own.

Each session reads, sends, retries and writes by itself; before each request it asks the limiter that all of them share.
``SharedLimiter`` (``shared_limiter``) is the session's end, a ``Limiter`` like any other. ``LimiterHost`` (``host``) is
the far end, with the real ``RateLimiter``. Between them pass groups of messages as bytes (``messages``), by the few
calls of a ``LimiterLink`` (``link``). What makes the calls is a binding: ``processor.ray`` between processes.

Each permit has a number that is never used again in its session. Where a session is lost, what it had in flight counts
as sent. Where the limiter is lost, the sessions open another one, and ask again for what they had not been granted.
"""
