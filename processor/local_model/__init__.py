"""A language model that answers the jobs on this machine: ``--local MODEL.gguf``.

``server`` is the program of the child process that serves the model; ``child`` starts and ends that process;
``transport`` starts it once more where it dies. Only ``server`` imports xllamacpp (the extra ``local``).
"""
