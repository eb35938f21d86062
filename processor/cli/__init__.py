"""The command line: flags -> Plan -> run -> exit code."""
