"""Token counting with tiktoken, without network. tiktoken is imported at first use."""
