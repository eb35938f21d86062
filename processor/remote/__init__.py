"""Files that are not on this machine, through fsspec: object stores, the Hugging Face hub, web servers."""
