"""`python -m roost.htchirp` is the command `condor_chirp`."""

from roost.htchirp.command import main

main()
