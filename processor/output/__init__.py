"""Where results go. The results file is the journal: it decides which jobs are done."""
