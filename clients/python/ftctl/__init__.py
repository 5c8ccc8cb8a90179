"""The command line: `ftctl`. Data go to standard output, everything else to standard error."""
