"""Rate limiting: `RateLimiter` grants a `Permit` for each request; see ``docs/rate-limiting.md``."""
