"""Recognizes refusals of a key or its account, under whatever status they come, and what they hold for.

A wrong key, spent credit and a reached spending limit hold for the endpoint. A daily (weekly, monthly) limit holds for
the model: providers count it for each model, or for some models only. Sources are the pages on errors of the providers
named beside each entry.
"""

from __future__ import annotations

from processor.core.errors import Scope
from processor.core.lazy_pattern import LazyPattern
from processor.protocols.error_body import ErrorBody, objects_in

_ENDPOINT_CODES = frozenset(
    {
        # OpenAI
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "access_terminated",
        # Anthropic
        "billing_error",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "organization_on_hold",
        # one-api and its descendants
        "insufficient_user_quota",
        "insufficient_token_quota",
        "pre_consume_token_quota_failed",
        "quota_not_enough",
        # LiteLLM, Moonshot, Alibaba, Volcengine, Azure, Together
        "budget_exceeded",
        "exceeded_current_quota_error",
        "Arrearage",
        "AccountOverdueError",
        "QuotaExceeded",
        "credit_limit",
        "insufficient_balance",
        "insufficient_credits",
    }
)
_MODEL_CODES = frozenset({"AllocationQuota.FreeTierOnly", "request_quota_exceeded", "token_quota_exceeded"})
"""Alibaba, Cerebras."""
_KEY_CODES = frozenset(
    {
        "API_KEY_INVALID",
        "API_KEY_SERVICE_BLOCKED",
        "CONSUMER_SUSPENDED",
        "invalid_api_key",
        "incorrect_api_key",
        "expired_api_key",
        "InvalidApiKey",
        "invalid_authentication_error",
        "incorrect_api_key_error",
        "authentication_error",
        "AuthenticationError",
        "UNAUTHENTICATED",
    }
)
_WRONG_KEY = LazyPattern(
    r"(?i)\b(?:incorrect|invalid|wrong|expired|missing|no|unknown|malformed) (?:an )?api[ _-]?key\b(?! (?:for|in) tool)"
    r"|\bapi[ _-]?key (?:is |was |has been |has )?"
    r"(?:not valid|invalid|incorrect|expired|not found|missing|disabled|revoked|suspended|reported as leaked)\b"
    r"|\b(?:missing|invalid)(?: or \w+)? authorization header\b"
)
_SPENT = LazyPattern(
    r"(?i)\binsufficient[ _](?:account |user |your )?(?:balance|funds?|credits?|quota)\b"
    r"|\b(?:credit|account) balance is (?:too low|insufficient)\b"
    r"|\b(?:used|exhausted|consumed) all (?:of )?(?:your |its |the )?(?:available |included |free )?credits\b"
    r"|\b(?:credits?|balance|budget|spend(?:ing)? limit) (?:has |have )?(?:been |is |are )?"
    r"(?:exhausted|exceeded|reached)\b"
    r"|\b(?:exceeded|reached) (?:your |its |the )?(?:\w+ ){0,2}"
    r"(?:spend(?:ing)? limit|included credits|usage limits|budget)\b"
    r"|\bdoes not have any credits\b"
    r"|\b(?:credit|key) limit exceeded\b"
    r"|\bout of call volume quota\b"
    r"|\baccount (?:\S+ )?is (?:suspended|in arrears)\b"
    r"|余额不足|额度不足|额度已用尽|欠费"
)
_JOB_IS_TOO_DEAR = LazyPattern(r"(?i)\bcan only afford\b|\bfewer max_tokens\b")
"""OpenRouter: a cheaper job may still be paid for."""
_ACCOUNT_STATUSES = frozenset({400, 402, 403, 412, 429})

_DAILY = LazyPattern(
    r"(?i)(?P<long>(?:\bper[ _-]?|/ ?|\b(?:a|each|every) |per|by)(?:day|week|month)\b"
    r"|\bdaily\b|\bweekly\b|\bmonthly\b|\b[rt]pd\b|\bper 86400 ?s\b)"
    r"|(?:\bper[ _-]?|/ ?|\b(?:a|each|every) |per|by)(?:second|minute|min|hour|sec)\b|\b[rt]p[ms]\b|\bper 60 ?s\b"
)
"""The periods that limits are counted over: ``long`` ones, and those that are worth waiting for."""
_NOTHING_ALLOWED = LazyPattern(r"(?i)\bquota exceeded for metric\b.{0,200}?\blimit: 0\b")
"""Gemini, for a model that the account's plan does not hold."""


def is_wrong_key(status: int, error: ErrorBody) -> bool:
    """Whether the key is refused. Gemini and xAI say so with 400."""
    if status == 401:
        return True
    if status not in (400, 403, 404, 422):
        return False
    return not _KEY_CODES.isdisjoint(error.codes) or _WRONG_KEY.search(error.message) is not None


def spent_scope(status: int, error: ErrorBody) -> Scope | None:
    """What has no quota, credit or permission left, where the response says so; else None."""
    if not _ENDPOINT_CODES.isdisjoint(error.codes):
        return "endpoint"
    if not _MODEL_CODES.isdisjoint(error.codes):
        return "model"
    if status not in _ACCOUNT_STATUSES or _JOB_IS_TOO_DEAR.search(error.message):
        return None
    if _SPENT.search(error.message):
        return "endpoint"
    if status == 429 and (_exceeds_long_period(error) or _NOTHING_ALLOWED.search(error.message)):
        return "model"
    return None


def _exceeds_long_period(error: ErrorBody) -> bool:
    """Whether the limit that was reached is one of a day or more: by Google's quota names, else by the first period
    that the message names, since hints about other limits stand behind it."""
    quota_names = [
        violation["quotaId"]
        for detail in objects_in(error.error, "details")
        for violation in objects_in(detail, "violations")
        if isinstance(violation.get("quotaId"), str)
    ]
    if quota_names:
        return any("PerDay" in name or "PerMonth" in name for name in quota_names)
    found = _DAILY.search(error.message)
    return found is not None and found.group("long") is not None
