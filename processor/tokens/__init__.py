"""tiktoken with no network: how many tokens a request and its reply are. tiktoken is imported at first use."""
